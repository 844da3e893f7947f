"""Checked access to the fields of a request body. Every failure is a BadRequest that names the field.

Standard library only.
"""

from typing import Any, TypedDict

from pytest_llmexp.localmodel.exchange import BadRequest, JsonObject


class Limits(TypedDict):
    """The fields of an `Ask` that every family has, under names of its own."""

    temperature: float
    top_p: float
    max_tokens: int | None
    stop: tuple[str, ...]


def limits(body: JsonObject, top_p: str, max_tokens: str, stop: str) -> Limits:
    """Read the temperature, and what has these names in a family."""
    return {
        "temperature": number(body, "temperature", 1.0, 0, 2),
        "top_p": number(body, top_p, 1.0, 0, 1),
        "max_tokens": integer(body, max_tokens, low=1),
        "stop": stop_texts(body, stop),
    }


def number(body: JsonObject, name: str, default: float, low: float, high: float) -> float:
    """Return a number between two bounds, or the default when it is missing or null."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadRequest(f"'{name}' is {value!r}; give a number from {low} to {high}.", name)
    return float(value)


def integer(body: JsonObject, name: str, low: int | None = None, high: int | None = None) -> int | None:
    """Return an integer between two bounds, or None when it is missing or null."""
    value = body.get(name)
    if value is None:
        return None
    fits = isinstance(value, int) and not isinstance(value, bool)
    if not fits or (low is not None and value < low) or (high is not None and value > high):
        bounds = "" if low is None else f" of at least {low}" + ("" if high is None else f" and at most {high}")
        raise BadRequest(f"'{name}' is {value!r}; give an integer{bounds}.", name)
    return int(value)


def objects(body: JsonObject, name: str) -> list[JsonObject]:
    """Return a list of objects; a missing field is an empty list."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadRequest(f"'{name}' must be a list of objects.", name)
    return value


def mapping(body: JsonObject, name: str) -> JsonObject:
    """Return an object; anything else is an empty one."""
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def stop_texts(body: JsonObject, name: str = "stop") -> tuple[str, ...]:
    """Return the stop texts: one, several or none."""
    value = body.get(name)
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRequest(f"'{name}' must be a text or a list of texts.", name)
    return tuple(text for text in texts if text)


def json_schema(named: Any, param: str) -> JsonObject:
    """Return the schema of an object with `name` and `schema`."""
    if not isinstance(named, dict) or not isinstance(named.get("schema"), dict):
        raise BadRequest(f"'{param}' of type json_schema needs a 'schema' object.", param)
    schema: JsonObject = named["schema"]
    return schema
