"""Rate limits of a session: all workers slow down together and keep caps; a provider that stays down ends it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import gettempdir

import pytest
from click.testing import CliRunner

from pytest_llmexp.cli import main
from pytest_llmexp.core.models import Experiment
from pytest_llmexp.localmodel import Answer, LocalModelServer, Request, faults
from pytest_llmexp.localmodel.script import Script
from pytest_llmexp.store import Store
from tests.arrivals import Arrivals, least_s
from tests.conftest import Suite

WORKERS = pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
ASKING = """
    import openai, pytest

    @pytest.fixture
    def llm_client():
        with openai.OpenAI(api_key="x", max_retries=RETRIES) as client:
            yield client

    @pytest.mark.experiment(n=RUNS, gates=["pass_rate >= 0.01"])
    def test_x(bot):
        assert bot("Name a job.", model="m")("Hello")
"""


@pytest.fixture(autouse=True)
def brief_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take Python's own: for each of pytest's, it walks through the syntax trees of openai's client, some 200 ms."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "--tb=native")


def asking(runs: int, retries: int = 0) -> str:
    return ASKING.replace("RUNS", str(runs)).replace("RETRIES", str(retries))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LocalModelServer]]:
    """Return a function that starts the server that the suites ask."""
    with ExitStack() as stack:

        def start(script: Script, latency_s: float = 0.0) -> LocalModelServer:
            server = stack.enter_context(LocalModelServer(script, latency_s=latency_s))
            monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
            return server

        yield start


Serve = Callable[..., LocalModelServer]


def latest(suite: Suite) -> tuple[Store, Experiment]:
    store = suite.store()
    return store, store.experiments()[0]


def statuses(suite: Suite) -> Counter[str]:
    store, experiment = latest(suite)
    return Counter(run.status for run in store.runs(experiment.id))


# -- caps and rates ----------------------------------------------------------------------------------------------


@WORKERS
def test_all_workers_together_keep_a_cap(suite: Suite, serve: Serve, workers: tuple[str, ...]) -> None:
    arrivals = Arrivals()
    serve(arrivals)
    suite.write(asking(runs=30))
    result = suite.run("--experiment-rpm=200", "--experiment-concurrency=16", *workers)
    assert result.ret == 0
    assert len(arrivals.times) == 30
    assert arrivals.keep(200, late_s=0.5)
    assert max(arrivals.times) - min(arrivals.times) >= least_s(30, 200) - 0.5
    result.stdout.fnmatch_lines(["held back * s for rate limits"])
    store, experiment = latest(suite)
    assert any(call.wait_s for call in store.calls(experiment.id))
    assert not (Path(gettempdir()) / f"llmexp-{experiment.id}").exists()


def test_tokens_are_capped(suite: Suite, serve: Serve) -> None:
    arrivals = Arrivals()
    serve(arrivals)
    suite.write(asking(runs=40))
    suite.run("--experiment-runs=2")
    store, experiment = latest(suite)
    tokens = sum((call.input_tokens or 0) + (call.output_tokens or 0) for call in store.calls(experiment.id)) // 2
    arrivals.times.clear()
    result = suite.run(f"--experiment-tpm={tokens * 200}", "--experiment-runs=25", "--experiment-concurrency=1")
    assert result.ret == 0
    assert arrivals.keep(200, late_s=0.5)
    result.stdout.fnmatch_lines(["held back * s for rate limits"])


@pytest.mark.xdist
def test_a_limit_that_one_worker_meets_holds_back_the_other(suite: Suite, serve: Serve) -> None:
    pause_s = 5.0
    lock = threading.Lock()
    refused: list[float] = []

    def script(request: Request) -> Answer:
        with lock:
            if request.index >= 12 and not refused:
                refused.append(time.monotonic())
                return faults.rate_limited(pause_s)
        return Answer("a name")

    arrivals = Arrivals(script)
    serve(arrivals, latency_s=0.2)
    suite.write(asking(runs=40, retries=2))
    result = suite.run("-n", "2", "--experiment-concurrency=4")
    assert result.ret == 0
    after = [moment - refused[0] for moment in arrivals.times if moment > refused[0]]
    assert len(after) >= 20
    assert not [moment for moment in after if 1.5 < moment < pause_s - 0.1]
    store, experiment = latest(suite)
    held = [
        run.worker for run in store.runs(experiment.id) if any(c.wait_s for c in store.calls(experiment.id, run.id))
    ]
    assert set(held) == {"gw0", "gw1"}
    result.stdout.fnmatch_lines(["held back * s for rate limits (1 answer 429)"])


def test_what_was_held_back_is_in_every_view(suite: Suite, serve: Serve) -> None:
    serve(lambda request: Answer("a name") if request.index else faults.rate_limited())
    suite.write(asking(runs=1, retries=2))
    assert suite.run("--experiment-name=x").ret == 0
    store, experiment = latest(suite)
    (held,) = [call for call in store.calls(experiment.id) if call.wait_s]
    assert held.attempts == 2
    shown = CliRunner().invoke(main, ["show", "x", "--json", "--db", str(suite.path / "message_log.db")])
    document = json.loads(shown.output)
    assert document["calls"]["wait_s"] == pytest.approx(held.wait_s)
    assert document["experiment"]["metadata"]["limited"] == 1
    shown = CliRunner().invoke(main, ["show", "x", "--db", str(suite.path / "message_log.db")])
    assert "s for rate limits (1 answer 429)" in shown.output


# -- providers that are down -------------------------------------------------------------------------------------


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an address where nobody listens, which the suites ask."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("OPENAI_BASE_URL", f"{address}/v1")
    return address


@WORKERS
def test_a_provider_that_is_not_there_ends_the_session(suite: Suite, nobody: str, workers: tuple[str, ...]) -> None:
    suite.write(asking(runs=200))
    result = suite.run("--experiment-concurrency=4", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    store, experiment = latest(suite)
    assert experiment.status == "interrupted"
    assert [verdict.verdict for verdict in store.verdicts(experiment.id)] == ["undecided"]
    made = statuses(suite)["error"]
    assert 5 <= made <= 40
    stop = experiment.metadata["provider_stop"]
    assert (stop["address"], stop["done"], stop["planned"]) == (nobody, made, 200)
    assert stop["failed"] >= 5
    line = f"PROVIDER DOWN: {nobody} failed {stop['failed']} runs in a row, the last: {stop['last']}; {made} of 200 "
    assert sum(text.startswith(line) for text in result.outlines) == 2  # as a failure, and in the summary
    assert "ConnectError" in stop["last"]
    assert f"{200 - made} not run" in result.stdout.str()
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], outcomes["skipped"]) == (made + 1, 200 - made + 1)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (faults.server_error(500), "HTTP 500"),
        (faults.reset(), "ReadError"),
        (faults.rate_limited(0.01), "HTTP 429"),
        (faults.client_error(403), "HTTP 403"),
        (faults.html_page(), "not JSON"),
    ],
)
def test_a_provider_that_stops_answering_ends_the_session(suite: Suite, serve: Serve, fault: Answer, says: str) -> None:
    server = serve(lambda request: fault if request.index >= 4 else Answer("a name"))
    suite.write(asking(runs=30))
    result = suite.run("--experiment-concurrency=1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert server.request_count == 9
    assert statuses(suite) == {"passed": 4, "error": 5}
    result.stdout.fnmatch_lines([f"PROVIDER DOWN: {server.root_url} failed 5 runs in a row, the last: *{says}*"])
    result.stdout.fnmatch_lines(["*; 9 of 30 runs made, 21 not run"])


def test_a_key_that_never_worked_is_tried_three_times(suite: Suite, serve: Serve) -> None:
    server = serve(lambda _: faults.client_error(401, "Incorrect API key"))
    suite.write(asking(runs=30))
    result = suite.run("--experiment-concurrency=1")
    assert server.request_count == 3
    result.stdout.fnmatch_lines(["PROVIDER DOWN: * failed 3 runs in a row, the last: HTTP 401*3 of 30 runs made, 27*"])


@pytest.mark.parametrize("fault", [faults.client_error(400), faults.client_error(404), faults.client_error(422)])
def test_a_request_that_is_wrong_is_no_outage(suite: Suite, serve: Serve, fault: Answer) -> None:
    serve(lambda _: fault)
    suite.write(asking(runs=12))
    result = suite.run("--experiment-concurrency=1")
    assert statuses(suite) == {"error": 12}
    assert "PROVIDER DOWN" not in result.stdout.str()


def test_answers_in_between_keep_the_session_going(suite: Suite, serve: Serve) -> None:
    serve(lambda request: Answer("a name") if request.index % 4 == 3 else faults.server_error())
    suite.write(asking(runs=40))
    result = suite.run("--experiment-concurrency=1")
    assert statuses(suite) == {"passed": 10, "error": 30}
    assert "PROVIDER DOWN" not in result.stdout.str()


def test_tests_that_want_a_provider_to_fail_go_on(suite: Suite, serve: Serve) -> None:
    serve(lambda _: faults.server_error())
    suite.write(
        asking(runs=12).replace(
            'assert bot("Name a job.", model="m")("Hello")',
            'with pytest.raises(openai.APIStatusError): bot("Name a job.", model="m")("Hello")',
        )
    )
    result = suite.run("--experiment-concurrency=1")
    assert result.ret == 0
    assert statuses(suite) == {"passed": 12}


@pytest.mark.parametrize(("given", "made"), [("0", 12), ("2", 2), ("7", 7)])
def test_how_many_runs_it_may_fail_can_be_set(suite: Suite, serve: Serve, given: str, made: int) -> None:
    suite.pytester.makeini(f"[pytest]\nexperiment_give_up_after = {given}")
    server = serve(lambda _: faults.server_error())
    suite.write(asking(runs=12))
    result = suite.run("--experiment-concurrency=1")
    assert server.request_count == made
    assert ("PROVIDER DOWN" in result.stdout.str()) == (made < 12)


def test_an_outage_that_leaves_nothing_out_is_none(suite: Suite, serve: Serve) -> None:
    serve(lambda _: faults.server_error())
    suite.write(asking(runs=5))
    result = suite.run("--experiment-concurrency=1")
    assert statuses(suite) == {"error": 5}
    assert "PROVIDER DOWN" not in result.stdout.str()


def test_what_an_outage_left_out_is_made_when_the_provider_is_back(suite: Suite, serve: Serve) -> None:
    serve(lambda _: faults.server_error())
    suite.write(asking(runs=20))
    assert suite.run("--experiment-concurrency=1").ret == pytest.ExitCode.TESTS_FAILED
    _, before = latest(suite)
    back = serve(lambda _: Answer("a name"))
    result = suite.run("--experiment-resume", "--experiment-resume-anyway")  # at another address
    _, after = latest(suite)
    assert after.id == before.id
    assert after.status == "finished"
    assert back.request_count == 20 - 5 or back.request_count == 20
    assert "provider_stop" not in after.metadata
    assert "PROVIDER DOWN" not in result.stdout.str()


# -- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["rpm", "tpm"])
@pytest.mark.parametrize("number", ["0", "-1", "1.5", "1e3", "many", ""])
def test_a_wrong_cap_is_a_usage_error(suite: Suite, option: str, number: str) -> None:
    suite.write(asking(runs=1))
    result = suite.run(f"--experiment-{option}={number}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    what = {"rpm": "requests", "tpm": "tokens"}[option]
    result.stderr.fnmatch_lines([f"*--experiment-{option} is '{number}'; it is a whole number of {what} from 1, such*"])


@pytest.mark.parametrize("number", ["-1", "five", "1.5"])
def test_a_wrong_number_of_failed_runs_is_a_usage_error(suite: Suite, number: str) -> None:
    suite.pytester.makeini(f"[pytest]\nexperiment_give_up_after = {number}")
    suite.write(asking(runs=1))
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*experiment_give_up_after is '{number}'; it is a whole number of runs, 0 for never"])


def test_caps_come_from_the_environment_and_the_ini_file(
    suite: Suite, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(lambda _: Answer("a name"))
    suite.pytester.makeini("[pytest]\nexperiment_tpm = 1200")
    monkeypatch.setenv("LLMEXP_RPM", "120")
    suite.write(asking(runs=10))
    result = suite.run()
    result.stdout.fnmatch_lines(["held back * s for rate limits"])
