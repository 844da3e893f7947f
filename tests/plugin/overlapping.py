"""What the tests of overlapping runs share: bodies that tell when they begin and end, and who reads that."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.conftest import Suite

# `told` appends a line; appending one short line is atomic between threads and processes
TELLING = """
import asyncio, contextlib, contextvars, logging, os, subprocess, sys, threading, time, warnings
import pytest

def told(*words):
    with open("told", "a") as file:
        file.write(" ".join(map(str, (os.environ.get("PYTEST_XDIST_WORKER", "-"), *words))) + "\\n")
"""


class Overlapping:
    """A suite whose module begins with `TELLING`."""

    def __init__(self, suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("LLMEXP_CONCURRENCY", raising=False)  # what the default does is tested too
        self.suite = suite
        self.path: Path = suite.path

    def write(self, source: str) -> None:
        """Write the suite's one module."""
        self.suite.write(TELLING + textwrap.dedent(source), "test_suite.py")

    def told(self) -> list[list[str]]:
        """Return what was told, the words of each line without the worker."""
        return [words[1:] for words in self.told_by()]

    def told_by(self) -> list[list[str]]:
        """Return what was told, each line with the worker first."""
        path = self.path / "told"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def statuses(self) -> dict[int, str]:
        """Return the status of every run of the latest experiment, by index; the last one counts."""
        store = self.suite.store()
        return {run.run_index: run.status for run in store.runs(store.experiments()[0].id)}


def peak(told: list[list[str]]) -> int:
    """Return how many were in flight at most: "+" begins one, "-" ends one."""
    level = most = 0
    for words in told:
        level += {"+": 1, "-": -1}.get(words[0], 0)
        most = max(most, level)
    return most
