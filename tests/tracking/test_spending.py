"""The ledger: what counts, what stops, what other processes spent; and what things cost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_llmexp import Experiment, SimpleBot, metric
from pytest_llmexp.core import spending
from pytest_llmexp.core.clock import utc_now
from pytest_llmexp.core.errors import ConfigurationError, SpendingLimitError
from pytest_llmexp.core.ids import new_id
from pytest_llmexp.core.models import Call
from pytest_llmexp.core.spending import Limits, Spending
from pytest_llmexp.lifecycle import begin
from pytest_llmexp.localmodel import Answer, LocalModelServer, Usage
from pytest_llmexp.store import open_store
from pytest_llmexp.tracking.pricing import has_price, price_of
from pytest_llmexp.tracking.sources import ModelSource
from pytest_llmexp.tracking.spending import Ledger, SpendingStop, UnpricedModel

PRICES = {"priced": (100.0, 200.0)}
HERE = "http://127.0.0.1:1/v1/chat/completions"


def call(**changes: Any) -> Call:
    """Return a call of 100 tokens and a cent and a half."""
    fields: dict[str, Any] = {
        "id": new_id("call"),
        "experiment_id": "exp_1",
        "ordinal": 1,
        "endpoint": HERE,
        "model_requested": "priced",
        "model_returned": "priced-2026",
        "request": {},
        "response": {},
        "status": "ok",
        "started_at": utc_now(),
        "input_tokens": 50,
        "output_tokens": 50,
    }
    return Call(**{**fields, **changes})


def ledger(cost: float | None = None, tokens: int | None = None, look: Callable[[], Spending] = Spending) -> Ledger:
    return Ledger(Limits(cost, tokens), look, PRICES)


def test_given_prices_win_and_are_found_by_either_name() -> None:
    assert price_of(call(), PRICES) == (0.015, "experiment_prices")
    assert price_of(call(model_requested="x", model_returned="priced"), PRICES) == (0.015, "experiment_prices")
    known = call(
        model_requested="gpt-4o", model_returned="gpt-4o", endpoint="https://api.openai.com/v1/chat/completions"
    )
    assert price_of(known, {"gpt-4o": (0.0, 0.0)}) == (0.0, "experiment_prices")
    found = price_of(known)
    assert found is not None
    assert found.source.startswith("genai-prices")
    assert price_of(call(input_tokens=None), PRICES) is None


def test_a_returned_name_that_nobody_knows_has_the_price_of_the_model_asked_for() -> None:
    openai = "https://api.openai.com/v1/chat/completions"
    asked = price_of(call(model_requested="gpt-4o", model_returned="gpt-4o", endpoint=openai))
    assert price_of(call(model_requested="gpt-4o", model_returned="deployment-7", endpoint=openai)) == asked


@pytest.mark.parametrize(
    ("model", "endpoint", "known"),
    [
        ("priced", HERE, True),
        ("local-sampler", HERE, True),
        ("local-sampler", "https://example.com/v1/chat/completions", False),
        ("gpt-4o", HERE, False),
        ("gpt-4o", "https://api.openai.com/v1/chat/completions", True),
        ("nobody-knows", "https://api.openai.com/v1/chat/completions", False),
    ],
)
def test_which_models_have_a_price(model: str, endpoint: str, known: bool) -> None:
    assert has_price(model, endpoint, PRICES) is known


def test_calls_are_refused_once_the_limit_is_reached() -> None:
    spent = ledger(cost=0.03)
    spent.check(None, "priced", HERE)
    assert spent.counted(call()).cost_usd == 0.015
    spent.check(None, "priced", HERE)
    assert not spent.refused
    spent.counted(call())
    with pytest.raises(SpendingStop, match=r"not run: spending limit reached: \$0\.03 of \$0\.03"):
        spent.check(None, "priced", HERE)
    assert spent.refused


FAILED: dict[str, Any] = {"status": "error", "error": "HTTP 500: no", "input_tokens": None, "output_tokens": None}


@pytest.mark.parametrize("free", [{"replayed_from": "call_0"}, FAILED])
def test_what_was_not_paid_for_counts_as_nothing(free: dict[str, Any]) -> None:
    spent = ledger(cost=0.001, tokens=1)
    spent.counted(call(**free))
    assert not spent.is_reached()


def test_tokens_are_limited_without_any_price() -> None:
    spent = ledger(tokens=200)
    for _ in range(2):
        spent.check(None, "nobody-knows", HERE)
        assert spent.counted(call(model_requested="nobody-knows")).cost_usd is None
    with pytest.raises(SpendingStop, match="200 of 200 tokens"):
        spent.check(None, "nobody-knows", HERE)


def test_a_model_without_a_price_is_refused_where_the_cost_is_limited() -> None:
    spent = ledger(cost=1.0)
    with pytest.raises(UnpricedModel, match=r"'nobody-knows' at .*--experiment-max-tokens"):
        spent.check(None, "nobody-knows", HERE)
    assert not spent.refused  # an error of the run, not the end of the budget


CLOSED = {"status": "error", "error": "the client closed the response before its end"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "told no tokens"),
        ({**CLOSED, "response": ""}, "closed before it told its tokens"),
        ({"stream": {"closed_early": True}}, "closed before it told its tokens"),
    ],
)
def test_an_answer_that_tells_no_tokens_stops_the_calls(changes: dict[str, Any], why: str) -> None:
    spent = ledger(tokens=1000)
    spent.counted(call(input_tokens=None, output_tokens=None, **changes))
    with pytest.raises(SpendingStop, match=rf"cannot be checked.*{why}"):
        spent.check(None, "priced", HERE)


def test_what_other_processes_spent_counts_and_own_calls_count_once() -> None:
    stored = Spending()
    spent = ledger(cost=0.10, look=lambda: stored)
    for _ in range(3):
        spent.counted(call())
    stored = Spending(0.045 + 0.04, 600)  # three of mine, and those of others
    spent._due = 0.0
    assert not spent.is_reached()
    spent.counted(call())
    assert spent.is_reached()
    assert spent.why == "spending limit reached: $0.10 of $0.10"


def test_own_calls_that_are_not_stored_yet_are_never_taken_from_those_of_others() -> None:
    stored = Spending(0.06, 400)  # of others
    spent = ledger(cost=0.10, look=lambda: stored)
    assert not spent.is_reached()
    for _ in range(2):
        spent.counted(call())
    spent._due = 0.0  # the store still holds none of mine
    assert not spent.is_reached()
    spent.counted(call())
    assert spent.is_reached()


@pytest.mark.parametrize("stored", [Spending(0.0, 0, unpriced=1), Spending(0.0, 0, untold=1)])
def test_what_others_cannot_tell_stops_calls_here(stored: Spending) -> None:
    assert ledger(cost=1.0, look=lambda: stored).is_reached()


def test_a_store_that_cannot_be_read_stops_the_calls() -> None:
    def broken() -> Spending:
        raise OSError("gone")

    spent = ledger(cost=1.0, look=broken)
    assert spent.is_reached()
    assert "the store cannot be read" in str(spent.trouble)


def test_many_threads_lose_no_cent() -> None:
    spent = ledger(cost=1e9)
    threads = [threading.Thread(target=lambda: [spent.counted(call()) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spent._own_tokens == 8 * 500 * 100


def test_the_store_adds_up_what_ended(tmp_path: Path) -> None:
    with open_store(tmp_path / "message_log.db", create=True) as store:
        id_ = begin(store, "x", source=ModelSource("priced"), folder=tmp_path).id
        mine = {"experiment_id": id_}
        store.write(
            [
                call(**mine, cost_usd=0.5),
                call(**mine, cost_usd=0.25, role="evaluation"),
                call(**mine, replayed_from="call_0"),
                call(**mine, status="running", cost_usd=9.0),
                call(**mine, status="error", input_tokens=None, output_tokens=None),
            ]
        )
        assert store.spending(id_) == Spending(0.75, 200, 0, 0)
        store.write([call(**mine), call(**mine, cost_usd=0.0, input_tokens=None)])
        assert store.spending(id_) == Spending(0.75, 350, 1, 1)
        assert store.spending("exp_none") == Spending()


def test_amounts_are_shown_with_what_counts() -> None:
    shown = [spending.usd(amount) for amount in (0.0, 0.5, 0.5031, 0.09, 0.00001234, 1.0, 12.345, 1234.5)]
    assert shown == ["$0.00", "$0.50", "$0.5031", "$0.09", "$0.00001234", "$1.00", "$12.35", "$1,234.50"]


# without pytest


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    with LocalModelServer(lambda _: Answer("a name", usage=Usage(50, 50))) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        yield running


def ask() -> str:
    return str(SimpleBot("You name jobs.", model_name="priced")("Hello"))


def test_a_block_raises_and_keeps_what_it_has(tmp_path: Path, server: LocalModelServer) -> None:
    block = Experiment(
        "x", 20, concurrency=2, db=tmp_path / "x.db", gates=["pass_rate >= 0.1"], max_cost=0.06, prices=PRICES
    )
    with pytest.raises(SpendingLimitError, match=r"spending limit reached: \$0.06 of \$0.06; 1\d of 20 runs"), block:
        block.run(ask)
    assert len(block.results) == len(server.requests)
    assert 4 <= len(server.requests) <= 5
    assert [verdict.verdict for verdict in block.verdicts] == ["undecided"]
    assert "SPENDING LIMIT reached: $0.0" in block.summary


def test_a_block_whose_user_goes_on_is_still_not_whole(tmp_path: Path, server: LocalModelServer) -> None:
    block = Experiment("x", 20, db=tmp_path / "x.db", gates=["pass_rate >= 0.1"], max_tokens=500)
    with block, pytest.raises(SpendingLimitError):
        block.run(ask)
    assert [verdict.verdict for verdict in block.verdicts] == ["undecided"]
    assert "of 500 tokens" in block.summary


def test_an_evaluation_that_was_refused_raises(tmp_path: Path, server: LocalModelServer) -> None:
    @metric
    def judged(answer: Any) -> int:
        return len(ask())

    with Experiment("x", 4, concurrency=1, db=tmp_path / "x.db", gates=["pass_rate >= 0.1"], max_tokens=500) as block:
        answers = block.run(ask)
        with pytest.raises(SpendingLimitError):
            judged(answers)
    assert [verdict.verdict for verdict in block.verdicts] == ["undecided"]
    assert len(server.requests) == 5
    assert "3 cut short" in block.summary


@pytest.mark.parametrize(
    "limits",
    [{"max_cost": 0}, {"max_cost": "1"}, {"max_cost": float("nan")}, {"max_tokens": 1.5}, {"max_tokens": True}],
)
def test_a_wrong_limit_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(limits))):
        Experiment("x", **limits)
