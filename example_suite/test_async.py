"""Ask several times at once: an `async def` test with `async_bot`, whose calls are awaited.

No plugin for asyncio is needed. Calls that overlap belong to the run that made them all the same.
"""

import asyncio
from collections import Counter
from typing import Literal

import pytest
from pydantic import BaseModel

from pytest_llmexp import BotFactory, ExperimentRun, RecordMetric, prompt

REVIEW = "The delivery was slow, but the quality is excellent and I recommend it."


class Opinion(BaseModel):
    """What a review says of the product."""

    sentiment: Literal["positive", "neutral", "negative"]


@prompt("user")
def judge_review(review: str) -> None:
    """What is the sentiment of this review? {{ review }}"""


@pytest.mark.experiment(n=5, timeout=30)
async def test_majority_of_five(
    async_bot: BotFactory, record_metric: RecordMetric, experiment_run: ExperimentRun
) -> None:
    voter = async_bot(output=Opinion, temperature=1.0)
    opinions = await asyncio.gather(*(voter(judge_review(REVIEW)) for _ in range(5)))  # recorded: five calls
    [(winner, votes)] = Counter(opinion.sentiment for opinion in opinions).most_common(1)
    experiment_run.record(input=REVIEW, output=winner)
    record_metric("agreement", votes / 5, bounds=(0, 1))  # recorded: a fraction between its bounds
    record_metric("positive", winner == "positive")
