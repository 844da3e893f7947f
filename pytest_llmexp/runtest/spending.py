"""What is said of spending before the start: what the runs are going to cost, and what limits cannot do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_llmexp.core.printable import one_line
from pytest_llmexp.core.spending import Limits, usd
from pytest_llmexp.estimate import OPENAI, Estimate, estimate
from pytest_llmexp.runtest.session import ExperimentSession
from pytest_llmexp.tracking.pricing import has_price
from pytest_llmexp.tracking.spending import unpriced


def forecast(session: ExperimentSession, planned: Mapping[str, int]) -> Iterator[str]:
    """Yield what is to be said before the start: what `planned` runs of each test cost, and what limits cannot do."""
    source, prices = session.source(), session.settings.prices
    address = f"{source.base_url or OPENAI}/chat/completions"
    if session.limits.cost_usd is not None and source.model and not has_price(source.model, address, prices):
        yield f"llmexp: WARNING: {unpriced(source.model, address)}"
    if session.store is None or session.experiment is None or session.settings.replay != "off":
        return
    tests = {session.redact(test): runs for test, runs in planned.items()}  # as they are stored
    found = estimate(session.store, session.experiment, tests, source, prices)
    if found is not None:
        yield f"llmexp: {_about(found, session.limits)}"


def _about(found: Estimate, limits: Limits) -> str:
    cost = float(f"{found.cost_usd:.2g}")
    text = f"{found.runs:,} runs, about {usd(cost)}"
    if limits.tokens is not None:
        text += f" and {float(f'{found.tokens:.2g}'):,.0f} tokens"
    if found.known < found.runs:
        text += f" for {found.known:,} of them"
    text += f" (from {one_line(found.experiment.name, 100)}, {found.experiment.started_at[:10]})"
    over = [
        *([usd(limits.cost_usd)] if limits.cost_usd is not None and found.cost_usd > limits.cost_usd else []),
        *([f"{limits.tokens:,} tokens"] if limits.tokens is not None and found.tokens > limits.tokens else []),
    ]
    if over:
        text += f": more than the limit of {' and '.join(over)}, which will stop the session before its end"
    return text
