"""What all tests share: a clean environment, and small suites that are run by a pytest of their own."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import openai  # noqa: F401  pytester forgets modules that a run imports; these take long, or load only once
import pytest

import pytest_llmexp.runtest.lookahead
import pytest_llmexp.runtest.stages
import pytest_llmexp.tracking.bots  # noqa: F401  else packages would keep the modules of runs that are over
from pytest_llmexp.store import Store, open_store

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, address or option of the machine reaches a test; SUITES_CONCURRENCY sets that of the suites."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "LLMEXP_", "PYTEST_ADDOPTS", "PYTEST_XDIST")):
            monkeypatch.delenv(name)
    if (concurrency := os.environ.get("SUITES_CONCURRENCY")) is not None:
        monkeypatch.setenv("LLMEXP_CONCURRENCY", concurrency)


class Suite:
    """A folder with tests that a pytest of its own runs, and the store they leave behind."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path: Path = pytester.path
        self._stores: list[Store] = []

    def write(self, source: str, name: str = "test_suite.py") -> None:
        """Write a file of the suite."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")

    def run(self, *arguments: str, new_process: bool = False) -> pytest.RunResult:
        """Run pytest in the folder; with workers always in a new process."""
        plain = ("-p", "no:cacheprovider", "-p", "no:asyncio", *arguments)
        if new_process or "-n" in arguments:
            return self.pytester.runpytest_subprocess(*plain, timeout=120)
        return self.pytester.runpytest_inprocess(*plain)

    def store(self, path: str = "message_log.db") -> Store:
        """Open what the runs recorded."""
        store = open_store(self.path / path, read_only=True)
        self._stores.append(store)
        return store

    def close(self) -> None:
        """Close what `store` opened."""
        for store in self._stores:
            store.close()


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Iterator[Suite]:
    """An empty suite."""
    made = Suite(pytester)
    yield made
    made.close()
