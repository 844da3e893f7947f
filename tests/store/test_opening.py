"""Which files may become a store, and what is said of the others, byte for byte untouched."""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmexp.core.errors import (
    CorruptStoreError,
    ForeignStoreError,
    NewerStoreError,
    StoreError,
    UnwritableStoreError,
)
from pytest_llmexp.store import open_store
from pytest_llmexp.store import sqlite as sqlite_module
from tests.store.examples import call, experiment, run

LLAMABOT = """
CREATE TABLE message_log (id INTEGER PRIMARY KEY, object_name TEXT, timestamp TEXT, message_log TEXT,
                          model_name TEXT, temperature FLOAT);
CREATE TABLE prompts (id INTEGER PRIMARY KEY, hash TEXT, template TEXT, function_name TEXT);
CREATE TABLE runs (id INTEGER PRIMARY KEY, experiment_name TEXT, timestamp TEXT, run_metadata TEXT);
CREATE TABLE spans (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL);
INSERT INTO alembic_version VALUES ('deadbeef');
INSERT INTO message_log (object_name, message_log) VALUES ('bot', '[{"role": "user", "content": "hi"}]');
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "message_log.db"


def _script(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(sql)
    connection.close()


def _make(path: Path) -> None:
    store = open_store(path, create=True)
    store.write([experiment(), run(), *(call(f"call_{n:03}", response="x" * 2000) for n in range(200))])
    store.close()


def test_a_missing_file_is_made_only_when_asked(path: Path) -> None:
    for read_only in (False, True):
        with pytest.raises(StoreError, match="there is no store at"):
            open_store(path, read_only=read_only)
    assert list(path.parent.iterdir()) == []
    open_store(path, create=True).close()
    open_store(path).close()


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreError, match="no schema yet"):
        open_store(path)
    open_store(path, create=True).close()
    open_store(path).close()


@pytest.mark.parametrize("write", ["sqlite:///{}", "sqlite+pysqlite:///{}", "{}"])
def test_urls_and_paths_name_the_same_file(path: Path, write: str) -> None:
    store = open_store(write.format(path), create=True)
    assert store.path == path
    assert store.url == f"sqlite:///{path}"
    store.close()


@pytest.mark.parametrize("name", ["per%20cent%.db", "què st?ion.db", "has#hash.db", "a&b=c;d.db", "spa ce.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    store = open_store(tmp_path / name, create=True)
    store.write([experiment()])
    store.close()
    reader = open_store(tmp_path / name, read_only=True)
    assert reader.experiments() == [experiment()]
    reader.close()
    assert {each.name for each in tmp_path.iterdir()} <= {name + end for end in ("", ".lock", "-wal", "-shm")}


def test_a_link_leads_to_the_same_lock(path: Path, tmp_path: Path) -> None:
    _make(path)
    link = tmp_path / "link.db"
    link.symlink_to(path)
    store = open_store(link)
    assert store.path == path
    store.close()
    assert not (tmp_path / "link.db.lock").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://me:hunter2hunter2@db/x", "PostgreSQL is not available in this version"),
        ("postgresql://me:hunter2hunter2@db/x", "PostgreSQL is not available"),
        ("mysql://me:hunter2hunter2@db/x", "is no store"),
        ("sqlite://", "is no store"),
        ("sqlite:///:memory:", "is no store"),
    ],
)
def test_other_databases_are_refused_without_showing_the_password(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        open_store(url, create=True)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"hello, this is a text file\n" * 99, b"SQLite format 3\x00" + b"\xff" * 5000, b"S"]
)
def test_a_file_that_is_no_database_stays_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for create, read_only in ((True, False), (False, False), (False, True)):
        with pytest.raises(CorruptStoreError, match=r"llmexp doctor .*message_log\.db"):
            open_store(path, create=create, read_only=read_only)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_truncated_store_stays_as_it_is(path: Path) -> None:
    _make(path)
    content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(CorruptStoreError, match="llmexp doctor"):
        open_store(path, create=True)
    assert path.read_bytes() == content


def test_damage_in_the_middle_is_found_after_a_crash(path: Path, tmp_path: Path) -> None:
    _make(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 8192 * 8192
    content[middle : middle + 8192] = b"\x5a" * 8192
    path.write_bytes(content)
    wal = tmp_path / "message_log.db-wal"
    wal.write_bytes(b"left by a killed process")
    with pytest.raises(CorruptStoreError, match="llmexp doctor"):
        open_store(path, create=True)
    assert path.read_bytes() == content


def test_a_file_of_another_program_stays_as_it_is(path: Path) -> None:
    _script(path, "CREATE TABLE customers (id); CREATE TABLE runs (id); INSERT INTO customers VALUES (1)")
    content = path.read_bytes()
    for create, read_only in ((True, False), (False, False), (False, True)):
        with pytest.raises(ForeignStoreError, match=r"tables customers, runs|tables customers\).*--experiment-db"):
            open_store(path, create=create, read_only=read_only)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_file_of_llamabot_gets_our_tables_beside_its_own(path: Path) -> None:
    _script(path, LLAMABOT)
    store = open_store(path, create=True)
    store.write([experiment()])
    assert store.experiments() == [experiment()]
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT object_name FROM message_log").fetchall() == [("bot",)]
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("deadbeef",)]
    connection.close()


def test_a_newer_store_is_named_with_both_versions_and_stays_as_it_is(path: Path) -> None:
    _make(path)
    _script(path, "UPDATE llmexp_version SET version_num = '0099'")
    content = path.read_bytes()
    for create, read_only in ((True, False), (False, False), (False, True)):
        with pytest.raises(NewerStoreError, match=r"0099.*0004"):
            open_store(path, create=create, read_only=read_only)
    assert path.read_bytes() == content


def test_places_that_cannot_hold_a_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    places = [tmp_path, tmp_path / "file" / "m.db", tmp_path / "none" / "m.db", Path("/dev/null")]
    for place in places:
        with pytest.raises(UnwritableStoreError) as caught:
            open_store(place, create=True)
        assert str(place) in str(caught.value)
        assert "--experiment-db" in str(caught.value)


AS_NOBODY = """
import os, sys
import sqlalchemy.dialects.sqlite
from pytest_llmexp.store import open_store
from pytest_llmexp.core.errors import LlmexpError
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    store = open_store(sys.argv[1], **{name: True for name in sys.argv[2:]})
    print(len(store.calls("exp_1")), *store.warnings)
    store.close()
