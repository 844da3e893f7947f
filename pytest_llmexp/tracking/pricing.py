"""What a call cost: by prices that the user gave, else by those that genai-prices ships.

Works offline; an unknown price is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from pytest_llmexp.tracking.sources import LOCAL_MODEL, ModelSource

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
NOT_AN_LLM = "(not an LLM)"
GIVEN = "experiment_prices"

Prices = Mapping[str, tuple[float, float]]  # model -> USD for a million input tokens, and for a million output tokens
NO_PRICES: Prices = MappingProxyType({})


class Price(NamedTuple):
    """USD for one call and where the price comes from."""

    cost_usd: float
    source: str


class Priceable(Protocol):
    """What a price is found by."""

    @property
    def model_requested(self) -> str | None: ...
    @property
    def model_returned(self) -> str | None: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def input_tokens(self) -> int | None: ...
    @property
    def output_tokens(self) -> int | None: ...
    @property
    def cached_tokens(self) -> int | None: ...
    @property
    def started_at(self) -> str: ...


def price_of(call: Priceable, own: Prices = NO_PRICES) -> Price | None:
    """Return the price of a finished call, or None if it is not known.

    The user's `own` prices win, for the model that was asked for or the one that answered. Else the model that
    answered has the price, or, where that one has none, the model that was asked for.
    """
    for model in (call.model_requested, call.model_returned):
        if model is not None and model in own and call.input_tokens is not None:
            into, out = own[model]
            return Price((call.input_tokens * into + (call.output_tokens or 0) * out) / 1e6, GIVEN)
    tokens = (call.input_tokens, call.output_tokens, call.cached_tokens, call.started_at)
    answered = price_call(call.model_returned, call.endpoint, *tokens)
    return answered or price_call(call.model_requested, call.endpoint, *tokens)


def has_price(model: str | None, endpoint: str, own: Prices = NO_PRICES) -> bool:
    """Say whether calls of a model are going to have a price. The built-in stand-in has: it costs nothing."""
    if model in own or (model == LOCAL_MODEL and urlsplit(endpoint).hostname in _LOOPBACK):
        return True
    return price_call(model, endpoint, 1, 1) is not None


def may_have_prices(source: ModelSource) -> bool:
    """Say whether calls that go to `source` may have a known price."""
    return not source.local and (source.base_url is None or urlsplit(source.base_url).hostname not in _LOOPBACK)


def load_prices() -> None:
    """Import the prices, so that a thread can do it while nobody waits for it."""
    import genai_prices  # noqa: F401  start-up cost: a quarter of a second


def price_call(
    model: str | None,
    endpoint: str,
    input_tokens: int | None,
    output_tokens: int | None,
    cached_tokens: int | None = None,
    started_at: str | None = None,
) -> Price | None:
    """Return the price of a call, or None if the model, its price or its tokens are unknown.

    Embeddings have no output tokens; elsewhere a call that does not tell them has no known price.

    The built-in stand-ins cost nothing. Other models on this machine have no known price.
    """
    if model is None or input_tokens is None:
        return None
    if output_tokens is None and not urlsplit(endpoint).path.endswith("/embeddings"):
        return None
    if model.endswith(NOT_AN_LLM):
        return Price(0.0, "built in")
    if urlsplit(endpoint).hostname in _LOOPBACK:
        return None
    import genai_prices  # start-up cost: only experiments whose models may have a price need it

    usage = genai_prices.Usage(
        input_tokens=input_tokens, output_tokens=output_tokens or 0, cache_read_tokens=cached_tokens or None
    )
    when = datetime.fromisoformat(started_at) if started_at else None
    for address in (endpoint, None):  # the provider's own price first, else the model's
        try:
            found = genai_prices.calc_price(
                usage, model_ref=model, provider_api_url=address, genai_request_timestamp=when
            )
        except (LookupError, ValueError):
            continue
        return Price(float(found.total_price), f"genai-prices {genai_prices.__version__}")
    return None
