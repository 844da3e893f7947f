"""Tokens as servers count them, and what a response says of itself."""

from __future__ import annotations

from typing import Any, NamedTuple

from pytest_llmexp.core.models import Json, Usage
from pytest_llmexp.tracking.wire.shapes import part

NO_USAGE = Usage()
_LARGEST = 2**63 - 1  # of an integer column


class Answered(NamedTuple):
    """What a response says of itself; None where it does not say."""

    model: str | None
    usage: Usage
    finish_reason: str | None


def count(usage: dict[str, Any], *names: str) -> int | None:
    """Return the first of the counts that is one."""
    return next((usage[name] for name in names if _is_count(usage.get(name))), None)


def total(first: int | None, *others: int | None) -> int | None:
    """Return the sum, in which the others count as zero where unknown; None if the first is unknown."""
    if first is None:
        return None
    added = first + sum(other or 0 for other in others)
    return added if added <= _LARGEST else None


def openai_usage(usage: Json) -> Usage:
    """Chat completions say prompt/completion tokens, responses and others input/output tokens.

    Cached tokens are part of the input, reasoning tokens of the output
    (https://platform.openai.com/docs/api-reference/chat/object). DeepSeek says `prompt_cache_hit_tokens`,
    Moonshot `cached_tokens` beside the totals; OpenRouter tells of cache writes.
    """
    if not isinstance(usage, dict):
        return NO_USAGE
    asked = part(usage, "prompt_tokens_details", "input_tokens_details")
    said = part(usage, "completion_tokens_details", "output_tokens_details")
    cached = count(asked, "cached_tokens")
    return Usage(
        count(usage, "prompt_tokens", "input_tokens"),
        count(usage, "completion_tokens", "output_tokens"),
        count(usage, "prompt_cache_hit_tokens", "cached_tokens") if cached is None else cached,
        count(asked, "cache_write_tokens"),
        count(said, "reasoning_tokens"),
    )


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
