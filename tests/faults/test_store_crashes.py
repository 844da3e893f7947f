"""What is committed survives the process that committed it, and a full disk."""

import random
import sqlite3
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_llmexp.store import diagnose, open_store
from tests.faults.processes import Process
from tests.faults.store_processes import answer
from tests.store.examples import experiment, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "message_log.db"
    store = open_store(path, create=True)
    store.write([experiment(), run()])
    store.close()
    return path


def test_what_was_acknowledged_survives_kill_9_of_its_process_and_is_whole(path: Path) -> None:
    chance = random.Random(20260131)
    acknowledged: set[str] = set()
    for turn in range(4):
        with ExitStack() as stack:
            writers = [stack.enter_context(Process("write_for_ever", path, f"{turn}{n}")) for n in range(4)]
            for writer in writers:
                acknowledged |= {writer.hear() for _ in range(chance.randint(1, 40))}
            for writer in writers:  # some of them while others are still writing
                told = writer.after_kill()
                acknowledged |= set(told)
    store = open_store(path, create=True)
    calls = {each.id: each for each in store.calls("exp_1")}
    runs = {each.id for each in store.runs("exp_1")}
    metrics = {each.run_id for each in store.metrics("exp_1")}
    store.close()
    assert len(acknowledged) > 16
    assert acknowledged <= calls.keys()
    assert all(each.response == answer(name) and each.error == name for name, each in calls.items())
    assert runs - {"run_1"} == metrics == {each.run_id for each in calls.values()}  # each triple is whole
    assert diagnose(path).damage == ()


def test_a_full_disk_is_named_loses_nothing_and_can_be_gone_on_with(path: Path) -> None:
    with Process("fill_the_disk", path, 600_000) as process:
        lines = process.rest()
    errors = [line for line in lines if line.startswith("error:")]
    written = [line for line in lines if not line.startswith("error:")]
    assert len(errors) == 1
    assert "error: StoreError" in errors[0]
    assert str(path) in errors[0]
    assert "disk" in errors[0]
    assert written[-1] == "after-000000"
    store = open_store(path, create=True)
    assert [each.id for each in store.calls("exp_1")] == sorted(written)
    assert all(each.response == answer(each.id) for each in store.calls("exp_1"))
    store.close()


def test_a_store_left_open_by_a_killed_process_needs_no_repair(path: Path) -> None:
    with Process("write_for_ever", path, "w") as process:
        names = [process.hear() for _ in range(3)]
        names += process.after_kill()
    assert path.with_name("message_log.db-wal").exists()
    reader = open_store(path, read_only=True)
    assert set(names) <= {each.id for each in reader.calls("exp_1")}
    reader.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
