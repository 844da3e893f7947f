"""`Experiment`: the recording and the summary of a marked test, for a notebook or a script."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pytest_llmexp import AsyncSimpleBot, Experiment, SimpleBot, StructuredBot, experiment, metric, open_store, prompt
from pytest_llmexp.core.errors import ConfigurationError, GateSyntaxError, MetricError, ModelError
from pytest_llmexp.localmodel import LocalModelServer, Request
from pytest_llmexp.tracking.capture import LIBRARIES
from pytest_llmexp.tracking.repeats import Results
from pytest_llmexp.tracking.scope import current_run, current_scope
from tests.arrivals import Arrivals


@prompt("user")
def asking(what: str) -> None:
    """Tell me of {{ what }}."""


@metric
def length(text: Any) -> Any:
    return len(text)


def run_index() -> int:
    """Return which run this is."""
    run = current_run()
    assert run is not None
    return run.run.run_index


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "message_log.db"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalModelServer]:
    """Return a server that repeats what it is told, which OPENAI_BASE_URL names."""
    with LocalModelServer(echo) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        yield running


def echo(request: Request) -> str:
    return f"echo: {request.body['messages'][-1]['content']}"


def ask() -> str:
    return SimpleBot("You help.", model_name="gpt-4o")(asking(f"run {run_index()}"))


def test_a_function_is_executed_many_times_and_recorded(db: Path, server: LocalModelServer) -> None:
    with Experiment("names", num_executions=10, db=db) as running:
        texts = running.run(ask)
        lengths = length(texts)
    assert list(texts) == [f"echo: Tell me of run {index}." for index in range(1, 11)]
    assert list(lengths) == [len(text) for text in texts]
    assert running.results == texts
    assert running.errors == []
    assert running.problems == []
    with open_store(db) as store:
        stored = store.experiment("names")
        assert (stored.id, stored.status) == (running.id, "finished")
        runs = {run.id: run for run in store.runs(running.id)}
        assert sorted(run.run_index for run in runs.values()) == list(range(1, 11))
        assert {run.status for run in runs.values()} == {"passed"}
        assert {run.test for run in runs.values()} == {f"{__name__}.ask"}
        assert [run.output for run in sorted(runs.values(), key=lambda run: run.run_index)] == texts
        for call in store.calls(running.id):
            asked = call.request["messages"][-1]["content"]
            assert asked == f"Tell me of run {runs[str(call.run_id)].run_index}."
        assert [found.value for found in store.metrics(running.id)] == [
            len(runs[found.run_id].output) for found in store.metrics(running.id)
        ]
        assert store.summaries(running.id)
    (summary,) = [found for found in running.summaries if found.metric == "length" and found.case_id is None]
    assert (summary.n, summary.missing) == (10, 0)
    assert "length" in running.summary
    assert "ask" in running.summary


def test_a_decorated_function_is_executed_where_it_is_called(db: Path, server: LocalModelServer) -> None:
    calls: list[int] = []

    @experiment
    def generate(what: str, *, times: int = 1) -> str:
        calls.append(run_index())
        return what * times

    with Experiment("names", 3, db=db) as running:
        results = generate("ab", times=2)
        length(results)
    assert isinstance(results, Results)
    assert results == ["abab"] * 3
    assert sorted(calls) == [1, 2, 3]
    with open_store(db) as store:
        assert [run.params for run in store.runs(running.id)] == [{"what": "ab", "times": 2}] * 3


def test_outside_of_a_block_a_decorated_function_is_just_called() -> None:
    @experiment
    def generate() -> str:
        return "once"

    assert generate() == "once"


def test_a_decorated_function_called_in_a_run_is_called_once(db: Path) -> None:
    @experiment
    def inner() -> str:
        return "inner"

    with Experiment("names", 2, db=db) as running:
        results = running.run(lambda: inner() + "!")
    assert results == ["inner!"] * 2


def test_coroutine_functions_are_run_to_their_end(db: Path, server: LocalModelServer) -> None:
    @metric
    async def judged(text: Any) -> Any:
        return len(await AsyncSimpleBot("You judge.", model_name="gpt-4o")(text))

    async def generate() -> str:
        bot = AsyncSimpleBot("You help.", model_name="gpt-4o")
        one, two = await asyncio.gather(bot(f"a {run_index()}"), bot(f"b {run_index()}"))
        return one + two

    with Experiment("names", 6, db=db) as running:
        texts = running.run(generate)
        asyncio.run(judged(texts))
    assert texts == [f"echo: a {index}echo: b {index}" for index in range(1, 7)]
    with open_store(db) as store:
        runs = {run.id: run.run_index for run in store.runs(running.id)}
        generations = [call for call in store.calls(running.id) if call.role == "generation"]
        assert len(generations) == 12
        assert all(call.request["messages"][-1]["content"][2:] == str(runs[str(call.run_id)]) for call in generations)
        assert len(store.metrics(running.id)) == 6


def test_in_a_running_event_loop_the_block_works_as_in_a_notebook(db: Path, server: LocalModelServer) -> None:
    @experiment
    async def generate() -> str:
        return await AsyncSimpleBot(model_name="gpt-4o")(f"{run_index()}")

    async def cell() -> Experiment:
        with Experiment("names", 3, db=db) as running:
            results = await generate()
            assert sorted(results) == ["echo: 1", "echo: 2", "echo: 3"]
            running.run(ask)
            length(results)
        return running

    running = asyncio.run(cell())
    with open_store(db) as store:
        assert len(store.runs(running.id)) == 6
        assert len(store.metrics(running.id)) == 3
        assert store.call_totals(running.id).unattributed == 0


def test_a_block_in_another_thread_works(db: Path, server: LocalModelServer) -> None:
    def block() -> Experiment:
        with Experiment("names", 2, db=db) as running:
            running.run(ask)
        return running

    with ThreadPoolExecutor(1) as pool:
        assert len(pool.submit(block).result().results) == 2
    assert current_scope() is None


def test_exceptions_of_runs_do_not_stop_the_others(db: Path) -> None:
    def generate() -> int:
        match run_index():
            case 2:
                raise AssertionError("not good enough")
            case 3:
                raise OSError("no network")
            case 4:
                sys.exit("I quit")
        return run_index()

    with Experiment("names", 5, db=db) as running:
        results = running.run(generate)
    assert results == [1, 5]
    assert sorted(type(error).__name__ for error in running.errors) == ["AssertionError", "OSError", "SystemExit"]
    with open_store(db) as store:
        runs = {run.run_index: run for run in store.runs(running.id)}
    assert [runs[index].status for index in range(1, 6)] == ["passed", "failed", "error", "error", "passed"]
    assert [runs[index].error for index in (2, 3)] == ["AssertionError: not good enough", "OSError: no network"]
    assert all(run.duration_s is not None and run.duration_s < 60 for run in runs.values())


def test_exceptions_of_a_metric_belong_to_its_run(db: Path) -> None:
    @metric
    def picky(number: Any) -> Any:
        if number == 2:
            raise ValueError("no twos")
        return number

    @metric
    def doubled(number: Any) -> Any:
        return number * 2

    with Experiment("names", 3, db=db) as running:
        numbers = running.run(run_index)
        assert picky(numbers) == [1, 3]
        assert doubled(numbers) == [2, 4, 6]
    assert [str(error) for error in running.errors] == ["no twos"]
    with open_store(db) as store:
        runs = {run.id: run for run in store.runs(running.id)}
        stored = {(runs[found.run_id].run_index, found.name): found.value for found in store.metrics(running.id)}
    assert {run.run_index: (run.status, run.error) for run in runs.values()} == {
        1: ("passed", None),
        2: ("error", "ValueError: no twos"),
        3: ("passed", None),
    }
    assert stored == {
        (1, "picky"): 1.0,
        (3, "picky"): 3.0,
        (1, "doubled"): 2.0,
        (2, "doubled"): 4.0,
        (3, "doubled"): 6.0,
    }


def test_a_metric_that_fails_in_every_run_is_a_mistake_that_is_raised(db: Path) -> None:
    @metric
    def worded(number: Any) -> Any:
        return f"number {number}"

    running = Experiment("names", 3, db=db)
    with pytest.raises(MetricError, match=r"metric 'worded': .*str"), running:
        worded(running.run(run_index))
    with open_store(db) as store:
        assert store.experiment("names").status == "interrupted"


def test_results_come_first_in_a_metrics_arguments(db: Path) -> None:
    @metric
    def closer(number: Any, to: Any) -> Any:
        return abs(number - to)

    with Experiment("names", 2, db=db) as running:
        numbers = running.run(run_index)
        with pytest.raises(MetricError, match=r"come first: closer\(results, \.\.\.\)|first argument"):
            closer(to=numbers, number=1)
        assert closer(numbers, to=2) == [1, 0]


def test_what_a_run_costs_in_time_leaves_out_the_waiting_for_its_turn(db: Path) -> None:
    begun: list[float] = []

    def fail() -> None:
        begun.append(time.perf_counter())
        threading.Event().wait(0.05)
        raise AssertionError

    with Experiment("names", 6, db=db, concurrency=1) as running:
        running.run(fail)
    with open_store(db) as store:
        runs = sorted(store.runs(running.id), key=lambda run: run.run_index)
    spread = begun[-1] - begun[0]
    assert max(run.duration_s or 0 for run in runs) < spread


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_so_many_runs_go_on_at_a_time(db: Path, concurrency: int) -> None:
    together = threading.Barrier(concurrency)
    with Experiment("names", concurrency * 2, db=db, concurrency=concurrency) as running:
        results = running.run(lambda: together.wait(20) >= 0)
    assert results == [True] * concurrency * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_executions": 0}, "num_executions is a whole number from 1, not 0"),
        ({"num_executions": True}, "not True"),
        ({"num_executions": 2.5}, "not 2.5"),
        ({"num_executions": "10"}, "not '10'"),
        ({"concurrency": 0}, "concurrency is a whole number from 1, not 0"),
        ({"name": ""}, "an experiment's name is text that is not empty"),
        ({"name": None}, "not None"),
        ({"gates": "mean(x) > 1"}, "a list of gates, not one text"),
        ({"tags": ["a"]}, "tags is a mapping"),
        ({"rpm": 0}, "rpm is a whole number of requests from 1, not 0"),
        ({"tpm": 1.5}, "tpm is a whole number of tokens from 1, not 1.5"),
        ({"base_url": "nope"}, "base_url is 'nope'; it is an address such as http://127.0.0.1:11434/v1"),
        ({"base_url": "http://"}, "base_url is 'http://'; it is an address"),
        ({"base_url": "http://[::1/v1"}, "; it is an address"),
        ({"replay": True}, "replay is True; allowed: off, auto, only"),
    ],
)
def test_bad_arguments_are_clear_errors(db: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Experiment(**{"name": "names", "db": db, **arguments})
    assert not db.exists()


def test_answers_that_were_recorded_are_served_again(db: Path, server: LocalModelServer) -> None:
    with Experiment("names", 3, db=db) as first:
        texts = first.run(ask)
    with Experiment("names", 4, db=db, replay="auto") as second:
        assert list(second.run(ask))[:3] == list(texts)
    assert len(server.requests) == 4
    with Experiment("names", 5, db=db, replay="only") as third:
        length(third.run(ask))
    assert len(server.requests) == 4
    assert [result.rpartition(" ")[2] for result in third.results] == ["1.", "2.", "3.", "4."]
    (missed,) = third.errors
    assert "no answer is recorded for call 1 of" in str(missed)
    assert "5 runs (4 passed, 1 error), 4 calls (4 replayed)" in third.summary
    with open_store(db) as store:
        latest = store.experiment(third.id)
        assert all(call.replayed_from for call in store.calls(latest.id))


def test_recorded_answers_need_neither_key_nor_server(db: Path) -> None:
    with LocalModelServer(echo) as running, Experiment("x", 2, db=db, model="m", base_url=running.base_url) as first:
        first.run(ask_default)
    with Experiment("x", 2, db=db, model="m", base_url=running.base_url, replay="only") as second:
        assert second.run(ask_default) == first.results


def ask_default() -> str:
    return str(SimpleBot("You help.")("Hello"))


def test_requests_per_minute_are_capped(db: Path) -> None:
    arrivals = Arrivals()
    with (
        LocalModelServer(arrivals) as running,
        Experiment("x", 10, db=db, model="m", base_url=running.base_url, rpm=120, tpm=10_000_000) as capped,
    ):
        capped.run(ask_default)
    assert len(capped.results) == 10
    assert arrivals.keep(120, late_s=0.5)
    with open_store(db) as store:
        assert any(call.wait_s for call in store.calls(capped.id))


def test_a_bad_gate_is_an_error_before_anything_begins(db: Path) -> None:
    with pytest.raises(GateSyntaxError):
        Experiment("names", db=db, gates=["mean(x >= 1"])
    assert not db.exists()


def test_a_model_without_key_or_address_is_an_error_with_a_hint(db: Path) -> None:
    with pytest.raises(ModelError, match="set OPENAI_API_KEY"):
        Experiment("names", db=db, model="gpt-4o")
    with Experiment("names", 2, db=db) as running:
        running.run(ask)
    assert [type(error) for error in running.errors] == [ModelError, ModelError]
    assert "neither a key nor a base URL" in str(running.errors[0])


def test_the_built_in_model_answers_when_nothing_is_configured(db: Path) -> None:
    with Experiment("names", 2, db=db) as running:
        texts = running.run(lambda: str(SimpleBot("You name jobs.")("Name a job.")))
    assert all(texts)
    with open_store(db) as store:
        assert {call.model_returned for call in store.calls(running.id)} == {"local-sampler (not an LLM)"}
        assert "not an LLM" in store.experiment(running.id).model_source


def test_wrong_arguments_of_the_function_are_an_error_before_any_run(db: Path) -> None:
    def generate(what: str) -> str:
        return what

    wrong: list[tuple[Any, ...]] = [(generate,), (generate, 1, 2), ("text",), (None,)]
    with Experiment("names", 2, db=db) as running:
        for arguments in wrong:
            with pytest.raises(ConfigurationError):
                running.run(*arguments)
        with pytest.raises(ConfigurationError, match=r"generate\(what: 'str'\).* does not take these arguments.*what"):
            running.run(generate)
        assert running.run(generate, "ok") == ["ok", "ok"]
    with open_store(db) as store:
        assert len(store.runs(running.id)) == 2


def test_the_same_function_twice_is_an_error(db: Path) -> None:
    with Experiment("names", 1, db=db) as running:
        running.run(run_index)
        with pytest.raises(ConfigurationError, match="was run in this experiment already"):
            running.run(run_index)


def test_outside_of_its_block_an_experiment_says_what_to_do(db: Path) -> None:
    running = Experiment("names", 1, db=db)
    with pytest.raises(ConfigurationError, match="use it in a with statement"):
        _ = running.id
    with pytest.raises(ConfigurationError, match="executes within the block"):
        running.run(run_index)
    with running:
        running.run(run_index)
    with pytest.raises(ConfigurationError, match="executes within the block"):
        running.run(ask)
    with pytest.raises(ConfigurationError, match="was used before"):
        running.__enter__()


def test_an_exception_in_the_block_interrupts_the_experiment(db: Path, server: LocalModelServer) -> None:
    running = Experiment("names", 2, db=db, gates=["pass_rate >= 0.5"])
    with pytest.raises(ZeroDivisionError), running:
        running.run(ask)
        _ = 1 / 0
    with open_store(db) as store:
        stored = store.experiment(running.id)
        assert (stored.status, len(store.runs(running.id)), len(store.calls(running.id))) == ("interrupted", 2, 2)
    assert running.verdicts == []
    assert stored.finished_at is not None
    assert current_scope() is None


def test_gates_are_judged_for_every_function(db: Path) -> None:
    def always() -> None: ...

    def never() -> None:
        raise AssertionError

    with Experiment("names", 20, db=db, gates=["pass_rate >= 0.5"]) as running:
        running.run(always)
        running.run(never)
    verdicts = {verdict.test.rpartition(".")[2]: verdict.verdict for verdict in running.verdicts}
    assert verdicts == {"always": "passed", "never": "failed"}


def test_experiments_one_after_the_other_and_inside_each_other(db: Path, server: LocalModelServer) -> None:
    with Experiment("first", 2, db=db) as first:
        first.run(ask)
    with Experiment("outer", 2, db=db) as outer:
        with Experiment("inner", 3, db=db) as inner:
            inner.run(ask)
        outer.run(ask)
    with open_store(db) as store:
        for running, number in ((first, 2), (outer, 2), (inner, 3)):
            assert len(store.calls(running.id)) == len(store.runs(running.id)) == number
            assert store.call_totals(running.id).unattributed == 0


def test_overlapping_experiments_in_threads_keep_apart(
    db: Path, server: LocalModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untouched() -> list[Any]:
        libraries = [sys.modules[name] for name in LIBRARIES if name in sys.modules]
        hooks = [vars(kind)["send"] for library in libraries for kind in (library.Client, library.AsyncClient)]
        return [*hooks, threading.Thread.start, ThreadPoolExecutor.submit]

    before = untouched()
    begun = threading.Barrier(3)

    def block(number: int) -> Experiment:
        with Experiment(f"experiment {number}", 3, db=db) as running:
            begun.wait(30)
            for name in ("one", "two")[: 1 + number % 2]:

                def generate() -> str:
                    return SimpleBot(model_name="gpt-4o")(f"experiment {number}")

                generate.__qualname__ = name
                running.run(generate)
        return running

    with ThreadPoolExecutor(3) as pool:
        finished = list(pool.map(block, range(3)))
    with open_store(db) as store:
        for number, running in enumerate(finished):
            asked = [call.request["messages"][0]["content"] for call in store.calls(running.id)]
            assert asked == [f"experiment {number}"] * 3 * (1 + number % 2)
            assert store.call_totals(running.id).unattributed == 0
    assert untouched() == before


def test_many_runs_at_once_with_threads_keep_apart(db: Path, server: LocalModelServer) -> None:
    def generate() -> list[str]:
        index = run_index()
        bot = SimpleBot(f"system {index}", model_name="gpt-4o")
        with ThreadPoolExecutor(3) as pool:
            return [str(text) for text in pool.map(lambda part: bot(f"run {index} part {part}"), range(3))]

    with Experiment("names", 40, db=db, concurrency=8) as running:
        running.run(generate)
    with open_store(db) as store:
        runs = {run.id: run.run_index for run in store.runs(running.id)}
        calls = store.calls(running.id)
    assert len(calls) == 120
    for call in calls:
        index = runs[str(call.run_id)]
        assert call.request["messages"][0]["content"] == f"system {index}"
        assert call.request["messages"][1]["content"].startswith(f"run {index} part ")


def refuse_metrics(db: Path) -> None:
    """Let the store refuse metrics from now on, as a full disk would."""
    connection = sqlite3.connect(db)
    connection.execute("CREATE TRIGGER full BEFORE INSERT ON metrics BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    connection.commit()
    connection.close()


def test_a_store_that_fails_in_the_middle_is_a_warning(db: Path, server: LocalModelServer) -> None:
    running = Experiment("names", 3, db=db, gates=["pass_rate >= 0.1"])
    running.__enter__()
    refuse_metrics(db)
    assert length(running.run(ask)) == [len("echo: Tell me of run 1.")] * 3
    with pytest.warns(RuntimeWarning, match=r"not recorded: .*disk full"):
        running.__exit__(None, None, None)
    assert running.problems
    assert [verdict.verdict for verdict in running.verdicts] == ["undecided"]
    with open_store(db) as store:
        assert store.experiment(running.id).metadata["problems"] == running.problems


SCRIPT = """
import sys, threading
from pytest_llmexp import Experiment, SimpleBot

