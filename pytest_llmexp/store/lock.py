"""The file lock that lets one process at a time write: `<db>.lock`.

SQLite up to 3.51.2 can corrupt a WAL file that two processes write and checkpoint at once (sqlite.org/wal.html,
"The WAL-Reset Bug"), and its own waiting is unfair. flock queues its waiters. Knows files only, no database.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_llmexp.core.errors import UnwritableStoreError

_FORK_WAIT_S = 5.0  # a fork waits so long for a transaction of this process to end


class FileLock:
    """Excludes every other thread and process that locks the same file. Not reentrant.

    A fork waits for the transaction in progress, and its child starts with a lock of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._mutex = threading.Lock()
        self._frozen = False
        if hasattr(os, "register_at_fork"):
            lock = weakref.ref(self)
            os.register_at_fork(
                before=lambda: _call(lock, "_freeze"),
                after_in_parent=lambda: _call(lock, "_thaw"),
                after_in_child=lambda: _call(lock, "_forget"),
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock, hold it inside the `with`.

        Raises UnwritableStoreError where the lock file cannot be made or locked.
        """
        with self._mutex:
            try:
                descriptor = self._lock()
            except OSError as error:
                raise UnwritableStoreError(
                    f"{self.path} cannot be locked ({error.strerror}): put the store on a local disk, "
                    f"in a folder that you may write to"
                ) from error
            try:
                yield
            finally:
                _release(descriptor)

    def close(self) -> None:
        """Give the lock file back; `held` opens it again. The file stays: others may be waiting at it."""
        with self._mutex:
            self._close_descriptor()

    def _lock(self) -> int:
        while True:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            _acquire(self._descriptor)
            if self._is_current(self._descriptor):
                return self._descriptor
            self._close_descriptor()  # someone removed the file: a lock on it no longer excludes anybody

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _close_descriptor(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _freeze(self) -> None:
        self._frozen = self._mutex.acquire(timeout=_FORK_WAIT_S)

    def _thaw(self) -> None:
        if self._frozen:
            self._frozen = False
            self._mutex.release()

    def _forget(self) -> None:
        # The descriptor is shared with the parent: unlocking it here would unlock the parent's transaction.
        # Closing it does no harm, as flock lives until every copy is closed.
        self._mutex = threading.Lock()
        self._frozen = False
        self._close_descriptor()


def _call(lock: weakref.ref[FileLock], method: str) -> None:
    if (alive := lock()) is not None:
        getattr(alive, method)()


if sys.platform == "win32":
    import msvcrt
    import time

    def _acquire(descriptor: int) -> None:
        while True:
            os.lseek(descriptor, 0, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except OSError:
                time.sleep(0.005)  # msvcrt's own waiting tries once a second
            else:
                return

    def _release(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _acquire(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _release(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
