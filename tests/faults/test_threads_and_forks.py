"""R20: threads and forks of bodies that overlap may call models, and every call is recorded under its run."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.conftest import Suite


def test_calls_of_threads_pools_and_tasks_are_all_there_with_32_runs_in_flight(suite: Suite) -> None:
    suite.write("""
        import asyncio, threading, pytest
        from concurrent.futures import ThreadPoolExecutor
        shared = ThreadPoolExecutor(8)
        together = threading.Barrier(32, timeout=60)
        @pytest.mark.experiment(n=32)
        def test_sync(bot, experiment_run):
            ask, name = bot("You."), f"run {experiment_run.index}"
            together.wait()
            thread = threading.Thread(target=ask, args=(f"{name} thread",))
            thread.start()
            waiting = [shared.submit(ask, f"{name} shared pool {i}") for i in range(2)]
            with ThreadPoolExecutor(2) as pool: list(pool.map(ask, [f"{name} pool {i}" for i in range(2)]))
            thread.join()
            for each in waiting: each.result()
        @pytest.mark.experiment(n=32)
        async def test_async(async_bot, experiment_run):
            ask, name = async_bot("You."), f"run {experiment_run.index}"
            await asyncio.gather(*(ask(f"{name} task {i}") for i in range(5)))
    """)
    suite.run("--experiment-concurrency=32", "--experiment-name=x").assert_outcomes(passed=64)
    store = suite.store()
    experiment = store.experiment("x")
    runs = {run.id: run for run in store.runs(experiment.id)}
    calls = store.calls(experiment.id)
    assert Counter(call.run_id for call in calls) == dict.fromkeys(runs, 5)
    for call in calls:
        assert call.request["messages"][-1]["content"].startswith(f"run {runs[str(call.run_id)].run_index} ")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_calls_of_forked_children_are_all_there(suite: Suite) -> None:
    suite.write("""
        import os, pytest, warnings
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # Python 3.12 on: of forking with threads
        @pytest.mark.experiment(n=12)
        def test_x(bot, experiment_run):
            ask = bot("You.")
            ask("parent")
            child = os.fork()
            if not child:
                try: ask("child")
                finally: os._exit(0)
            os.waitpid(child, 0)
    """)
    suite.run("--experiment-concurrency=12", "--experiment-name=x", new_process=True).assert_outcomes(passed=12)
    store = suite.store()
    experiment = store.experiment("x")
    runs = [run.id for run in store.runs(experiment.id)]
    said = Counter((call.run_id, call.request["messages"][-1]["content"]) for call in store.calls(experiment.id))
    assert said == {(run, words): 1 for run in runs for words in ("parent", "child")}
