"""The sketch that this project began with, as a marked test that calls the same functions."""

from __future__ import annotations

import inspect

import pytest

from pytest_llmexp.localmodel import LocalModelServer
from tests.conftest import Suite
from tests.tracking import test_sketch

MARKED = """

@pytest.mark.experiment(n=10)
def test_job_names():
    response = name_generator()
    name_length(response)
    llm_judge(response)
"""


def test_the_sketch_runs_as_a_marked_test(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    source = inspect.getsource(test_sketch)
    functions = source[source.index("from __future__") : source.index("@pytest.fixture")]
    suite.write(functions + MARKED)
    with LocalModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        result = suite.run("--experiment-name=sketch")
    result.assert_outcomes(passed=10)
    store = suite.store()
    stored = store.experiment("sketch")
    runs = {run.id: run for run in store.runs(stored.id)}
    assert sorted(run.run_index for run in runs.values()) == list(range(1, 11))
    calls = store.calls(stored.id)
    assert {(call.run_id, call.role) for call in calls} == {
        (run, role) for run in runs for role in ("generation", "evaluation")
    }
    assert len(calls) == 20
    assert sorted(found.name for found in store.metrics(stored.id)) == ["llm_judge"] * 10 + ["name_length"] * 10
    assert len(store.prompt_uses(stored.id)) == 40
    assert {bot.model_name for bot in store.bots(stored.id)} == {"gpt-4o"}
    assert {summary.metric for summary in store.summaries(stored.id)} >= {"llm_judge", "name_length"}
