"""The writer thread: one commit for what is waiting, an answer for every put, and a fresh start after a fork."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llmexp.core.errors import RecordingError, StoreError
from pytest_llmexp.core.models import Record
from pytest_llmexp.store import Store, Writer, open_store
from tests.store.examples import call, experiment, metric, run


class _SlowStore:
    """A store that writes when it is told to, and remembers what came in one write."""

    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.closed = 0

    def write(self, records: Iterable[Record]) -> None:
        self.started.release()
        self.go.acquire()
        self.batches.append(list(records))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "message_log.db"
    store = open_store(path, create=True)
    store.write([experiment(), run()])
    store.close()
    return path


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    writer = Writer(lambda: open_store(path))
    yield writer
    assert writer.close(30)


def _stored(path: Path) -> list[str]:
    store = open_store(path, read_only=True)
    ids = [each.id for each in store.calls("exp_1")]
    store.close()
    return ids


def _writer_over(open: Callable[[], Any]) -> Writer:
    return Writer(open)


def test_a_put_is_stored_when_its_future_is_done(writer: Writer, path: Path) -> None:
    writer.put(call("a"), call("b")).result(30)
    assert _stored(path) == ["a", "b"]


def test_what_waits_goes_into_one_write() -> None:
    store = _SlowStore()
    writer = _writer_over(lambda: store)
    first = writer.put(call("a"))
    store.started.acquire()
    rest = [writer.put(call(name)) for name in "bcde"]
    store.go.release(2)
    for future in [first, *rest]:
        future.result(30)
    assert [[getattr(each, "id", "") for each in batch] for batch in store.batches] == [["a"], ["b", "c", "d", "e"]]
    assert writer.close(30)
    assert store.closed == 1


def test_what_is_put_lazily_shares_the_next_commit_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmexp.store.writer._LINGER_S", 300)
    store = _SlowStore()
    store.go.release(2)
    writer = _writer_over(lambda: store)
    waiting = [writer.put(call("a"), lazily=True), writer.put(call("b"), lazily=True), writer.put(call("c"))]
    for future in waiting:
        future.result(30)
    assert [[getattr(each, "id", "") for each in batch] for batch in store.batches] == [["a", "b", "c"]]
    assert writer.close(30)


def test_what_does_not_fit_into_a_commit_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmexp.store.writer._LINGER_S", 300)
    monkeypatch.setattr("pytest_llmexp.store.writer._BATCH", 2)
    store = _SlowStore()
    store.go.release(4)
    writer = _writer_over(lambda: store)
    for future in [writer.put(call(name), lazily=name != "e") for name in "abcde"]:
        future.result(30)
    assert [len(batch) for batch in store.batches] == [2, 2, 1]
    assert writer.close(30)


def test_closing_stores_at_once_what_is_put_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmexp.store.writer._LINGER_S", 300)
    store = _SlowStore()
    store.go.release()
    writer = _writer_over(lambda: store)
    waiting = writer.put(call("a"), lazily=True)
    assert writer.close(30)
    waiting.result(0)


def test_what_is_put_lazily_is_stored_without_others_too(writer: Writer, path: Path) -> None:
    writer.put(call("a"), lazily=True).result(30)
    assert _stored(path) == ["a"]


def test_the_last_of_several_records_with_one_key_wins(writer: Writer, path: Path) -> None:
    for status in ("running", "ok"):
        last = writer.put(call("a", status=status))
    last.result(30)
    store = open_store(path, read_only=True)
    assert [each.status for each in store.calls("exp_1")] == ["ok"]
    store.close()


def test_a_record_that_cannot_be_stored_takes_no_other_down(path: Path) -> None:
    gate = threading.Event()

    def open_late() -> Store:
        gate.wait(30)
        return open_store(path)

    writer = Writer(open_late)
    good = [writer.put(call("a")), writer.put(call("b"))]
    bad = [
        writer.put(call("c", request={"x": object()})),
        writer.put(call("d"), metric(run_id="none such")),
        writer.put(call("e", input_tokens=2**80)),
    ]
    good.append(writer.put(call("f")))
    gate.set()
    for future in good:
        future.result(30)
    for future in bad:
        with pytest.raises(RecordingError):
            future.result(30)
    assert _stored(path) == ["a", "b", "f"]
    assert writer.lost == 4
    assert str(writer.errors[0]) == "calls.request of 'c' cannot be stored: a object is no JSON"
    assert writer.close(30)


def test_a_store_that_cannot_be_opened_fails_every_put_and_is_tried_again(path: Path) -> None:
    broken = [True]

    def open_maybe() -> Store:
        if broken[0]:
            raise StoreError("the disk is on fire")
        return open_store(path)

    writer = Writer(open_maybe)
    with pytest.raises(RecordingError, match="not recorded: the disk is on fire"):
        writer.put(call("a")).result(30)
    broken[0] = False
    writer.put(call("b")).result(30)
    assert _stored(path) == ["b"]
    assert writer.lost == 1
    assert writer.close(30)


def test_after_an_error_of_the_store_it_is_opened_anew() -> None:
    opened: list[Any] = []

    class _Broken:
        def write(self, records: Iterable[Record]) -> None:
            raise OSError("gone")

        def close(self) -> None:
            pass

    def open_next() -> Any:
        opened.append(_Broken())
        return opened[-1]

    writer = _writer_over(open_next)
    for _ in range(2):
        with pytest.raises(RecordingError, match="gone"):
            writer.put(call("a")).result(30)
    assert len(opened) == 2
    assert writer.close(30)


def test_flush_waits_for_what_was_put_and_says_when_it_takes_too_long() -> None:
    store = _SlowStore()
    writer = _writer_over(lambda: store)
    assert writer.flush(0)
    done = writer.put(call("a"))
    store.started.acquire()
    assert not writer.flush(0.01)
    store.go.release()
    assert writer.flush(30)
    assert done.done()
    assert writer.close(30)
    assert writer.flush(0)


def test_close_stores_what_waits_and_later_puts_are_refused(path: Path) -> None:
    writer = Writer(lambda: open_store(path))
    futures = [writer.put(call(f"{n:03}")) for n in range(300)]
    assert writer.close(30)
    assert all(future.done() and future.exception() is None for future in futures)
    assert len(_stored(path)) == 300
    with pytest.raises(RecordingError, match="closed"):
        writer.put(call("late")).result(30)
    assert writer.lost == 1
    assert writer.close(30)


def test_close_gives_up_in_time() -> None:
    store = _SlowStore()
    writer = _writer_over(lambda: store)
    writer.put(call("a"))
    store.started.acquire()
    assert not writer.close(0.01)
    store.go.release()
    assert writer.close(30)


def test_many_threads_lose_nothing(writer: Writer, path: Path) -> None:
    def work(thread: int) -> None:
        for number in range(25):
            writer.put(call(f"{thread:02}-{number:02}")).result(30)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(_stored(path)) == 32 * 25
    assert writer.errors == []


def _in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns of forks with threads
def test_a_forked_child_writes_with_a_connection_of_its_own(writer: Writer, path: Path) -> None:
    writer.put(call("parent-1")).result(30)
    waiting = [writer.put(call(f"w{n}")) for n in range(50)]

    def in_child() -> None:
        for number in range(20):
            writer.put(call(f"child-{number}")).result(30)
        assert writer.close(30)

    assert _in_child(in_child) == 0
    writer.put(call("parent-2")).result(30)
    assert all(future.result(30) is None for future in waiting)
    stored = _stored(path)
    assert len(stored) == len(set(stored)) == 2 + 50 + 20


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_store_can_be_used_on_both_sides_of_a_fork(path: Path) -> None:
    store = open_store(path)
    store.write([call("before")])

    def in_child() -> None:
        for number in range(50):
            store.write([call(f"child-{number}")])
        assert len(store.calls("exp_1")) >= 51
        store.close()

    child = os.fork()
    if child == 0:
        status = 1
        try:
            in_child()
            status = 0
        finally:
            os._exit(status)
    for number in range(50):
        store.write([call(f"parent-{number}")])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(store.calls("exp_1")) == 101
    with store._connections.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    store.close()
