"""The ledger of an experiment with a spending limit: what was spent, and whether another call may start.

A process's own calls count the moment they end; those of the other processes when the store is looked at, which
happens at a call or a run, at most twenty times a second. Overshoot: what is in flight, and that interval.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pytest_llmexp.core.errors import SpendingLimitError
from pytest_llmexp.core.forks import renew_lock_in_children
from pytest_llmexp.core.models import Call
from pytest_llmexp.core.spending import Limits, Spending, compared, reaches
from pytest_llmexp.tracking.barriers import Barrier, CallsEnded, remember
from pytest_llmexp.tracking.calls import CLOSED_EARLY
from pytest_llmexp.tracking.pricing import NO_PRICES, Prices, has_price, price_of
from pytest_llmexp.tracking.recorder import RunRecorder
from pytest_llmexp.tracking.scope import RunStopped

LOOK_EVERY_S = 0.05
_SHARE = 20  # a look may take a twentieth of the time: the more calls there are to add up, the rarer it is


class SpendingStop(CallsEnded):
    """A call was refused because a spending limit is reached."""

    error = SpendingLimitError


class UnpricedModel(RunStopped):
    """A call was refused because its cost would not be known, and the cost is limited."""


class Ledger(Barrier):
    """One process's view of what the whole experiment spent; `look` adds up the store."""

    refusal = SpendingStop

    def __init__(self, limits: Limits, look: Callable[[], Spending], prices: Prices = NO_PRICES) -> None:
        super().__init__()
        self.limits = limits
        self.trouble: str | None = None  # why the limit cannot be checked
        self._look = look
        self._prices = prices
        self._own_usd, self._own_tokens = 0.0, 0
        self._others = Spending()
        self._due = 0.0
        self._priced: dict[tuple[str | None, str], bool] = {}
        self._lock = threading.Lock()  # of the sums
        self._looking = threading.Lock()  # others go on with what is known
        renew_lock_in_children(self)
        renew_lock_in_children(self, "_looking")

    def is_reached(self) -> bool:
        """Say whether calls are refused."""
        if self.why is None and time.monotonic() >= self._due:
            self._look_at_others()
        return self.why is not None

    def told(self) -> dict[str, Any]:
        """Return why the limit could not be checked, if that was it."""
        return {"kind": "spending", "trouble": self.trouble}

    def check(self, run: RunRecorder | None, model: str | None, endpoint: str) -> None:
        """Raise SpendingStop or UnpricedModel if a call must not be made; the run remembers it."""
        if self.is_reached():
            raise remember(run, self.refuse(run))
        if self.limits.cost_usd is not None and not self._has_price(model, endpoint):
            raise remember(run, UnpricedModel(unpriced(model, endpoint)))

    def counted(self, call: Call) -> Call:
        """Add a call that has ended, and return it with its cost where that is limited."""
        if call.replayed_from is not None:
            return call
        if self.limits.cost_usd is not None and (price := price_of(call, self._prices)) is not None:
            call = replace(call, cost_usd=price.cost_usd, price_source=price.source)
        with self._lock:
            self._own_usd += call.cost_usd or 0.0
            self._own_tokens += (call.input_tokens or 0) + (call.output_tokens or 0)
        if _was_answered(call) and (call.input_tokens is None or (self._limits_cost and call.cost_usd is None)):
            self._give_up(_unknown(call))
        self._judge()
        return call

    @property
    def _limits_cost(self) -> bool:
        return self.limits.cost_usd is not None

    def _has_price(self, model: str | None, endpoint: str) -> bool:
        key = (model, endpoint)
        if key not in self._priced:
            self._priced[key] = has_price(model, endpoint, self._prices)
        return self._priced[key]

    def _look_at_others(self) -> None:
        if not self._looking.acquire(blocking=False):
            return
        try:
            began = time.monotonic()
            try:
                all_calls = self._look()
            except Exception as error:
                self._give_up(f"the store cannot be read ({type(error).__name__}: {error})")
                return
            with self._lock:  # own calls on their way to the store make this too little, never too much, for a moment
                self._others = Spending(
                    max(self._others.cost_usd, all_calls.cost_usd - self._own_usd),
                    max(self._others.tokens, all_calls.tokens - self._own_tokens),
                )
            if all_calls.untold or (self._limits_cost and all_calls.unpriced):
                self._give_up("an answer told no tokens, or has no known price")
            self._judge()
            ended = time.monotonic()
            self._due = ended + max(LOOK_EVERY_S, _SHARE * (ended - began))
        finally:
            self._looking.release()

    def _judge(self) -> None:
        if self.why is not None:
            return
        with self._lock:
            spent = Spending(self._own_usd + self._others.cost_usd, self._own_tokens + self._others.tokens)
        if reaches(spent, self.limits):
            self.why = f"spending limit reached: {compared(spent, self.limits)}"

    def _give_up(self, trouble: str) -> None:
        if self.why is None:
            self.trouble = trouble
            self.why = f"spending limit cannot be checked: {trouble}"


def _was_answered(call: Call) -> bool:
    """Say whether a model answered, so that the call is paid for; an error of HTTP or of the network is not."""
    if call.status == "ok":
        return True
    if call.error == CLOSED_EARLY:
        return True
    return isinstance(call.response, dict) and not (call.error or "").startswith("HTTP ")


def _unknown(call: Call) -> str:
    model = call.model_returned or call.model_requested
    if call.input_tokens is None and (call.closed_early or call.error == CLOSED_EARLY):
        return f"an answer of {model} was closed before it told its tokens (read it to its end)"
    if call.input_tokens is None:
        return f"an answer of {model} told no tokens (for a stream, ask for them: stream_options include_usage)"
    return f"an answer of {model} has no known price"


def unpriced(model: str | None, endpoint: str) -> str:
    """Say that the cost of a model's calls cannot be limited, and what to do."""
    return (
        f"model {model!r} at {endpoint} has no known price, so --experiment-max-cost could not limit its calls; "
        f"give its price (ini experiment_prices = {model} = INPUT, OUTPUT in USD per million tokens), "
        "limit tokens instead (--experiment-max-tokens), or leave the limit out"
    )
