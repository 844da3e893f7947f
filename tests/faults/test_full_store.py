"""R5: where the store cannot grow, calls end at once, the session is red and names file and cause; then it goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from pytest_llmexp.localmodel import LocalModelServer
from tests.conftest import Suite

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
CONCURRENCY = 4
SUITE = """
    import pytest
    @pytest.mark.experiment(n=200, gates=["mean(length) > 0"])
    def test_x(bot, record_metric):
        record_metric("length", len(bot("You.")("tell me more").content))
"""
LIMITED = """
    import os, resource
    if "FULL" in os.environ:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))  # SQLite sees a failing write
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalModelServer]:
    """A server whose answers fill a small disk soon."""
    with LocalModelServer(lambda request: f"{request.index} " + "x" * 9_000) as started:
        monkeypatch.setenv("OPENAI_BASE_URL", started.base_url)
        monkeypatch.setenv("LLMEXP_MODEL", "m")
        yield started


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_a_full_disk_ends_the_calls_and_the_experiment_goes_on_later(
    suite: Suite, server: LocalModelServer, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    suite.write(SUITE)
    suite.write(LIMITED, "conftest.py")
    options = (f"--experiment-concurrency={CONCURRENCY}", *workers)
    monkeypatch.setenv("FULL", "1")
    full = suite.run("--experiment-name=x", *options, new_process=True)
    output = full.stdout.str() + full.stderr.str()
    assert full.ret == pytest.ExitCode.TESTS_FAILED, output
    assert f"{suite.path / 'message_log.db'} cannot be written" in output
    assert "disk I/O error" in output or "disk is full" in output
    assert "INTERNALERROR" not in output
    made = len(server.requests)
    monkeypatch.delenv("FULL")
    store = suite.store()
    experiment = store.experiment("x")
    ended = {run.id for run in store.runs(experiment.id) if run.status == "passed"}
    answered = [call.run_id for call in store.calls(experiment.id) if call.status == "ok"]
    assert len(answered) > 5
    assert made - len(answered) <= 2 * CONCURRENCY  # those in flight, and those that began before the failure was known
    left = 200 - len(ended) - sum(run_id not in ended for run_id in answered)
    store.close()

    resumed = suite.run("--experiment-resume", *options, new_process=True)
    store = suite.store()
    assert resumed.ret == pytest.ExitCode.OK, resumed.stdout.str()
    assert len(server.requests) - made == left
    (verdict,) = store.verdicts(experiment.id)
    assert (verdict.verdict, verdict.n, verdict.missing) == ("passed", 200, 0)
