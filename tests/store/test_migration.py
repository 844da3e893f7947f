"""An older store becomes a current one: all or nothing, after a backup, and equal to a new one."""

import re
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from pytest_llmexp.core.errors import StoreError
from pytest_llmexp.store import migration, open_store, schema
from pytest_llmexp.store.sqlite import create_private, make_engine
from tests.store.examples import call, experiment, metric, run
from tests.store.test_opening import LLAMABOT


def _old_store(path: Path, version: str = "0001") -> None:
    """Make a store as an older version of this package left it."""
    create_private(path)
    _migrate(path, version)
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO experiments (id, name, status, started_at, command, python_version, platform, packages, tags, "
        "metadata, model_source) VALUES ('exp_1', 'old', 'finished', '2025', '', '', '', '{}', '{}', '{}', '')"
    )
    connection.commit()
    connection.close()


def _migrate(path: Path, target: str) -> None:
    engine = make_engine(path, "normal")
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        migration.migrate(connection, target)
        connection.commit()
    engine.dispose()


def _schema_of(path: Path) -> set[tuple[str, str, str, str]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master").fetchall()
    connection.close()
    return {(kind, name, table, re.sub(r"\s+", " ", sql).strip()) for kind, name, table, sql in rows}


def test_the_known_versions_are_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(migration.MIGRATIONS))
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(revisions)) == schema.VERSIONS


def test_a_migrated_store_is_made_as_a_new_one(tmp_path: Path) -> None:
    open_store(tmp_path / "new.db", create=True).close()
    create_private(tmp_path / "old.db")
    _migrate(tmp_path / "old.db", "head")
    assert _schema_of(tmp_path / "old.db") == _schema_of(tmp_path / "new.db")


def test_alembic_finds_no_difference_between_the_tables_and_the_migrations(tmp_path: Path) -> None:
    create_private(tmp_path / "m.db")
    _migrate(tmp_path / "m.db", "head")
    engine = make_engine(tmp_path / "m.db", "normal")
    with engine.connect() as connection, warnings.catch_warnings():
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


def test_an_older_store_is_backed_up_and_migrated(tmp_path: Path) -> None:
    path, backup = tmp_path / "m.db", tmp_path / "m.db.backup-0001"
    _old_store(path)
    with pytest.raises(StoreError, match="0001, older than 0004"):
        open_store(path)
    with pytest.raises(StoreError, match="0001, older than 0004"):
        open_store(path, read_only=True)
    assert not backup.exists()
    store = open_store(path, create=True)
    assert store.experiment("old").started_at == "2025"
    store.write([run(), metric()])
    with store._connections.reading() as connection:
        assert connection.exec_driver_sql("SELECT experiment, metric, value FROM run_metrics").all() == [
            ("old", "m", 1.0)
        ]
    store.close()
    assert backup.stat().st_mode & 0o777 == 0o600
    assert ("view", "run_metrics") not in {row[:2] for row in _schema_of(backup)}
    connection_to_backup = sqlite3.connect(backup)
    assert connection_to_backup.execute("SELECT name FROM experiments").fetchall() == [("old",)]
    connection_to_backup.close()
    open_store(path, create=True).close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.db", "m.db.backup-0001", "m.db.lock"]


def test_a_backup_is_never_overwritten(tmp_path: Path) -> None:
    _old_store(tmp_path / "m.db")
    (tmp_path / "m.db.backup-0001").write_text("precious")
    open_store(tmp_path / "m.db", create=True).close()
    assert (tmp_path / "m.db.backup-0001").read_text() == "precious"
    assert (tmp_path / "m.db.backup-0001-2").exists()


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    _old_store(path)
    connection = sqlite3.connect(path)
    connection.execute("CREATE VIEW metric_summary AS SELECT 1")  # in the way of the second of two statements
    connection.commit()
    connection.close()
    before = _schema_of(path)
    with pytest.raises(StoreError, match="metric_summary"):
        open_store(path, create=True)
    assert _schema_of(path) == before


def test_llamabots_own_alembic_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    connection = sqlite3.connect(path)
    connection.executescript(LLAMABOT)
    connection.close()
    _old_store(path)
    open_store(path, create=True).close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("deadbeef",)]
    assert connection.execute("SELECT version_num FROM llmexp_version").fetchall() == [("0004",)]
    connection.close()


def test_views_show_runs_beside_their_metrics_and_summaries_with_their_experiment(tmp_path: Path) -> None:
    store = open_store(tmp_path / "m.db", create=True)
    store.write([experiment(), run(params={"t": 0.5}), run("run_2"), metric("a"), metric("b", 2.0)])
    with store._connections.reading() as connection:
        rows = connection.exec_driver_sql("SELECT run_id, params, metric, value FROM run_metrics ORDER BY 1, 3").all()
        assert connection.exec_driver_sql("SELECT * FROM metric_summary").all() == []
    store.close()
    assert [tuple(row) for row in rows] == [
        ("run_1", '{"t":0.5}', "a", 1.0),
        ("run_1", '{"t":0.5}', "b", 2.0),
        ("run_2", "{}", None, None),
    ]


def test_alembic_is_imported_only_to_migrate(tmp_path: Path) -> None:
    script = (
        "import sys; from pytest_llmexp.store import open_store; "
        "open_store(sys.argv[1], create=True).close(); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "m.db")], check=True)


def test_the_package_and_the_writer_import_no_sqlalchemy() -> None:
    script = "import sys; from pytest_llmexp.store import Writer; assert 'sqlalchemy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_calls_and_what_people_said_of_them_outlive_the_move_to_a_wider_table(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    _old_store(path, "0003")
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO calls (id, experiment_id, ordinal, role, endpoint, status, attempts, started_at, cached_tokens, "
        "request_key, request, response) VALUES ('call_1', 'exp_1', 7, 'generation', 'e', 'ok', 2, 't', 3, 'k', "
        "'[1]', '[2]')"
    )
    connection.execute(
        "INSERT INTO annotations (id, call_id, author, name, comment, created_at) "
        "VALUES ('note_1', 'call_1', 'ada', 'good', 'yes', 't')"
    )
    connection.commit()
    connection.close()
    with open_store(path, create=True) as store:
        (moved,) = store.calls("exp_1")
        (note,) = store.annotations("exp_1")
    assert moved == call(
        run_id=None,
        ordinal=7,
        endpoint="e",
        status="ok",
        attempts=2,
        started_at="t",
        cached_tokens=3,
        request_key="k",
        request=[1],
        response=[2],
    )
    assert (note.call_id, note.comment) == ("call_1", "yes")
