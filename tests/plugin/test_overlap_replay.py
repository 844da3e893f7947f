"""With --experiment-replay=only bodies are executed in one thread, unless they wait for something."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import pytest

from pytest_llmexp.localmodel import LocalModelServer
from tests.conftest import Suite

SUITE = """
    import threading, time
    import pytest

    @pytest.fixture
    def place(request):
        yield request.node.name

    in_flight, barrier = set(), threading.Barrier(4)

    @pytest.mark.experiment(n=12)
    def test_x(bot, record_metric, place, experiment_run):
        in_flight.add(place)
        answer = bot("Be brief.")("Hello")
        print("said", answer, "in", place)
        record_metric("length", len(answer))
        {more}
        record_metric("thread", threading.get_ident())
        record_metric("others", len(in_flight) - 1)
        in_flight.remove(place)
"""
ONLY = ("--experiment-replay=only", "--experiment-name=again")


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalModelServer]:
    with LocalModelServer(lambda request: "x" * (request.index + 1)) as started:
        monkeypatch.setenv("OPENAI_BASE_URL", started.base_url)
        monkeypatch.setenv("LLMEXP_MODEL", "gpt-x")
        yield started


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy elsewhere makes no run look as if it waited."""
    monkeypatch.setattr("pytest_llmexp.runtest.one_thread._WAITED_S", 60.0)


def record(suite: Suite, more: str = "pass") -> None:
    """Record the runs as experiment `paid`, then give their bodies a further line."""
    suite.write(SUITE.format(more="pass"))
    suite.run("--experiment-name=paid")
    suite.write(SUITE.format(more=more))


def metrics(suite: Suite, name: str, experiment: str) -> list[float]:
    store = suite.store()
    found = store.experiment(experiment)
    values = {metric.run_id: metric.value for metric in store.metrics(found.id) if metric.name == name}
    return [values[run.id] for run in sorted(store.runs(found.id), key=lambda run: run.run_index) if run.id in values]


@pytest.mark.usefixtures("patience")
def test_bodies_without_calls_are_executed_in_one_thread(suite: Suite) -> None:
    record(suite)
    assert suite.run(*ONLY).ret == 0
    assert len(set(metrics(suite, "thread", "again"))) == 1
    assert metrics(suite, "others", "again") == [0.0] * 12
    assert metrics(suite, "length", "again") == metrics(suite, "length", "paid")


def test_reports_are_in_order_and_each_has_its_own_output(suite: Suite) -> None:
    record(suite, "assert experiment_run.index % 3")
    result = suite.run(*ONLY, "-v")
    result.assert_outcomes(passed=8, failed=4)
    lines = [line for line in result.outlines if "test_x[run" in line and ("PASSED" in line or "FAILED" in line)]
    assert [line.partition("[run")[2].partition("]")[0] for line in lines[:12]] == [str(n) for n in range(1, 13)]
    said = [line for line in result.outlines if line.startswith("said ")]
    assert [line.rpartition(" ")[2] for line in said] == [f"test_x[run{n}]" for n in (3, 6, 9, 12)]


def test_a_test_that_waits_for_something_goes_back_to_threads(suite: Suite) -> None:
    record(suite, "time.sleep(0.15)")
    assert suite.run(*ONLY).ret == 0
    assert max(metrics(suite, "others", "again")) > 0


def test_runs_that_wait_for_each_other_hold_nothing_up(suite: Suite) -> None:
    record(suite, "barrier.wait(60)")
    assert suite.run(*ONLY, "--experiment-concurrency=4").ret == 0
    assert max(metrics(suite, "others", "again")) <= 3  # the limit holds
    assert metrics(suite, "length", "again") == metrics(suite, "length", "paid")


def test_coroutines_that_wait_for_each_other_hold_nothing_up(suite: Suite) -> None:
    suite.write(
        """
        import asyncio, pytest
        barrier = asyncio.Barrier(3)
        @pytest.mark.experiment(n=6)
        async def test_x(): await asyncio.wait_for(barrier.wait(), 60)
        """
    )
    suite.run(*ONLY, "--experiment-concurrency=3").assert_outcomes(passed=6)


@pytest.mark.parametrize("option", ["-x", "--experiment-replay=auto", "-o experiment_timeout=30"])
def test_what_may_end_a_session_or_a_run_early_stays_in_threads(suite: Suite, option: str) -> None:
    record(suite, "time.sleep(0.02)")
    suite.run(*ONLY, *option.split(" "))
    assert max(metrics(suite, "others", "again")) > 0


@pytest.mark.usefixtures("patience")
def test_runs_are_set_up_and_executed_many_at_a_time(suite: Suite) -> None:
    suite.write(
        """
        import pathlib, pytest
        events = []

        @pytest.fixture
        def set_up():
            events.append("setup")
            yield
            events.append("teardown")

        @pytest.mark.experiment(n=40)
        def test_x(set_up):
            events.append("body")

        def test_tell():
            pathlib.Path("events.txt").write_text(" ".join(events))
        """
    )
    assert suite.run(*ONLY, "--experiment-concurrency=2").ret == 0
    events = (suite.path / "events.txt").read_text().split()
    in_a_row = [(kind, len(list(several))) for kind, several in groupby(events)]
    assert in_a_row == [(kind, n) for n in (16, 16, 8) for kind in ("setup", "body", "teardown")]


def test_an_interrupt_ends_the_session_at_once(suite: Suite) -> None:
    record(suite, "if experiment_run.index == 3: raise KeyboardInterrupt")
    result = suite.run(*ONLY, new_process=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    store = suite.store()
    runs = store.runs(store.experiments()[0].id)
    statuses = [run.status for run in sorted(runs, key=lambda run: run.run_index)]
    assert statuses[:2] == ["passed", "passed"]
    assert set(statuses[2:]) == {"crashed"}


def test_coroutines_and_their_answers_are_the_same(suite: Suite) -> None:
    suite.write(
        """
        import pytest
        @pytest.mark.experiment(n=5)
        async def test_x(async_bot, record_metric):
            record_metric("length", len(await async_bot("Be brief.")("Hello")))
        """
    )
    suite.run("--experiment-name=paid")
    assert suite.run(*ONLY).ret == 0
    assert metrics(suite, "length", "again") == metrics(suite, "length", "paid")
