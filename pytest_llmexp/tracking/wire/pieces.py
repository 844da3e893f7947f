"""How a stream was cut into pieces, kept apart from its texts: for clients that count them, or read only so many.

Events hold each text in one piece, so that no secret hides in a seam. `pieces` name the event that each piece belongs
to and, where several do, its shape (the piece without what grew) and how much of each text was its.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pytest_llmexp.core.models import Json
from pytest_llmexp.tracking.wire.growth import Event

_COMPARED = 4  # shapes take turns where parts of an answer do
Path = Sequence[str | int]


def cut(
    events: Sequence[Event],
    merged: Sequence[Event],
    places: Sequence[int],
    go_on: Callable[[Event, Event], Event | None],
) -> dict[str, Json]:
    """Return `shapes` and `pieces`: with the merged events, what `piecewise` makes the events of again.

    Nothing is returned where the texts are not those of the pieces in a row: a character may have come in halves.
    `places` says into which merged event each event went, `go_on` what two events are together.
    """
    groups: dict[int, list[Event]] = {}
    for event, place in zip(events, places, strict=True):
        groups.setdefault(place, []).append(event)
    grown = {place: list(_grown(merged[place], group, ())) for place, group in groups.items() if len(group) > 1}
    lengths: Counter[tuple[int, Path]] = Counter()
    shapes: list[dict[str, Json]] = []
    pieces: list[list[Json]] = []
    for event, place in zip(events, places, strict=True):
        if place not in grown:
            pieces.append([place])
            continue
        parts = {path: part for path in grown[place] if isinstance(part := _find(event, path), str | list)}
        for path, part in parts.items():
            lengths[place, path] += len(part)
        shape = {"event": _put(event, {path: part[:0] for path, part in parts.items()}), "at": [*map(list, parts)]}
        pieces.append([place, _index(shapes, shape, go_on), [len(part) for part in parts.values()]])
    in_a_row = all(len(_find(merged[place], path)) == length for (place, path), length in lengths.items())
    return {"shapes": shapes, "pieces": pieces} if in_a_row else {}


def piecewise(record: dict[str, Any]) -> Iterator[Event]:
    """Yield the events as they came; what redaction made longer or shorter is shared out differently."""
    events, shapes, pieces = record["events"], record["shapes"], record["pieces"]
    last = {(place, str(path)): n for n, (place, *how) in enumerate(pieces) if how for path in shapes[how[0]]["at"]}
    taken: dict[tuple[int, str], int] = {}
    for number, (place, *how) in enumerate(pieces):
        if not how:
            yield events[place]
            continue
        shape, lengths = shapes[how[0]], how[1]
        parts: dict[Path, Json] = {}
        for path, length in zip(shape["at"], lengths, strict=True):
            text = (place, str(path))
            start = taken.get(text, 0)
            taken[text] = start + length
            parts[tuple(path)] = _find(events[place], path)[start : None if last[text] == number else start + length]
        yield _put(shape["event"], parts)


def _grown(whole: Json, pieces: Sequence[Json], path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Yield the paths of texts and lists that no single piece has whole."""
    found = [_find(piece, path) for piece in pieces]
    if isinstance(whole, str):
        if whole not in found:
            yield path
    elif isinstance(whole, list) and len(whole) > max(len(part) for part in [[], *found] if isinstance(part, list)):
        yield path
    elif isinstance(whole, dict | list):
        for key, part in whole.items() if isinstance(whole, dict) else enumerate(whole):
            yield from _grown(part, pieces, (*path, key))


def _index(shapes: list[dict[str, Json]], shape: dict[str, Json], go_on: Callable[[Event, Event], Event | None]) -> int:
    """Return the place of a shape that says the same, or of this one, added."""
    mine = shape["event"]
    for place in range(len(shapes) - 1, max(-1, len(shapes) - 1 - _COMPARED), -1):
        other = shapes[place]["event"]
        if shapes[place] == shape:
            return place
        if shapes[place]["at"] == shape["at"] and go_on(other, mine) == other and go_on(mine, other) == mine:
            return place
    shapes.append(shape)
    return len(shapes) - 1


def _find(value: Json, path: Path) -> Json:
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _put(event: Event, parts: dict[Any, Json]) -> Event:
    """Return the event with other parts at these paths; what is not on their way is shared with it."""
    changed: Any = event
    for path, part in parts.items():
        changed = _replaced(changed, path, part)
    return changed  # type: ignore[no-any-return]


def _replaced(value: Any, path: Path, part: Json) -> Any:
    if not path:
        return part
    copied = value.copy()
    copied[path[0]] = _replaced(value[path[0]], path[1:], part)
    return copied
