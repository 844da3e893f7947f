"""One process and all that it starts, from start to end: wall time, CPU time, peak memory, output. Linux and macOS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, kilobytes elsewhere
_SAMPLE_S = 0.2
_TIMEOUT_S = 1800.0
_DROPPED = ("OPENAI_", "LLMEXP_", "PYTEST_", "PYTHON", "COV_", "LOGFIRE_", "BENCHMARK_")


class Used(NamedTuple):
    """What a process took. `cpu_s` is user and system time, that of the children it waited for included."""

    wall_s: float
    cpu_s: float
    rss_mb: float | None
    output: str


class ContenderError(Exception):
    """A contender failed; the message holds what it printed."""


def clean_environment() -> dict[str, str]:
    """Return the environment without what would change a contender: keys, addresses, options, proxies."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_DROPPED) and not name.lower().endswith("_proxy")
    }


def run_process(arguments: Sequence[str], folder: Path, environ: Mapping[str, str], *, tree: bool = False) -> Used:
    """Run Python with these arguments in a folder, to its end.

    `tree` is for programs with worker processes: memory is then the highest sum over all of them (pages that
    they share count once for each), sampled every 0.2 s where there is a /proc, else None.

    Raises ContenderError if it fails, or takes over half an hour.
    """
    printed, complained = folder / "stdout.txt", folder / "stderr.txt"
    with printed.open("wb") as stdout, complained.open("wb") as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environ, stdout=stdout, stderr=stderr, start_new_session=True
        )
        memory = _TreeMemory(process.pid) if tree else None
        status, usage = _wait(process)
        wall = time.perf_counter() - started
    rss = usage.ru_maxrss * _MAXRSS_BYTES if memory is None else memory.stop()
    output = printed.read_text(errors="replace")
    if code := os.waitstatus_to_exitcode(status):
        said = output + complained.read_text(errors="replace")
        raise ContenderError(f"python {' '.join(arguments)} ended with {code} after {wall:.0f} s:\n{said}")
    return Used(wall, usage.ru_utime + usage.ru_stime, rss / 1e6 if rss else None, output)


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, Any]:
    """Wait for a process; it and all it started are gone afterwards, also after Ctrl-C or too long a time."""
    watchdog = threading.Timer(_TIMEOUT_S, _kill_session, [process.pid])
    watchdog.daemon = True
    watchdog.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        watchdog.cancel()
        _kill_session(process.pid)
    return status, usage


def _kill_session(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


class _TreeMemory:
    """The highest sum of the memory of all processes of a session."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Return the peak in bytes; 0 where it cannot be known."""
        self._ended.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self._peak = max(self._peak, _session_rss(self._leader))


def _session_rss(leader: int) -> int:
    """Return the resident bytes of all processes of a session, from /proc/*/stat (fields 6 and 24 of proc(5))."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            pages += int(fields[21]) if int(fields[3]) == leader else 0
    return pages * os.sysconf("SC_PAGE_SIZE")
