"""Makes few events of many: those that only go on with a text become one, wherever it began.

A secret that a model said in several pieces is so one text in the record, which is redacted text by text.
Knows no family: a lane says which events may go together, a function how one goes on with another.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple

from pytest_llmexp.core.models import Json

Event = dict[str, Any]  # one of a record: `data` (JSON) or `text` (what is none), and its envelope
_SLOTS = ("data", "chunk")


class Merged(NamedTuple):
    """Fewer events, and in which of them each one that came is."""

    events: list[Event]
    places: list[int]


def data_of(event: Event) -> dict[str, Any]:
    """Return the JSON object that an event carries; an empty one if it carries something else."""
    return next((event[slot] for slot in _SLOTS if isinstance(event.get(slot), dict)), {})


def merge(
    events: list[Event],
    lane: Callable[[Event], str | None],
    grown: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any] | None],
) -> Merged:
    """Return fewer events that say the same.

    An event goes into the latest one of its lane if `grown` finds that it only goes on with that; one without a
    lane ends all of them.
    """
    merged: list[Event] = []
    places: list[int] = []
    latest: dict[str, int] = {}
    for event in events:
        if (where := lane(event)) is None:
            latest.clear()
        elif (at := latest.get(where)) is not None and (whole := go_on(merged[at], event, grown)) is not None:
            merged[at] = whole
            places.append(at)
            continue
        else:
            latest[where] = len(merged)
        places.append(len(merged))
        merged.append(event)
    return Merged(merged, places)


def go_on(
    first: Event, later: Event, grown: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any] | None]
) -> Event | None:
    """Return what two events are together; None if the later one does more than go on with the first."""
    if any(first.get(name) != later.get(name) for name in ("event", "headers")):
        return None
    slot = next((slot for slot in _SLOTS if isinstance(first.get(slot), dict)), "")
    if not isinstance(later.get(slot), dict) or (data := grown(first[slot], later[slot])) is None:
        return None
    return {**first, **{name: later[name] for name in ("id",) if name in later}, slot: data}


def grow(
    first: dict[str, Any],
    later: dict[str, Any],
    *,
    texts: Container[str] = (),
    lists: Container[str] = (),
    latest: Container[str] = (),
    ignored: Container[str] = (),
) -> dict[str, Any] | None:
    """Return the first object with what the later one adds; None if that changes more than the keys named here.

    Of `latest` the last one counts, of `ignored` the first. Null adds nothing.
    """
    whole = dict(first)
    for key, value in later.items():
        said = first.get(key)
        if key in ignored or value is None:
            whole.setdefault(key, value)
        elif key in texts and isinstance(said, str) and isinstance(value, str):
            whole[key] = join_texts(said, value)
        elif key in lists and isinstance(said, list) and isinstance(value, list):
            whole[key] = [*said, *value]
        elif key in latest:
            whole[key] = value or said
        elif key not in first or said != value or key in texts or key in lists:
            return None
    return whole


def join_texts(first: str, later: str) -> str:
    """Return both as one; a character whose halves (surrogates) came apart is whole again, as JSON would read it."""
    joined = first + later
    if "\ud800" <= first[-1:] <= "\udbff" and "\udc00" <= later[:1] <= "\udfff":
        return joined.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return joined


def add(whole: dict[str, Any], piece: dict[str, Json]) -> None:
    """Put a piece into the whole: texts and lists grow; of anything else the last one said counts."""
    for key, value in piece.items():
        said = whole.get(key)
        if isinstance(value, str) and isinstance(said, str):
            whole[key] = join_texts(said, value)
        elif isinstance(value, list) and isinstance(said, list):
            whole[key] = [*said, *value]
        elif value is not None or key not in whole:
            whole[key] = value
