"""Where the processes of an experiment see each other's traffic: a small file that all of them map into memory.

An update is made under a file lock and becomes valid with one byte, so that a process which is killed leaves the state
before or after it; the kernel frees its lock. Reading whether all is calm takes no lock. Knows no pytest, no client.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from pytest_llmexp.core.forks import renew_lock_in_children
from pytest_llmexp.tracking.pacing import Traffic

_HALF = 32 * 1024  # two copies, of which one is valid
_SIZE = 2 * _HALF + 64
_BUSY, _WHICH, _FIRST = 0, 1, 64
_ABANDONED_S = 24 * 3600.0


class Board(Protocol):
    """What is known of the traffic."""

    @property
    def is_calm(self) -> bool:
        """Whether no provider objects or fails, as far as is known."""

    def held(self) -> AbstractContextManager[Traffic]:
        """Return the traffic, to be read and changed in the body of a with statement by nobody else."""

    def close(self) -> None:
        """Let go of it."""


class LocalBoard:
    """The board of a process that is alone."""

    def __init__(self) -> None:
        self.is_calm = True
        self._traffic = Traffic()
        self._lock = threading.Lock()
        renew_lock_in_children(self)

    @contextmanager
    def held(self) -> Iterator[Traffic]:
        with self._lock:
            yield self._traffic
            self.is_calm = self._traffic.is_calm

    def close(self) -> None:
        """Nothing to let go of."""


class SharedBoard:
    """The board of processes that know the same file. `lock` excludes all of them while it is held."""

    def __init__(self, path: Path, lock: Callable[[], AbstractContextManager[None]]) -> None:
        self._lock = lock
        _make_private(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            if os.fstat(descriptor).st_size < _SIZE:
                os.ftruncate(descriptor, _SIZE)  # zeros: a calm board
            _claim(descriptor)
            self._memory = mmap.mmap(descriptor, _SIZE)  # keeps a duplicate of the descriptor, and with it the claim
        finally:
            os.close(descriptor)

    @property
    def is_calm(self) -> bool:
        return not self._memory[_BUSY]

    @contextmanager
    def held(self) -> Iterator[Traffic]:
        with self._lock():
            traffic = self._read()
            yield traffic
            self._write(traffic)

    def close(self) -> None:
        """Let go of the file."""
        self._memory.close()

    def _read(self) -> Traffic:
        start = _FIRST + _HALF * self._memory[_WHICH]
        size = int.from_bytes(self._memory[start : start + 4], "little")
        return Traffic.from_plain(json.loads(self._memory[start + 4 : start + 4 + size])) if size else Traffic()

    def _write(self, traffic: Traffic) -> None:
        content = json.dumps(traffic.to_plain()).encode()
        if len(content) > _HALF - 4:
            raise ValueError(f"{len(traffic.paces)} addresses are more than can be shared between processes")
        other = 1 - self._memory[_WHICH]
        start = _FIRST + _HALF * other
        self._memory[start : start + 4 + len(content)] = len(content).to_bytes(4, "little") + content
        self._memory[_WHICH] = other
        self._memory[_BUSY] = not traffic.is_calm


def board_path(experiment_id: str) -> Path:
    """Return where the processes of an experiment on this machine have their board; nothing is made."""
    return Path(tempfile.gettempdir()) / f"llmexp-{experiment_id}" / "traffic"


def remove_board(path: Path) -> None:
    """Remove a board that no process needs any more, with the folder it is in."""
    with suppress(OSError):
        shutil.rmtree(path.parent)


def remove_abandoned_boards() -> None:
    """Remove this user's boards of sessions that were killed: no process has them open, and they are a day old."""
    latest = time.time() - _ABANDONED_S
    pattern = board_path("exp_*")
    for path in pattern.parents[1].glob("/".join(pattern.parts[-2:])):
        with suppress(OSError):
            found = path.parent.lstat()
            if max(found.st_mtime, path.lstat().st_mtime) < latest and _is_private(found) and not _is_open(path):
                remove_board(path)


def _make_private(folder: Path) -> None:
    """Make a folder for this user only. Raises OSError where somebody else has made it."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_private(folder.lstat()):
        raise PermissionError(f"{folder} belongs to somebody else")


def _is_private(found: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not stat.S_ISLNK(found.st_mode))


if sys.platform == "win32":

    def _claim(descriptor: int) -> None:
        """Nothing: nobody could see it."""

    def _is_open(path: Path) -> bool:
        return True  # for all that is known
else:
    import fcntl

    def _claim(descriptor: int) -> None:
        """Let others see that this process has a board open, as long as it lives."""
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _is_open(path: Path) -> bool:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False
