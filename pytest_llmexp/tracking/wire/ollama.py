"""Ollama's own chat, generate and embed. https://github.com/ollama/ollama/blob/main/docs/api.md"""

from __future__ import annotations

from typing import Any

from pytest_llmexp.core.models import Json, Usage
from pytest_llmexp.tracking.wire.counts import Answered, count
from pytest_llmexp.tracking.wire.family import Family, Stream
from pytest_llmexp.tracking.wire.growth import Event, add, data_of, grow
from pytest_llmexp.tracking.wire.shapes import part, text

_COUNTS = ("prompt_eval_count", "eval_count")
_GROWING = ("response", "thinking")
_GROWING_IN_MESSAGE = ("content", "thinking")


def _is_ours(body: dict[str, Any]) -> bool:
    return isinstance(body.get("done"), bool) or any(name in body for name in _COUNTS)


def _read(body: dict[str, Any]) -> Answered:
    asked, said = (count(body, name) for name in _COUNTS)
    return Answered(text(body, "model"), Usage(asked, said), text(body, "done_reason"))


def _join(events: list[Event]) -> Json:
    joined: dict[str, Any] = {}
    message: dict[str, Any] = {}
    for data in map(data_of, events):
        said = part(data, "message")
        add(message, {key: value for key, value in said.items() if key != "role"})
        if said.get("role"):
            message["role"] = said["role"]
        add(joined, {key: value for key, value in data.items() if key in _GROWING})
        joined.update({key: value for key, value in data.items() if key not in (*_GROWING, "message")})
    return {**joined, "message": message} if message else joined


def _lane(event: Event) -> str | None:
    """All that says something goes together; the last object, with the counts, stays apart unless it says more."""
    data = data_of(event)
    says = [data.get(name) for name in _GROWING] + [part(data, "message").get(name) for name in _GROWING_IN_MESSAGE]
    pieces = [said for said in says if isinstance(said, str)]
    return "" if any(pieces) or (pieces and not data.get("done")) else None


def _grown(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any] | None:
    longer = {key: value for key, value in later.items() if key in _GROWING}
    texts = grow({key: value for key, value in first.items() if key in _GROWING}, longer, texts=_GROWING)
    said, more = first.get("message"), later.get("message")
    if texts is None or isinstance(said, dict) is not isinstance(more, dict):
        return None
    whole = {**first, **{key: value for key, value in later.items() if key not in _GROWING}, **texts}
    if not isinstance(said, dict) or not isinstance(more, dict):
        return whole
    message = grow(said, more, texts=(*_GROWING_IN_MESSAGE,), lists=[key for key in more if key != "role"])
    return None if message is None else {**whole, "message": message}


FAMILY = Family(
    answers=_is_ours,
    read=_read,
    stream=Stream(
        has=lambda event: isinstance(data_of(event).get("done"), bool),
        lane=_lane,
        grown=_grown,
        join=_join,
        ended=lambda events: any(data_of(event).get("done") is True for event in events),
    ),
)
