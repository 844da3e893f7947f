"""Runs that are recorded once and then replayed: one call of a bot and two metrics each, and a gate."""

import pytest

from pytest_llmexp import BotFactory, RecordMetric


@pytest.mark.experiment(n=2000, gates=["mean(length) > 0"])
def test_colour(bot: BotFactory, record_metric: RecordMetric) -> None:
    answer = bot("You answer briefly.", temperature=1.0)("Name a colour.")
    record_metric("length", len(answer))
    record_metric("is_short", len(answer) < 100)
