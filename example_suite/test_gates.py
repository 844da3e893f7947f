"""Gates: demands on what all runs together say. They are judged when the session ends and decide its exit status.

The gates of this file hold. A gate may also come from the command line; this one does not, and pytest exits with 1:

    pytest example_suite/test_gates.py --experiment-gate "mean(name_length) <= 3"

A gate is STATISTIC COMPARISON NUMBER. Marks on the module, on a class and on a function add up: all gates and tags
count, and the closest `n` wins.
"""

import pytest
from pydantic import BaseModel, Field

from pytest_llmexp import BotFactory, RecordMetric, metric, prompt

# For every test of this module. `max` looks at the worst run, `mean` at all of them.
pytestmark = pytest.mark.experiment(
    n=10, gates=["mean(name_length) <= 60", "max(name_length) <= 120"], tags={"area": "naming"}
)


class Name(BaseModel):
    """A name for something."""

    name: str = Field(min_length=1)


@prompt("user")
def suggest(thing: str) -> None:
    """Suggest a name for {{ thing }}."""


@metric(better="lower")
def name_length(answer: Name) -> int:
    """Count the letters of the name."""
    return len(answer.name)


@pytest.mark.experiment(gates=["p90(words) <= 15"], tags={"model": "any"})  # for the tests of this class, too
class TestNames:
    def test_product(self, bot: BotFactory, record_metric: RecordMetric) -> None:
        answer = bot(output=Name)(suggest("an app that summarises long notes"))
        name_length(answer)
        record_metric("words", len(answer.name.split()))

    @pytest.mark.experiment(n=5, gates=["rate(words <= 8) >= 0.5"])  # the share of runs with at most 8 words
    def test_company(self, bot: BotFactory, record_metric: RecordMetric) -> None:
        answer = bot(output=Name)(suggest("a company that sells speakers"))
        name_length(answer)
        record_metric("words", len(answer.name.split()))


# With a gate on `pass_rate` a failed run is evidence, not the end: it is shown as "t", tolerated, and the gate decides.
@pytest.mark.experiment(n=20, gates=["pass_rate >= 0.2"])
def test_short_name(bot: BotFactory) -> None:
    answer = bot(output=Name, temperature=1.0)(suggest("a job in data science"))
    name_length(answer)
    assert len(answer.name) <= 28  # does not always hold
