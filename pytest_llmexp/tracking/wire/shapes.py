"""Narrows JSON to the shape that is asked for, whatever it is."""

from __future__ import annotations

from typing import Any

from pytest_llmexp.core.models import Json


def part(value: Json, *names: str) -> dict[str, Any]:
    """Return the object under the first of the names that holds one, else an empty one."""
    if isinstance(value, dict):
        for name in names:
            if isinstance(found := value.get(name), dict):
                return found
    return {}


def dicts(value: Json) -> list[dict[str, Any]]:
    """Return the objects of a list; nothing if it is none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def only(value: Json) -> dict[str, Any] | None:
    """Return the object of a list of exactly one."""
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) else None


def text(value: Json, name: str) -> str | None:
    """Return the text under the name; None if it holds none, or an empty one."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) and found else None


def index(value: dict[str, Any], default: int, name: str = "index") -> int:
    found = value.get(name)
    return found if isinstance(found, int) else default


def by_index(items: dict[int, Any]) -> list[Any]:
    """Return the values in the order of their keys; gaps cost nothing."""
    return [items[key] for key in sorted(items)]
