"""The sketch that this project began with runs, with its typos mended and nothing else changed.

Mended: docstrings are indented, "an job" and unbalanced brackets, `field` is pydantic's `Field`, the judge gets a
system prompt and is told the name, and a metric returns its score: a scalar, not the object around it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from pytest_llmexp import Experiment, StructuredBot, experiment, metric, open_store, prompt
from pytest_llmexp.localmodel import LocalModelServer


@prompt("system")
def jdbot_sysprompt(type_of_manager):  # type: ignore[no-untyped-def]
    """You are an {{ type_of_manager }}."""


@prompt("user")
def jdbot_user_message(job_description):  # type: ignore[no-untyped-def]
    """Give me a name for a job that follows this description: {{ job_description }}."""


class JobDescription(BaseModel):
    name: str = Field(..., description="A job name.")
    description: str = Field(..., description="A job description.")


@experiment
def name_generator():  # type: ignore[no-untyped-def]
    bot = StructuredBot(jdbot_sysprompt("data science manager"), model_name="gpt-4o", pydantic_model=JobDescription)
    response = bot(jdbot_user_message("someone who builds full stack AI apps"))
    return response  # noqa: RET504  as it was written


@metric  # <-- this decorator validates that the eval function returns a scalar-type thing
def name_length(response):  # type: ignore[no-untyped-def]
    return len(response.name)


@prompt("system")
def judgebot_sysprompt():  # type: ignore[no-untyped-def]
    """You are a judge of how cool a name is."""


@prompt("user")
def judgebot_userprompt(namebot_response):  # type: ignore[no-untyped-def]
    """Return for me your coolness score: 1-10. The name: {{ namebot_response.name }}"""


class JobNameCoolness(BaseModel):
    score: int = Field(..., description="How cool the job name is. 1 = not cool, 10 = amazeballer.", ge=1, le=10)


@metric
def llm_judge(namebot_response):  # type: ignore[no-untyped-def]
    judgebot = StructuredBot(judgebot_sysprompt(), model_name="gpt-4o", pydantic_model=JobNameCoolness)
    coolness = judgebot(judgebot_userprompt(namebot_response))
    return coolness.score


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    monkeypatch.chdir(tmp_path)
    with LocalModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


def test_the_sketch_runs_as_it_was_written() -> None:
    with Experiment("experiment_name", num_executions=10) as running:
        # we auto-parallelize the code inside the context manager block 10X using concurrent threadpool.
        # logging automatically happens within the Experiment context.
        response = name_generator()
        name_length(response)
        llm_judge(response)

    assert running.errors == []
    assert len(running.results) == 10
    with open_store("message_log.db") as store:
        runs = {run.id: run for run in store.runs(running.id)}
        assert sorted(run.run_index for run in runs.values()) == list(range(1, 11))
        calls = store.calls(running.id)
        assert {(call.run_id, call.role) for call in calls} == {
            (run, role) for run in runs for role in ("generation", "evaluation")
        }
        assert len(calls) == 20
        assert {call.model_requested for call in calls} == {"gpt-4o"}
        assert {bot.system_prompt for bot in store.bots(running.id)} == {
            "You are an data science manager.",
            "You are a judge of how cool a name is.",
        }
        assert {version.name.rpartition(".")[2] for version in store.prompt_versions(running.id)} == {
            "jdbot_sysprompt",
            "jdbot_user_message",
            "judgebot_sysprompt",
            "judgebot_userprompt",
        }
        assert len(store.prompt_uses(running.id)) == 40
        recorded = {(found.run_id, found.name): found.value for found in store.metrics(running.id)}
        for run in runs.values():
            assert recorded[run.id, "name_length"] == len(run.output["name"])
            assert 1 <= recorded[run.id, "llm_judge"] <= 10
        assert len(recorded) == 20
        for call in calls:
            if call.role == "evaluation":
                assert runs[str(call.run_id)].output["name"] in call.request["messages"][-1]["content"]
    assert "name_length" in running.summary
    assert "llm_judge" in running.summary


def test_the_sketch_runs_without_the_decorator_through_run() -> None:
    with Experiment("experiment_name", num_executions=10) as running:
        response = running.run(name_generator)
        name_length(response)
        llm_judge(response)
    assert len(running.results) == 10
    assert {summary.metric for summary in running.summaries} >= {"name_length", "llm_judge"}
