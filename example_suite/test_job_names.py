"""Start here: one prompt, two temperatures, ten runs of each, and a second bot that judges the answers.

    pytest example_suite/test_job_names.py --experiment-name=first

Without a model or an API key the answers come from a small sampler that is built in. It is not an LLM, so the
numbers show how an experiment works and say nothing about a model. With a key the same file asks a real one:

    OPENAI_API_KEY=... pytest example_suite/test_job_names.py --experiment-model=gpt-4.1-mini
"""

import pytest
from pydantic import BaseModel, Field

from pytest_llmexp import BotFactory, RecordMetric, StructuredBot, metric, prompt


# The answer is an instance of this class. Its docstring and field names are sent to the model as a JSON schema.
class Job(BaseModel):
    """A job opening."""

    name: str
    description: str


class Rating(BaseModel):
    """A rating of a job name."""

    score: int = Field(ge=1, le=10)


# A prompt is its docstring, a template. Every text it ever has is kept as a version: edit it, run again, compare.
@prompt("system")
def namer_sysprompt(manager: str) -> None:
    """You are a {{ manager }}."""


@prompt("user")
def describe(job: str) -> None:
    """Give me a name for a job that follows this description: {{ job }}."""


@prompt("system")
def judge_sysprompt() -> None:
    """You rate job names from 1 (nobody would apply) to 10 (everybody would)."""


@prompt("user")
def rate(name: str) -> None:
    """Rate the job name "{{ name }}"."""


# A metric is what its function returns: a bool, an int or a float, one per run, recorded as "name_length".
@metric(better="lower")
def name_length(job: Job) -> int:
    """Count the letters of the name."""
    return len(job.name)


# Calls that are made inside a metric have the role "evaluation": they count neither as the bot's tokens nor its time.
@metric(better="higher", bounds=(1, 10))
def appeal(job: Job, judge: StructuredBot[Rating]) -> int:
    """Let a second bot judge the name."""
    return judge(rate(job.name)).score


@pytest.mark.experiment(n=10, gates=["mean(name_length) <= 40", "pass_rate >= 0.9"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_job_name(bot: BotFactory, record_metric: RecordMetric, temperature: float) -> None:
    namer = bot(namer_sysprompt("data science manager"), temperature=temperature, output=Job)
    judge = bot(judge_sysprompt(), temperature=1.0, output=Rating)
    job = namer(describe("someone who builds full stack AI apps"))  # recorded: one call, role "generation"
    name_length(job)  # recorded: a metric of whole numbers
    appeal(job, judge)  # recorded: a metric with bounds, and one call, role "evaluation"
    record_metric("mentions_ai", "AI" in job.description)  # recorded: a boolean, stored as 0 or 1
    assert job.name  # decides whether the run passed
