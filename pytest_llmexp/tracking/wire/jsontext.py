"""JSON as text. Numbers that JSON does not have become the strings that the store writes for them."""

from __future__ import annotations

import json
import math

from pytest_llmexp.core.models import Json


def parse(text: str) -> Json:
    """Return what the text says. Raises ValueError for what is no JSON or nested too deep."""
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def parse_or_keep(text: str) -> Json:
    """Return what the text says, or the text itself if it is no JSON."""
    try:
        return parse(text)
    except ValueError:
        return text


def write(value: Json) -> str:
    """Return the value as one line of ASCII, which no reader of lines or encodings takes for something else."""
    return json.dumps(value, separators=(",", ":"))


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else str(number)


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)
