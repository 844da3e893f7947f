"""R1, R2, R11: an experiment whose processes were killed goes on, and pays for nothing twice. The server counts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmexp.localmodel import LocalModelServer, Request
from tests.conftest import PLAIN, Suite

SUITE = """
    import os, pathlib, pytest
    from pytest_llmexp import SimpleBot, metric, prompt

    @pytest.fixture(scope="session", autouse=True)
    def told():
        worker = "PYTEST_XDIST_WORKER" in os.environ
        pathlib.Path("pid").write_text(str(os.getppid() if worker else os.getpid()))

    @prompt("user")
    def ask(place):
        '''Where is {{ place }}?'''

    @metric
    def judged(answer):
        return len(SimpleBot("You judge.")(answer).content)

    @pytest.mark.experiment(n=6, gates=["mean(judged) > 0"])
    def test_x(bot):
        asked = bot("You know places.")
        first = asked(ask("Rome"))
        asked(first.content, "And then?")
        judged(first.content)
"""
CALLS = 6 * 3


class Assassin:
    """A model server that kills the process of a suite when it gets a certain request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.victim_at: int | None = None
        self.server = LocalModelServer(self._answer, latency_s=0.02)

    def _answer(self, request: Request) -> str:
        if request.index == self.victim_at:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)
        return f"answer {request.index}"


@pytest.fixture
def assassin(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Iterator[Assassin]:
    """A server, in the environment of the suites."""
    made = Assassin(suite.path)
    with made.server as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("LLMEXP_MODEL", "gpt-x")
        suite.write(SUITE)
        yield made


def start(suite: Suite, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", *PLAIN, "--experiment-concurrency=3", *arguments]
    return subprocess.run(command, cwd=suite.path, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
@pytest.mark.parametrize("victim_at", [0, 7, 16])
def test_a_killed_session_goes_on_and_pays_no_answer_twice(
    suite: Suite, assassin: Assassin, victim_at: int, workers: tuple[str, ...]
) -> None:
    assassin.victim_at = victim_at
    killed = start(suite, "--experiment-name=x", *workers)
    assert killed.returncode == -signal.SIGKILL
    wait_until_silent(assassin.server)
    assassin.victim_at = None
    made_before = len(assassin.server.requests)
    store = suite.store()
    experiment = store.experiment("x")
    paid = sum(call.status == "ok" for call in store.calls(experiment.id))
    assert made_before - paid <= 3  # those in flight

    resumed = start(suite, "--experiment-resume", *workers)
    assert resumed.returncode == 0, resumed.stdout
    assert len(assassin.server.requests) - made_before == CALLS - paid
    assert store.experiment("x").id == experiment.id
    assert store.experiment("x").status == "finished"
    calls = store.calls(experiment.id)
    assert sum(call.status == "ok" and not call.replayed_from for call in calls) == CALLS
    answers = {call.id: call.response for call in calls}
    assert all(call.response == answers[call.replayed_from] for call in calls if call.replayed_from)
    (verdict,) = store.verdicts(experiment.id)
    assert (verdict.verdict, verdict.n, verdict.missing) == ("passed", 6, 0)

    again = start(suite, "--experiment-resume=x", *workers)
    assert again.returncode == 0, again.stdout
    assert len(assassin.server.requests) - made_before == CALLS - paid
    assert "6 runs (6 passed)" in again.stdout or "6 passed" in again.stdout


def wait_until_silent(server: LocalModelServer, quiet_s: float = 1.5, timeout_s: float = 10) -> None:
    """Wait until no request has come for a while: workers outlive their controller for some seconds."""
    deadline, seen, since = time.monotonic() + timeout_s, -1, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < quiet_s:
        if len(server.requests) != seen:
            seen, since = len(server.requests), time.monotonic()
        time.sleep(0.05)
