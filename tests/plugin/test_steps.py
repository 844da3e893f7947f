"""Steps in a suite: each run has its own tree, whatever overlaps and in whatever process it is executed."""

from __future__ import annotations

from collections import Counter

import pytest

from pytest_llmexp.core.models import Step
from pytest_llmexp.store import Store
from tests.conftest import Suite

SUITE = """
    import asyncio
    import threading
    import pytest
    from pytest_llmexp import step

    @step
    def retrieve(query):
        return [query + " 1", query + " 2"]

    @step
    async def answer(async_bot, question):
        return await async_bot("You answer.")(question)

    @pytest.fixture(scope="module")
    def index():
        with step("build index"):
            yield "index"

    @pytest.fixture
    def session():
        with step("session"):
            yield

    @pytest.mark.experiment(n=4)
    def test_sync(bot, index, session, experiment_run):
        me = str(experiment_run.index)
        with step("answer", index=me) as s:
            documents = retrieve(me)
            thread = threading.Thread(target=lambda: retrieve(me + " again"))
            thread.start()
            thread.join()
            s.output = bot("You answer.")(me)

    @pytest.mark.experiment(n=4)
    async def test_async(async_bot, experiment_run):
        me = str(experiment_run.index)
        with step("both"):
            await asyncio.gather(answer(async_bot, me + "a"), answer(async_bot, me + "b"))

    @pytest.mark.experiment(n=2)
    def test_breaks():
        with step("outer"), step("inner"):
            raise ValueError("by design")
"""


def paths(store: Store, experiment_id: str, run_id: str) -> Counter[tuple[str, ...]]:
    """Count the steps and calls of a run by the names of the steps they lie in, and their own."""
    steps = {step.id: step for step in store.steps(experiment_id, run_id)}

    def path(step: Step) -> tuple[str, ...]:
        above = path(steps[step.parent_step_id]) if step.parent_step_id else ()
        return (*above, step.name)

    counted = Counter(map(path, steps.values()))
    for call in store.calls(experiment_id, run_id):
        counted[(*(path(steps[call.step_id]) if call.step_id else ()), "a call")] += 1
    return counted


@pytest.mark.parametrize(
    "options",
    [(), ("--experiment-concurrency=1",), pytest.param(("-n", "2"), marks=pytest.mark.xdist)],
    ids=["overlapping", "one at a time", "two workers"],
)
def test_every_run_has_its_own_tree(suite: Suite, options: tuple[str, ...]) -> None:
    suite.write(SUITE)
    result = suite.run("--experiment-name=x", *options)
    result.assert_outcomes(passed=8, failed=2)
    store = suite.store()
    experiment = store.experiment("x")
    for run in store.runs(experiment.id):
        steps = store.steps(experiment.id, run.id)
        assert all(step.duration_s is not None for step in steps)
        found = paths(store, experiment.id, run.id)
        if "test_sync" in run.test:
            assert found == {
                ("session",): 1,
                ("session", "answer"): 1,
                ("session", "answer", "retrieve"): 2,
                ("session", "answer", "a call"): 1,
            }
            queries = {step.input["query"] for step in steps if step.name == "retrieve"}
            assert queries == {f"{run.run_index}", f"{run.run_index} again"}
        elif "test_async" in run.test:
            assert found == {("both",): 1, ("both", "answer"): 2, ("both", "answer", "a call"): 2}
        else:
            assert {step.error for step in steps} == {"ValueError: by design"}
            assert found == {("outer",): 1, ("outer", "inner"): 1}
    shared = [step for step in store.steps(experiment.id) if step.run_id is None]
    assert {(step.name, step.parent_step_id) for step in shared} == {("build index", None)}


def test_a_killed_run_shows_the_step_it_was_at(suite: Suite) -> None:
    suite.write("""
        import os
        import pytest
        from pytest_llmexp import step

        @pytest.mark.experiment(n=1)
        def test_dies(bot):
            with step("before"):
                pass
            with step("deadly", reason="by design"):
                bot()("last words")
                os._exit(3)
    """)
    assert suite.run("--experiment-name=x", new_process=True).ret == 3
    store = suite.store()
    before, deadly = store.steps(store.experiment("x").id)
    assert before.duration_s is not None
    assert (deadly.name, deadly.input, deadly.duration_s, deadly.error) == (
        "deadly",
        {"reason": "by design"},
        None,
        None,
    )
    assert store.calls(deadly.experiment_id)[0].step_id == deadly.id
