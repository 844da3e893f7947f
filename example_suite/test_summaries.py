"""Compare two versions of a prompt: both are cases of one test, so they answer the same text in the same session.

That shows two versions side by side. To follow one prompt over time, edit its text instead and run the test again
under another `--experiment-name`.
"""

from collections.abc import Callable

import pytest

from pytest_llmexp import BotFactory, ExperimentRun, RecordMetric, metric, prompt

ARTICLE = (
    "Lumora has released a new version of Lumora Notes that can translate calls. The app now starts in half the "
    "time. Private data stays on the device of the user. The price was not announced."
)


@prompt("user")
def open_ended(article: str) -> None:
    """Summarise this: {{ article }}"""


@prompt("user")
def with_a_limit(article: str) -> None:
    """Summarise this in twelve words, and name the product: {{ article }}"""


@metric(better="lower")
def words(summary: str) -> int:
    """Count the words of a summary."""
    return len(summary.split())


@pytest.mark.experiment(n=10)
@pytest.mark.parametrize("ask", [open_ended, with_a_limit])
def test_summary(
    bot: BotFactory, record_metric: RecordMetric, experiment_run: ExperimentRun, ask: Callable[[str], str]
) -> None:
    editor = bot("You write for people who are in a hurry.")  # recorded: a plain text is a system prompt too
    summary = editor(ask(ARTICLE))  # recorded: which version of which prompt was sent
    words(summary)
    record_metric("mentions_product", "Lumora" in summary)
    experiment_run.tag(style="limited" if ask is with_a_limit else "free")  # recorded: a tag of this run
    assert summary, "the answer is empty"
