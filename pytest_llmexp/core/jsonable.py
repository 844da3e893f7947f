"""Turns what a test hands over (inputs, outputs, variables, parameters) into JSON, never failing."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence, Set
from typing import Any

from pytest_llmexp.core.models import Json

MAX_CHARACTERS = 200_000  # kept of a value that nobody asked to keep whole
_MAX_DEPTH = 50


def jsonable(value: Any, depth: int = 0) -> Json:
    """Return `value` as JSON: pydantic models and dataclasses as objects, what has no JSON form as its str.

    Functions and classes are given by their name, objects without a text of their own by their type: the same in
    every process. A value nested deeper than 50 levels, or that contains itself, ends in the str of what lies there;
    one whose own methods raise is given by its type.
    """
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON has no NaN and no infinity
    try:
        return _text(value) if depth >= _MAX_DEPTH else _structure(value, depth + 1)
    except Exception:
        return _type_name(value)


def _structure(value: Any, depth: int) -> Json:
    if isinstance(value, enum.Enum):
        return jsonable(value.value, depth)
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return jsonable(dump(), depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name), depth) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, depth) for key, item in value.items()}
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray | memoryview):
        return [jsonable(item, depth) for item in value]
    return _text(value)


def _text(value: Any) -> str:
    """Return a text without addresses in memory."""
    if (name := getattr(value, "__qualname__", None)) and callable(value):
        return f"{value.__module__}.{name}"
    names = {name for base in type(value).__mro__ if base is not object for name in vars(base)}
    return str(value) if names & {"__str__", "__repr__"} else _type_name(value)


def _type_name(value: Any) -> str:
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


class Shortener:
    """Lets about so many characters of JSON pass; where something is missing, a text says how much.

    Numbers and keys count too: a list of a million zeros is shortened as well as one long text.
    """

    def __init__(self, characters: int) -> None:
        self.left = characters

    def __call__(self, value: Json) -> Json:
        """Return what there is room for."""
        if isinstance(value, str):
            room = max(self.left, 0)
            self.left -= len(value) + 2
            return value if len(value) <= room else f"{value[:room]}... {len(value) - room} more characters"
        if isinstance(value, dict):
            return self._fields(value)
        if isinstance(value, list):
            return self._items(value)
        self.left -= 4
        return value

    def _fields(self, value: dict[str, Json]) -> dict[str, Json]:
        fields: dict[str, Json] = {}
        for key, item in value.items():
            if self.left <= 0:
                return {**fields, "...": f"{len(value) - len(fields)} more"}
            self.left -= len(key) + 4
            fields[key] = self(item)
        return fields

    def _items(self, value: list[Json]) -> list[Json]:
        items: list[Json] = []
        for item in value:
            if self.left <= 0:
                return [*items, f"... {len(value) - len(items)} more"]
            self.left -= 2
            items.append(self(item))
        return items


def kept(value: Any) -> Json:
    """Return `value` as JSON, at most about 200,000 characters of it."""
    return Shortener(MAX_CHARACTERS)(jsonable(value))
