"""R6, R7, R8: a store that cannot be used is a usage error before any call, and the file stays as it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pytest_llmexp.store import open_store
from tests.conftest import Suite

ONE_RUN = """
    import pathlib, pytest
    @pytest.mark.experiment(n=1)
    def test_x(): pathlib.Path("executed").touch()
"""


def text_file(path: Path) -> None:
    path.write_text("not a database\n" * 100)


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE shop (id INTEGER)")
    connection.commit()
    connection.close()


def newer(path: Path) -> None:
    open_store(path, create=True).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE llmexp_version SET version_num = '9999'")
    connection.commit()
    connection.close()


def damaged(path: Path) -> None:
    open_store(path, create=True).close()
    content = bytearray(path.read_bytes())
    content[100:400] = b"\xff" * 300
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (text_file, "llmexp doctor"),
        (foreign, "belongs to another program (it has the tables shop)"),
        (newer, "schema version 9999, this package knows up to"),
        (damaged, "llmexp doctor"),
    ],
)
def test_the_session_is_refused_and_the_file_untouched(suite: Suite, make: object, says: str) -> None:
    suite.write(ONE_RUN)
    path = suite.path / "message_log.db"
    make(path)  # type: ignore[operator]
    before = path.read_bytes()
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert says in result.stderr.str()
    assert str(path) in result.stderr.str()
    assert path.read_bytes() == before
    assert not (suite.path / "executed").exists()


def test_an_unwritable_place_is_named(suite: Suite) -> None:
    suite.write(ONE_RUN)
    (suite.path / "file").write_text("no folder")
    result = suite.run("--experiment-db=file/message_log.db")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "file/message_log.db" in result.stderr.str()
    assert not (suite.path / "executed").exists()


def test_an_older_store_is_backed_up_migrated_and_used(suite: Suite) -> None:
    from pytest_llmexp.store.migration import migrate
    from pytest_llmexp.store.sqlite import create_private, make_engine

    suite.write(ONE_RUN)
    path = suite.path / "message_log.db"
    create_private(path)
    engine = make_engine(path, "normal")
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        migrate(connection, "0001")
        connection.commit()
    engine.dispose()
    suite.run().assert_outcomes(passed=1)
    assert (suite.path / "message_log.db.backup-0001").exists()
    assert len(suite.store().experiments()) == 1


def test_a_llamabot_file_is_shared_and_its_rows_untouched(suite: Suite) -> None:
    suite.write(ONE_RUN)
    path = suite.path / "message_log.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE message_log (id INTEGER PRIMARY KEY, object_name TEXT, message_log TEXT)")
    connection.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, run_data TEXT)")
    connection.execute("INSERT INTO message_log VALUES (1, 'bot', '[]')")
    connection.commit()
    connection.close()
    suite.run().assert_outcomes(passed=1)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT * FROM message_log").fetchall() == [(1, "bot", "[]")]
    assert connection.execute("SELECT count(*) FROM experiment_runs").fetchone() == (1,)
    connection.close()


def test_records_that_cannot_be_stored_make_gates_undecided_not_passed(suite: Suite) -> None:
    suite.write("""
        import pathlib, pytest
        from pytest_llmexp.tracking.scope import current_run
        @pytest.mark.experiment(n=3, gates=["pass_rate >= 0.3"])
        def test_x(experiment_run, record_metric):
            if experiment_run.index == 2:  # the file is gone: what comes now is lost
                pathlib.Path("message_log.db").rename("moved.db")
                record_metric("x", 1)
                recorder = current_run().experiment
                recorder.settle(recorder.put())
                pathlib.Path("moved.db").rename("message_log.db")
    """)
    result = suite.run("--experiment-concurrency=1", new_process=True)
    result.stdout.fnmatch_lines(["NOT RECORDED*message_log.db*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    store = suite.store()
    (verdict,) = store.verdicts(store.experiments()[0].id)
    assert verdict.verdict == "undecided"


@pytest.mark.parametrize("concurrency", ["1", "32"])
def test_a_killed_session_keeps_every_call_that_returned(suite: Suite, concurrency: str) -> None:
    suite.write("""
        import os, pathlib, pytest, signal
        @pytest.mark.experiment(n=5)
        def test_x(bot, experiment_run, record_metric):
            bot("You.")("Hello")
            record_metric("index", experiment_run.index)
            with open("returned", "a") as file: file.write(str(experiment_run.index))
            if experiment_run.index == 4: os.kill(os.getpid(), signal.SIGKILL)
    """)
    suite.run(f"--experiment-concurrency={concurrency}", new_process=True)
    store = suite.store()
    experiment = store.experiments()[0]
    calls = store.calls(experiment.id)
    returned = (suite.path / "returned").read_text()
    answered = {call.run_id for call in calls if call.status == "ok"}
    ended = {run.run_index: run.status for run in store.runs(experiment.id) if run.id in answered}
    assert len(answered) >= len(returned)
    assert "4" in returned
    assert all(ended[int(index)] in ("passed", "running") for index in returned)
    assert ended[4] == "running"
    assert all(call.response["choices"] for call in calls if call.status == "ok")
    assert experiment.status == "running"
