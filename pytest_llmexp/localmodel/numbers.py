"""Numbers that fit a JSON schema: about the centre of their range, further from it at a higher temperature.

Standard library only.
"""

import math
import re

from pytest_llmexp.localmodel.exchange import JsonObject
from pytest_llmexp.localmodel.writer import Writer

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
_USUAL_WIDTH = 10.0


def numbers_in(text: str) -> list[float]:
    """Return the numbers that a text names, in order."""
    return [float(found) for found in _NUMBER.findall(text)]


def number_fits(schema: JsonObject, number: float) -> bool:
    """Say whether a number fits the type and the bounds of a schema."""
    if schema.get("type") == "integer" and not number.is_integer():
        return False
    step = schema.get("multipleOf")
    return (
        schema.get("minimum", -math.inf) <= number <= schema.get("maximum", math.inf)
        and schema.get("exclusiveMinimum", -math.inf) < number < schema.get("exclusiveMaximum", math.inf)
        and (not step or (number / step).is_integer())
    )


def bounded_integer(schema: JsonObject, message: str, writer: Writer) -> int:
    """Return an integer that fits; from the message when the schema sets no bounds."""
    if not _is_bounded(schema):
        found = [number for number in numbers_in(message) if number.is_integer()]
        if found:
            return int(found[0])
    step = int(schema.get("multipleOf") or 1)
    low, high = _range(schema, 1.0)
    first, last = math.ceil(low / step), math.floor(high / step)
    return step * min(last, max(first, round(_about_centre(first, last, writer))))


def bounded_number(schema: JsonObject, message: str, writer: Writer) -> float:
    """Return a number that fits; from the message when the schema sets no bounds."""
    found = numbers_in(message)
    if found and not _is_bounded(schema):
        return found[0]
    if step := schema.get("multipleOf"):
        low, high = _range(schema, float(step))
        first, last = math.ceil(low / step), math.floor(high / step)
        return float(step * min(last, max(first, round(_about_centre(first, last, writer)))))
    low, high = _range(schema, 0.0)
    inside = (high - low) * 0.001
    value = min(high - inside, max(low + inside, _about_centre(low, high, writer)))
    rounded = round(value, 3)
    return rounded if low < rounded < high else value


def _is_bounded(schema: JsonObject) -> bool:
    return any(key in schema for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))


def _range(schema: JsonObject, step: float) -> tuple[float, float]:
    """Return the least and the greatest value; an open side lies at a usual distance from the other."""
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = max(schema["exclusiveMinimum"] + step, schema.get("minimum", -math.inf))
    if "exclusiveMaximum" in schema:
        high = min(schema["exclusiveMaximum"] - step, schema.get("maximum", math.inf))
    width = max(_USUAL_WIDTH, _USUAL_WIDTH * step)
    if low is None:
        low = 0.0 if high is None or high >= 0 else high - width
    return float(low), float(low + width if high is None else high)


def _about_centre(low: float, high: float, writer: Writer) -> float:
    return (low + high) / 2 + writer.rng.gauss(0, (high - low) / 5 * writer.temperature)
