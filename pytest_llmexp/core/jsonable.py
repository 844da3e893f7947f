"""Turns what a test hands over (inputs, outputs, variables, parameters) into JSON, never failing."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence, Set
from typing import Any

from pytest_llmexp.core.models import Json

_MAX_DEPTH = 50


def jsonable(value: Any, depth: int = 0) -> Json:
    """Return `value` as JSON: pydantic models and dataclasses as objects, what has no JSON form as its str.

    Functions and classes are given by their name, objects without a text of their own by their type: the same in
    every process.
    A value nested deeper than 50 levels, or that contains itself, ends in the str of what lies there.
    """
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON has no NaN and no infinity
    if depth >= _MAX_DEPTH:
        return str(value)
    if isinstance(value, enum.Enum):
        return jsonable(value.value, depth + 1)
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return jsonable(dump(), depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name), depth + 1) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray | memoryview):
        return [jsonable(item, depth + 1) for item in value]
    if (name := getattr(value, "__qualname__", None)) and callable(value):  # its str would hold an address
        return f"{value.__module__}.{name}"
    kind = type(value)
    if "__str__" not in (names := _own_names(kind)) and "__repr__" not in names:
        return f"<{kind.__module__}.{kind.__qualname__}>"
    return str(value)


def _own_names(kind: type) -> set[str]:
    """Return the names that a class and its bases define, but for those of `object`."""
    return {name for base in kind.__mro__ if base is not object for name in vars(base)}
