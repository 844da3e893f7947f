"""What all tests share: a clean environment, and small suites that are run by a pytest of their own."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

import pytest_llmexp.runtest.lookahead
import pytest_llmexp.runtest.stages
import pytest_llmexp.tracking.bots  # noqa: F401  else packages would keep the modules of runs that are over
from pytest_llmexp.localmodel import LocalModelServer
from pytest_llmexp.store import Store, open_store
from pytest_llmexp.tracking.pricing import load_prices

pytest_plugins = ["pytester"]

# Of the plugins of the environment these take a fifth of a small suite's time; tests/docs run suites beside them
PLAIN = ("-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:hypothesispytest", "-p", "no:anyio")


@pytest.fixture(scope="session")
def late_imports() -> None:
    """Import what openai's clients import at their first call: pytester forgets modules that a run imports.

    What is there by then stays, so the garbage collector need not look: pytest 8.4 calls it five times after each run.
    hypothesis must be there by then: it asks the collector who holds on to trio's random numbers.
    """

    async def ask(url: str) -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="local") as client:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])

    with LocalModelServer() as server, openai.OpenAI(base_url=server.base_url, api_key="local") as client:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
        asyncio.run(ask(server.base_url))
    importlib.import_module("hypothesis")
    load_prices()  # which sessions do in the background: the modules must not be forgotten half imported
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, address or option of the machine reaches a test; SUITES_CONCURRENCY sets that of the suites."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "LLMEXP_", "PYTEST_ADDOPTS", "PYTEST_XDIST", "SSL_CERT_FILE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SSL_CERT_DIR", str(Path(__file__).parent))  # else each client reads all certificates, 20 ms
    if (concurrency := os.environ.get("SUITES_CONCURRENCY")) is not None:
        monkeypatch.setenv("LLMEXP_CONCURRENCY", concurrency)


class Suite:
    """A folder with tests that a pytest of its own runs, and the store they leave behind."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path: Path = pytester.path
        self._stores: list[Store] = []
        self._written = 0

    def write(self, source: str, name: str = "test_suite.py") -> None:
        """Write a file of the suite; bytecode is told apart by whole seconds, so each comes two later than the last."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        self._written += 1
        later = time.time() + 2 * self._written
        os.utime(path, (later, later))

    def run(self, *arguments: str, new_process: bool = False) -> pytest.RunResult:
        """Run pytest in the folder; with workers always in a new process."""
        if new_process or "-n" in arguments:
            return self.pytester.runpytest_subprocess(*PLAIN, *arguments, timeout=120)
        return self.pytester.runpytest_inprocess(*PLAIN, *arguments)

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
def suite(pytester: pytest.Pytester, late_imports: None) -> Iterator[Suite]:
    """An empty suite."""
    made = Suite(pytester)
    yield made
    made.close()
