"""pytest-llmexp: one marked test, everything recorded. `--experiment-runs` says how many runs."""

import pytest

from pytest_llmexp import BotFactory


@pytest.mark.experiment(n=500)
def test_colour(bot: BotFactory) -> None:
    assert bot("You answer briefly.", temperature=1.0)("Name a colour.")
