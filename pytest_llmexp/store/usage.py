"""What calls used up: tokens and USD, of an experiment, of its models, of the runs of its tests. Sums, made by SQL."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, case, func, select

from pytest_llmexp.core.spending import Spending
from pytest_llmexp.store import schema
from pytest_llmexp.store.codec import decode_text

_ENDED: Final = ("passed", "failed")  # the others may have stopped before their last call


class UnpricedCall(NamedTuple):
    """A call without a cost, and what a price is found by."""

    id: str
    model_requested: str | None
    model_returned: str | None
    endpoint: str
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    started_at: str


class CallTotals(NamedTuple):
    """What the calls of an experiment added up to. Sums leave out what a call did not say: `unpriced` tells."""

    calls: int
    failed: int
    unattributed: int
    replayed: int
    local: int
    unpriced: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    wait_s: float | None


class ModelUsage(NamedTuple):
    """Tokens of one model's calls; None where no call said. `started_at` is that of the first."""

    model_requested: str | None
    model_returned: str | None
    endpoint: str
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    started_at: str


class UsageOfTest(NamedTuple):
    """What the calls of a test's runs used up with one model; `priced` of the `calls` have a cost."""

    test: str
    model_requested: str | None
    model_returned: str | None
    endpoint: str
    calls: int
    priced: int
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cost_usd: float | None
    started_at: str


class UsageByTest(NamedTuple):
    """The runs of each test that passed or failed, and what they used up."""

    runs: dict[str, int]
    usage: list[UsageOfTest]


def read_usage(connection: Connection, experiment_id: str) -> list[ModelUsage]:
    """Return the sums of tokens by model and endpoint."""
    calls = schema.calls.c
    kinds = (calls.model_requested, calls.model_returned, calls.endpoint)
    statement = (
        select(*kinds, *_sums("input_tokens", "output_tokens", "cached_tokens"), func.min(calls.started_at))
        .where(calls.experiment_id == experiment_id, calls.status != "running", calls.replayed_from.is_(None))
        .group_by(*kinds)
    )
    return [ModelUsage._make(row) for row in connection.execute(statement)]


def read_spending(connection: Connection, experiment_id: str) -> Spending:
    """Return what the calls that have ended used up; a replayed call uses nothing."""
    calls = schema.calls.c
    answered = calls.status == "ok"
    tokens = func.coalesce(calls.input_tokens, 0) + func.coalesce(calls.output_tokens, 0)
    statement = select(
        func.coalesce(func.sum(calls.cost_usd), 0.0),
        func.coalesce(func.sum(tokens), 0),
        func.count(case((answered & calls.cost_usd.is_(None), 1))),
        func.count(case((answered & calls.input_tokens.is_(None), 1))),
    ).where(calls.experiment_id == experiment_id, calls.status != "running", calls.replayed_from.is_(None))
    return Spending(*connection.execute(statement).one())


def read_test_usage(connection: Connection, experiment_id: str) -> UsageByTest:
    """Return how many runs of each test ended, and what they used up, by test and model."""
    runs, calls = schema.experiment_runs.c, schema.calls.c
    ended = (runs.experiment_id == experiment_id, runs.status.in_(_ENDED))
    kinds = (runs.test, calls.model_requested, calls.model_returned, calls.endpoint)
    sums = _sums("input_tokens", "output_tokens", "cached_tokens", "cost_usd")
    used = (
        select(*kinds, func.count(), func.count(calls.cost_usd), *sums, func.min(calls.started_at))
        .select_from(schema.experiment_runs.join(schema.calls, calls.run_id == runs.id))
        .where(*ended, calls.replayed_from.is_(None))
        .group_by(*kinds)
    )
    counted = select(runs.test, func.count()).where(*ended).group_by(runs.test)
    return UsageByTest(
        {decode_text(test): count for test, count in connection.execute(counted)},
        [UsageOfTest(decode_text(row[0]), *row[1:]) for row in connection.execute(used)],
    )


def _sums(*names: str) -> list[ColumnElement[Any]]:
    return [func.sum(schema.calls.c[name]) for name in names]