def generate():
    text = SimpleBot(model_name="gpt-4o")("hello")
    return str(text)

try:
    with Experiment("names", 50, concurrency=2, db=sys.argv[1]) as running:
        running.run(generate)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_leaves_a_consistent_store_and_begins_no_further_run(tmp_path: Path, db: Path) -> None:
    asked: list[Request] = []
    go = threading.Event()

    def answer(request: Request) -> str:
        asked.append(request)
        if len(asked) > 4:
            go.wait(30)
        return "hello"

    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    with LocalModelServer(answer) as server:
        process = subprocess.Popen(
            [sys.executable, str(script), str(db)],
            env={**os.environ, "OPENAI_BASE_URL": server.base_url},
            stdout=subprocess.PIPE,
            text=True,
        )
        server.wait_for_requests(6, timeout_s=60)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        go.set()
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "interrupted\n")
    with open_store(db) as store:
        stored = store.experiment("names")
        runs, calls = store.runs(stored.id), store.calls(stored.id)
        assert stored.status == "interrupted"
        assert {run.status for run in runs} == {"passed"}
        assert {call.status for call in calls} == {"ok"}
        assert len(runs) == len(calls) == len(server.requests) < 10
    check = sqlite3.connect(db)
    assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check.close()


def test_the_only_connections_are_to_the_configured_address(
    db: Path, server: LocalModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: set[Any] = set()
    connect = socket.socket.connect

    def noted(self: socket.socket, address: Any) -> None:
        reached.add(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    with Experiment("names", 3, db=db) as running:
        running.run(ask)
    assert reached == {("127.0.0.1", server.port)}


def test_the_store_is_found_by_environment_and_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Experiment("names", 1) as running:
        running.run(run_index)
    assert (tmp_path / "message_log.db").exists()
    monkeypatch.setenv("LLMEXP_DB", str(tmp_path / "other.db"))
    with Experiment("names", 1) as running:
        running.run(run_index)
    assert (tmp_path / "other.db").exists()


def test_structured_results_are_stored_as_json(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Job(BaseModel):
        name: str

    with LocalModelServer(lambda _: {"name": "chef"}) as server:
        with Experiment("names", 2, db=db, model="gpt-4o", base_url=server.base_url, tags={"team": "a"}) as running:
            jobs = running.run(lambda: StructuredBot("You name jobs.", pydantic_model=Job)("go"))
        assert jobs == [Job(name="chef")] * 2
    with open_store(db) as store:
        assert [run.output for run in store.runs(running.id)] == [{"name": "chef"}] * 2
        assert store.experiment(running.id).tags == {"team": "a"}
        assert json.dumps(store.bots(running.id)[0].params)
