"""One writer thread per process: whatever is waiting goes into one commit, and the caller learns when it is safe.

Knows the Store's `write` and `close` only. It imports SQLAlchemy through `open`, in its own thread.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_llmexp.core.errors import RecordingError
from pytest_llmexp.core.models import Record

if TYPE_CHECKING:
    from pytest_llmexp.store.store import Store

_ERRORS_KEPT = 100
_BATCH = 1000  # groups of one commit: bounds its time under the file lock
_LINGER_S = 0.01  # how long what nobody waits for is kept for a commit of its own

# A forked child must not close its parent's store, not even by garbage collection.
_LEFT_TO_PARENT: Final[list[object]] = []


class _Group(NamedTuple):
    """What one `put` brought; the future is resolved after the commit that holds all of it."""

    records: tuple[Record, ...]
    done: Future[None]
    lazily: bool = False


class Writer:
    """Writes records in a thread of its own, in the order they were put.

    `errors` holds what could not be recorded (the first 100), `lost` counts all such records.
    After a fork the child has a thread, a queue and a store of its own, and no errors.
    """

    errors: list[RecordingError]
    lost: int
    _mutex: threading.Lock
    _queue: SimpleQueue[_Group | None]
    _awaited: threading.Event
    _thread: threading.Thread | None
    _store: Store | None
    _closed: bool

    def __init__(self, open: Callable[[], Store]) -> None:
        self._open = open
        self._start_afresh()
        if hasattr(os, "register_at_fork"):
            writer = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _after_fork(writer))

    def put(self, *records: Record, lazily: bool = False) -> Future[None]:
        """Hand records over; the future is resolved after the COMMIT that holds them, or has a RecordingError.

        Those put `lazily` share the next commit of others, and have their own if there is none for 10 ms.
        """
        group = _Group(records, Future(), lazily)
        with self._mutex:
            if self._closed:
                self._fail(group, RecordingError("the writer is closed"))
                return group.done
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="llmexp-writer", daemon=True)
                self._thread.start()
            self._queue.put(group)
            if not lazily and not self._awaited.is_set():
                self._awaited.set()
        return group.done

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was put so far is stored or known to be lost; False after `timeout` seconds."""
        with self._mutex:
            idle = self._thread is None or self._closed
        if idle:
            return True
        try:
            self.put().result(timeout)
        except FutureTimeoutError:
            return False
        except RecordingError:  # closed meanwhile
            return True
        return True

    def close(self, timeout: float | None = None) -> bool:
        """Store what is waiting, close the store and end the thread; False if that takes over `timeout` seconds."""
        with self._mutex:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
                self._awaited.set()
            thread = self._thread
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _start_afresh(self) -> None:
        self._mutex = threading.Lock()
        self._queue = SimpleQueue()
        self._awaited = threading.Event()  # somebody waits for what is in the queue
        self._thread = None
        self._store = None
        self._closed = False
        self.errors = []
        self.lost = 0

    def _work(self) -> None:
        closing = False
        while not closing:
            groups, closing = self._waiting()
            if groups:
                self._write(groups)
        self._drop_store()

    def _waiting(self) -> tuple[list[_Group], bool]:
        """Return the groups that go into the next commit, and whether the writer is to close after them."""
        groups: list[_Group] = []
        group = self._queue.get()
        if group is not None and group.lazily:
            self._awaited.wait(_LINGER_S)  # for what comes meanwhile; not woken for each
        self._awaited.clear()
        while group is not None:
            groups.append(group)
            if len(groups) == _BATCH:
                self._awaited.set()  # somebody may wait for what is left
                return groups, False
            try:
                group = self._queue.get_nowait()
            except Empty:
                return groups, False
        return groups, True

    def _write(self, groups: list[_Group]) -> None:
        try:
            self._commit([record for group in groups for record in group.records])
        except Exception as error:
            self._write_apart(groups, error)
        else:
            for group in groups:
                group.done.set_result(None)

    def _write_apart(self, groups: list[_Group], error: Exception) -> None:
        """Write the groups one by one: a record that cannot be stored takes no other down.

        Where it is the store that fails, each further try would fail too, and may have to wait for it.
        """
        broken = error if len(groups) == 1 else None
        for group in groups:
            if broken is None:
                try:
                    self._commit(list(group.records))
                except RecordingError as refused:
                    self._fail(group, refused)
                    continue
                except Exception as failed:
                    broken = failed
                else:
                    group.done.set_result(None)
                    continue
            if group.records:
                self._fail(group, broken)
            else:
                group.done.set_result(None)

    def _commit(self, records: list[Record]) -> None:
        if not records:
            return
        if self._store is None:
            self._store = self._open()
        try:
            self._store.write(records)
        except RecordingError:
            raise  # the store is well
        except BaseException:
            self._drop_store()
            raise

    def _drop_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            try:
                store.close()
            except Exception as error:  # the rows are committed; a checkpoint that fails is made up for later
                self._note(RecordingError(f"the store was not closed: {error}"))

    def _fail(self, group: _Group, error: Exception) -> None:
        if not isinstance(error, RecordingError):
            wrapped = RecordingError(f"not recorded: {error}")
            wrapped.__cause__ = error
            error = wrapped
        self.lost += len(group.records)
        self._note(error)
        group.done.set_exception(error)

    def _note(self, error: RecordingError) -> None:
        if len(self.errors) < _ERRORS_KEPT:
            self.errors.append(error)

    def _after_fork(self) -> None:
        _LEFT_TO_PARENT.append((self._store, self._queue))
        self._start_afresh()


def _after_fork(writer: weakref.ref[Writer]) -> None:
    if (alive := writer()) is not None:
        alive._after_fork()