except LlmexpError as error:
    print(type(error).__name__, error)
"""


def _as_nobody(path: Path, *flags: str) -> str:
    """Open a store as a user with few rights; the user who runs the tests may be root, whom no mode stops."""
    command = [sys.executable, "-c", AS_NOBODY, str(path), *flags]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that other users can reach and read, but not write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def test_a_read_only_folder_is_refused_for_writing(shared: Path) -> None:
    shared.chmod(0o555)
    assert _as_nobody(shared / "m.db", "create").startswith(f"UnwritableStoreError {shared} cannot be written")


def test_a_read_only_file_is_refused_for_writing_and_can_be_read(shared: Path) -> None:
    _make(shared / "m.db")
    (shared / "m.db").chmod(0o444)
    shared.chmod(0o555)
    assert _as_nobody(shared / "m.db").startswith("UnwritableStoreError")
    count, _, warning = _as_nobody(shared / "m.db", "read_only").partition(" ")
    assert count == "200"
    assert "cannot be written" in warning


def test_a_file_that_may_not_be_read_is_named(shared: Path) -> None:
    _make(shared / "m.db")
    (shared / "m.db").chmod(0o000)
    shared.chmod(0o555)
    told = _as_nobody(shared / "m.db", "read_only")
    assert told.startswith(f"StoreError {shared / 'm.db'} cannot be read")


def test_a_store_opened_for_reading_changes_nothing(path: Path) -> None:
    _make(path)
    content = path.read_bytes()
    store = open_store(path, read_only=True)
    assert len(store.calls("exp_1")) == 200
    with pytest.raises(UnwritableStoreError, match="opened for reading"):
        store.write([experiment()])
    store.close()
    assert path.read_bytes() == content


def test_a_reader_sees_what_a_writer_commits_meanwhile(path: Path) -> None:
    writer = open_store(path, create=True)
    reader = open_store(path, read_only=True)
    writer.write([experiment()])
    assert reader.experiments() == [experiment()]
    writer.close()
    assert reader.experiments() == [experiment()]
    reader.close()


@pytest.mark.parametrize(("synchronous", "number"), [("normal", 1), ("full", 2)])
def test_settings_are_in_force(path: Path, synchronous: sqlite_module.Synchronous, number: int) -> None:
    store = open_store(path, create=True, synchronous=synchronous)
    with store._connections.reading() as connection:
        ask = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "foreign_keys")}
        ask["journal_mode"] = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        ask["busy_timeout"] = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
    store.close()
    assert ask == {"synchronous": number, "foreign_keys": 1, "journal_mode": "wal", "busy_timeout": 30_000}
    assert store.warnings == []


def test_where_wal_cannot_be_had_the_store_says_so_and_is_safe_all_the_same(path: Path) -> None:
    _script(path, LLAMABOT)
    other = sqlite3.connect(path, isolation_level=None)  # another program keeps its mode in force
    other.execute("BEGIN")
    other.execute("SELECT * FROM message_log").fetchall()
    connection = sqlite_module.connect(path, "normal")
    assert sqlite_module.switch_to_wal(connection) == "delete"
    connection.close()
    other.close()


def test_the_last_close_leaves_one_file_and_its_lock(path: Path) -> None:
    _make(path)
    assert sorted(each.name for each in path.parent.iterdir()) == ["message_log.db", "message_log.db.lock"]


def test_a_file_removed_while_in_use_is_noticed(path: Path) -> None:
    store = open_store(path, create=True)
    path.unlink()
    with pytest.raises(StoreError, match="removed or replaced"):
        store.write([experiment()])
    store.close()


def test_a_removed_lock_file_comes_back(path: Path) -> None:
    store = open_store(path, create=True)
    Path(f"{path}.lock").unlink()
    store.write([experiment()])
    assert Path(f"{path}.lock").exists()
    store.close()


def test_a_copied_store_opens(path: Path, tmp_path: Path) -> None:
    _make(path)
    shutil.copy(path, tmp_path / "copy.db")
    store = open_store(tmp_path / "copy.db")
    assert len(store.calls("exp_1")) == 200
    store.close()
