"""Starts the processes of `store_processes` and hears what they tell."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Process:
    """One process in a role, killed at the end of the `with`."""

    def __init__(self, role: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.store_processes", role, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def hear(self) -> str:
        """Return the next line it tells."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def go(self) -> None:
        """Let it begin: end its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def rest(self) -> list[str]:
        """Return what else it tells until its end, which must be a good one."""
        assert self._process.stdout is not None
        lines = self._process.stdout.read().splitlines()
        assert self._process.wait() == 0
        return lines

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self._process.kill()
        self._process.wait()

    def after_kill(self) -> list[str]:
        """Kill it, and return what it had told before."""
        self._process.kill()
        assert self._process.stdout is not None
        lines = self._process.stdout.read().splitlines()
        self._process.wait()
        return lines
