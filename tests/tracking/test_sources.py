"""Where calls go, and what they cost."""

from __future__ import annotations

import pytest

from pytest_llmexp.core.errors import ModelError
from pytest_llmexp.tracking.pricing import may_have_prices, price_call
from pytest_llmexp.tracking.sources import LOCAL_MODEL, ModelSource, resolve_source

KEY = {"OPENAI_API_KEY": "sk-1"}
URL = {"OPENAI_BASE_URL": "http://models.test/v1"}
OPENAI = "https://api.openai.com/v1/chat/completions"


def test_the_built_in_model_is_used_only_if_chosen_or_if_nothing_is_configured() -> None:
    assert resolve_source(None, None, {}).local
    assert resolve_source(LOCAL_MODEL, None, KEY).local
    assert not resolve_source(None, None, KEY).local
    assert not resolve_source(None, None, URL).local
    assert not resolve_source("gpt-4o", "http://models.test/v1", {}).local
    assert "not an LLM" in resolve_source(None, None, {}).label


def test_a_named_model_is_never_replaced() -> None:
    with pytest.raises(ModelError, match="'gpt-4o' has neither a key nor a base URL: set OPENAI_API_KEY"):
        resolve_source("gpt-4o", None, {})
    with pytest.raises(ModelError, match="'gpt-4o' was asked for, but there is neither a key nor a base URL"):
        resolve_source(None, None, {}).model_for("gpt-4o")
    assert resolve_source("gpt-4o", None, KEY).model_for("o3") == "o3"


def test_without_a_model_anywhere_the_error_says_where_to_name_one() -> None:
    with pytest.raises(ModelError, match="pass model=, or --experiment-model=NAME"):
        resolve_source(None, None, KEY).model_for(None)


def test_an_option_comes_before_the_environment() -> None:
    assert resolve_source("m", "http://other.test/v1", {**KEY, **URL}).base_url == "http://other.test/v1"
    assert resolve_source("m", None, {**KEY, **URL}).base_url == "http://models.test/v1"


def test_a_key_is_not_shown() -> None:
    assert "sk-1" not in repr(resolve_source("m", None, KEY))


def test_a_known_model_has_a_price() -> None:
    price = price_call("gpt-4o-2024-08-06", OPENAI, 1_000_000, 0, None, "2026-01-01T00:00:00Z")
    assert price is not None
    assert price.cost_usd == pytest.approx(2.5)
    assert price.source.startswith("genai-prices ")


@pytest.mark.parametrize(
    ("model", "endpoint", "tokens", "output"),
    [
        ("no-such-model", OPENAI, 10, 10),
        (None, OPENAI, 10, 10),
        ("gpt-4o", OPENAI, None, 10),
        ("gpt-4o", OPENAI, 10, None),
        ("gpt-4o", "http://127.0.0.1:1234/v1/chat/completions", 10, 10),
    ],
)
def test_an_unknown_price_is_unknown(model: str | None, endpoint: str, tokens: int | None, output: int | None) -> None:
    assert price_call(model, endpoint, tokens, output) is None


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (ModelSource("gpt-4o"), True),
        (ModelSource("gpt-4o", "https://llm.example.com/v1"), True),
        (ModelSource("gpt-4o", "http://localhost:8000/v1"), False),
        (ModelSource("local-sampler", local=True), False),
    ],
)
def test_prices_are_loaded_where_calls_may_have_one(source: ModelSource, expected: bool) -> None:
    assert may_have_prices(source) is expected


def test_embeddings_have_a_price_without_output_tokens() -> None:
    price = price_call("text-embedding-3-small", "https://api.openai.com/v1/embeddings", 1_000_000, None)
    assert price is not None
    assert price.cost_usd > 0


def test_the_stand_in_costs_nothing() -> None:
    assert price_call("local-sampler (not an LLM)", "http://127.0.0.1:1/v1", 10, 10) == (0.0, "built in")
