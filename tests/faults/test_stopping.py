"""R10 and R11: a session that is stopped or killed makes no further calls, and its workers end with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_llmexp.cli import main
from pytest_llmexp.localmodel import Answer, LocalModelServer
from pytest_llmexp.runtest.outcomes import INTERRUPTED
from tests.conftest import PLAIN, Suite

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

# bodies that would go on asking for ever
SUITE = """
    import os, pytest
    @pytest.mark.experiment(n=200, gates=["pass_rate >= 0.5"])
    def test_sync(bot):
        with open("pids", "a") as file: file.write(f"{os.getpid()}\\n")
        ask = bot("You.")
        while True: ask("Hello")
"""
ASYNC_SUITE = (
    SUITE.replace("def test_sync(bot)", "async def test_async(async_bot)")
    .replace("= bot(", "= async_bot(")
    .replace(": ask(", ": await ask(")
)
UNEVEN = "experiment_run.index % 8 == 1"  # the others end after a call
CONCURRENCY = 32


@pytest.fixture
def server() -> Iterator[LocalModelServer]:
    with LocalModelServer(script=lambda request: Answer("Hello.", latency_s=0.1)) as started:
        yield started


@contextmanager
def start(
    suite: Suite, server: LocalModelServer, *arguments: str, output: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """Start a session in a process group of its own, so that a signal reaches nobody else; killed if a test fails."""
    command = [
        *(sys.executable, "-m", "pytest", *PLAIN, "-p", "no:timeout"),
        *("--experiment-model=m", f"--experiment-base-url={server.base_url}"),
        *(f"--experiment-concurrency={CONCURRENCY}", *arguments),
    ]
    with subprocess.Popen(
        command, cwd=suite.path, stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as session:
        try:
            yield session
        except BaseException:
            os.killpg(session.pid, signal.SIGKILL)
            raise


def soon(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Say whether a condition comes true in time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def workers(suite: Suite) -> set[int]:
    return {int(line) for line in (suite.path / "pids").read_text().split()}


@pytest.mark.parametrize("source", [SUITE, ASYNC_SUITE], ids=["sync", "async"])
@pytest.mark.parametrize("mode", [("-p", "no:xdist"), pytest.param(("-n", "2"), marks=pytest.mark.xdist)], ids=str)
def test_an_interrupt_of_the_controller_alone_ends_calls_and_session(
    suite: Suite, server: LocalModelServer, mode: tuple[str, ...], source: str
) -> None:
    suite.write(source)
    with start(suite, server, *mode) as session:
        server.wait_for_requests(3 * CONCURRENCY, timeout_s=60)
        os.kill(session.pid, signal.SIGINT)
        output, _ = session.communicate(timeout=10)
    made = len(server.requests)
    assert session.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "interrupted 0/200: gates were not judged" in output
    assert "INTERNALERROR" not in output
    assert soon(lambda: not any(map(alive, workers(suite) - {session.pid})), 5)
    assert len(server.requests) <= made + CONCURRENCY  # those on their way
    store = suite.store()
    experiment = store.experiments()[0]
    assert (experiment.status, experiment.exit_status, store.verdicts(experiment.id)) == ("interrupted", 2, [])
    assert {(run.status, run.error) for run in store.runs(experiment.id)} == {("crashed", INTERRUPTED)}
    assert " interrupted, " in output
    assert " crashed" not in output


@pytest.mark.parametrize("mode", [("-p", "no:xdist"), pytest.param(("-n", "2"), marks=pytest.mark.xdist)], ids=str)
def test_an_interrupt_tells_of_runs_in_flight_and_of_those_that_had_ended(
    suite: Suite, server: LocalModelServer, mode: tuple[str, ...]
) -> None:
    suite.write(SUITE.replace("def test_sync(bot)", "def test_sync(bot, experiment_run)").replace("True", UNEVEN))
    with start(suite, server, *mode) as session:
        server.wait_for_requests(3 * CONCURRENCY, timeout_s=60)
        os.kill(session.pid, signal.SIGINT)
        output, _ = session.communicate(timeout=10)
    totals = re.search(r"^200 runs \((.*)\), ", output, re.MULTILINE)
    assert totals is not None, output
    counts = {word: int(count) for count, word in re.findall(r"(\d+) ([a-z ]+)", totals[1])}
    dropped = re.search(r"note: (\d+) run\(s\) in flight were dropped", output)
    unreported = re.search(r"note: (\d+) run\(s\) had ended when the session stopped, and were rec", output)
    assert dropped is not None, output
    assert unreported is not None, output
    assert 1 <= int(dropped[1]) == counts["interrupted"] <= CONCURRENCY
    assert 1 <= int(unreported[1]) <= counts["passed"]
    assert "crashed" not in counts


@pytest.mark.xdist
def test_a_run_that_killed_its_worker_stays_crashed_after_an_interrupt(suite: Suite, server: LocalModelServer) -> None:
    suite.write(
        SUITE.replace("def test_sync(bot)", "def test_sync(bot, experiment_run)").replace(
            "while True", "if experiment_run.index == 4: os._exit(1)\n        while True"
        )
    )
    with start(suite, server, "-n", "2") as session:
        assert soon(lambda: (suite.path / "pids").exists() and len(workers(suite)) > 2, 60)
        os.kill(session.pid, signal.SIGINT)
        output, _ = session.communicate(timeout=20)
    assert soon(lambda: not any(map(alive, workers(suite) - {session.pid})), 5)
    store = suite.store()
    runs = store.runs(store.experiments()[0].id)
    lost = next(run.worker for run in runs if run.run_index == 4)
    assert {run.status for run in runs} == {"crashed"}
    assert INTERRUPTED not in {run.error for run in runs if run.worker == lost}
    assert {run.error for run in runs if run.worker not in (lost, "gw2")} == {INTERRUPTED}
    assert re.search(r"\d+ crashed", output)
    assert re.search(r"\d+ interrupted", output)


@pytest.mark.parametrize("mode", [("-p", "no:xdist"), pytest.param(("-n", "2"), marks=pytest.mark.xdist)], ids=str)
def test_a_killed_session_ends_its_workers_and_shows_as_interrupted(
    suite: Suite, server: LocalModelServer, mode: tuple[str, ...]
) -> None:
    suite.write(SUITE)
    with start(suite, server, *mode, output=subprocess.DEVNULL) as session:
        server.wait_for_requests(3 * CONCURRENCY, timeout_s=60)
        session.kill()
        made = len(server.requests)
    assert soon(lambda: not any(map(alive, workers(suite))), 5)
    listed = CliRunner().invoke(main, ["list", "--db", str(suite.path / "message_log.db")])
    assert " interrupted " in listed.output
    assert len(server.requests) <= made + 2 * CONCURRENCY  # on their way, or begun before the end was noticed
    answered = [call for call in suite.store().calls(suite.store().experiments()[0].id) if call.status == "ok"]
    assert len(answered) >= 2 * CONCURRENCY


def test_a_new_session_marks_what_a_killed_one_left(suite: Suite, server: LocalModelServer) -> None:
    suite.write(SUITE)
    with start(suite, server, "-p", "no:xdist", "--experiment-name=killed", output=subprocess.DEVNULL) as session:
        server.wait_for_requests(1, timeout_s=60)
        session.kill()
    suite.write("import pytest\n@pytest.mark.experiment(n=1)\ndef test_x(): pass")
    suite.run("--experiment-name=next").assert_outcomes(passed=1)
    assert {each.name: each.status for each in suite.store().experiments()} == {
        "killed": "interrupted",
        "next": "finished",
    }
