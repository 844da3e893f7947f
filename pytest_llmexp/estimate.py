"""What an experiment is going to cost, from what its tests cost before. Floor 2, no pytest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from pytest_llmexp.core.errors import UnknownExperimentError
from pytest_llmexp.core.models import Experiment
from pytest_llmexp.store import ModelUsage, Store, UsageOfTest
from pytest_llmexp.tracking.pricing import Prices, price_of
from pytest_llmexp.tracking.sources import LOCAL_LABEL, LOCAL_MODEL, ModelSource

_LOOK_BACK = 20  # experiments
OPENAI = "https://api.openai.com/v1"


class Estimate(NamedTuple):
    """USD and tokens of `known` of the `runs`: those of tests whose cost was known before, in `experiment` first."""

    runs: int
    known: int
    cost_usd: float
    tokens: int
    experiment: Experiment


class _PerRun(NamedTuple):
    cost_usd: float
    tokens: float


def estimate(
    store: Store, experiment: Experiment, planned: Mapping[str, int], source: ModelSource, prices: Prices
) -> Estimate | None:
    """Return what `planned` runs of each test are going to cost: what a run did in the latest experiment that knows.

    That is the latest finished one of the same name, else of any. Where the default model was another one, its
    calls are priced as those of the model of now. None where nothing is known, or the built-in sampler answers.
    """
    if source.local and LOCAL_MODEL not in prices:
        return None
    found: dict[str, _PerRun] = {}
    first: Experiment | None = None
    for earlier in _earlier(store, experiment):
        for test, per_run in _costs(store, earlier, source, prices).items():
            if test in planned and test not in found:
                found[test], first = per_run, first or earlier
        if len(found) == len(planned):
            break
    cost = sum(each.cost_usd * planned[test] for test, each in found.items())
    if first is None or not cost:
        return None
    tokens = sum(each.tokens * planned[test] for test, each in found.items())
    return Estimate(sum(planned.values()), sum(planned[test] for test in found), cost, round(tokens), first)


def _earlier(store: Store, experiment: Experiment) -> Iterator[Experiment]:
    same = None
    with suppress(UnknownExperimentError):
        same = store.experiment(experiment.name)
    if same is not None and same.status == "finished":
        yield same
    for other in store.experiments(limit=_LOOK_BACK):
        if other.status == "finished" and (same is None or other.id != same.id):
            yield other


def _costs(store: Store, earlier: Experiment, source: ModelSource, prices: Prices) -> dict[str, _PerRun]:
    """Return what a run of each test cost, without the tests of which that is not known."""
    usage = store.test_usage(earlier.id)
    rows = defaultdict(list)
    for row in usage.usage:
        rows[row.test].append(row)
    costs = {}
    for test, runs in usage.runs.items():
        amounts = [_cost(row, earlier, source, prices) for row in rows[test]]
        known = [amount for amount in amounts if amount]  # the sampler's cost nothing, and say nothing of a model's
        if len(known) == len(amounts):
            tokens = sum((row.input_tokens or 0) + (row.output_tokens or 0) for row in rows[test])
            costs[test] = _PerRun(sum(known) / runs, tokens / runs)
    return costs


def _cost(row: UsageOfTest, earlier: Experiment, source: ModelSource, prices: Prices) -> float | None:
    used = ModelUsage(*(getattr(row, name) for name in ModelUsage._fields))
    price = price_of(used, prices)
    before = row.cost_usd if row.priced == row.calls else price and price.cost_usd
    default = LOCAL_MODEL if earlier.model_source.startswith(LOCAL_LABEL) else earlier.model_source.partition(" at ")[0]
    if earlier.model_source == source.label or row.model_requested != default or not before:
        return before
    path = "/embeddings" if row.endpoint.endswith("/embeddings") else "/chat/completions"
    asked = used._replace(
        model_requested=source.model, model_returned=None, endpoint=(source.base_url or OPENAI) + path
    )
    now = price_of(asked, prices)
    return now and now.cost_usd
