"""Many processes, one file: one schema, no error, no lost row, and never two writers at once."""

import itertools
import sqlite3
from contextlib import ExitStack
from pathlib import Path

from pytest_llmexp.store import open_store
from pytest_llmexp.store.migration import migrate
from pytest_llmexp.store.sqlite import create_private, make_engine
from tests.faults.processes import Process
from tests.store.examples import experiment, run


def _open_at_once(path: Path, count: int) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(Process("open_fresh", path)) for _ in range(count)]
        for process in processes:
            process.go()
        for process in processes:
            assert process.rest() == ["opened"]
    store = open_store(path)
    assert len(store.experiments()) == count
    store.close()


def test_16_processes_open_a_fresh_file_at_once(tmp_path: Path) -> None:
    _open_at_once(tmp_path / "message_log.db", 16)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["message_log.db", "message_log.db.lock"]


def test_8_processes_open_an_older_file_at_once_and_back_it_up_once(tmp_path: Path) -> None:
    path = tmp_path / "message_log.db"
    create_private(path)
    engine = make_engine(path, "normal")
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        migrate(connection, "0001")
        connection.commit()
    engine.dispose()
    _open_at_once(path, 8)
    assert [each.name for each in tmp_path.glob("*backup*")] == ["message_log.db.backup-0001"]


def test_8_processes_write_without_error_or_loss_and_never_at_the_same_time(tmp_path: Path) -> None:
    path, writers, each_writes = tmp_path / "message_log.db", 8, 60
    store = open_store(path, create=True)
    store.write([experiment(), run()])
    with ExitStack() as stack:
        processes = [stack.enter_context(Process("write_some", path, n, each_writes)) for n in range(writers)]
        for process in processes:
            assert process.hear() == "ready"
        for process in processes:
            process.go()
        spans = sorted(tuple(map(int, line.split())) for process in processes for line in process.rest())
    assert len(store.calls("exp_1")) == writers * each_writes
    store.close()
    assert len(spans) > writers * each_writes
    for (_, end), (begin, _) in itertools.pairwise(spans):
        assert end <= begin
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_opening_a_file_twice_leaves_the_locks_of_the_first_opening_in_place(tmp_path: Path) -> None:
    path = tmp_path / "message_log.db"
    first = open_store(path, create=True)
    first.write([experiment(), run()])
    reader = open_store(path, read_only=True)
    open_store(path, create=True).close()  # a file closed in passing would end the locks of this process
    for n in range(3):
        with Process("write_some", path, n, 20) as process:
            assert process.hear() == "ready"
            process.go()
            process.rest()
        assert len(reader.calls("exp_1")) == len(first.calls("exp_1")) == 20 * (n + 1)
        late = open_store(path, read_only=True)
        assert len(late.calls("exp_1")) == 20 * (n + 1)
        late.close()
    first.close()
    reader.close()
