"""Anthropic messages, also through Bedrock's InvokeModel and Vertex. https://docs.anthropic.com/en/api/messages"""

from __future__ import annotations

from typing import Any

from pytest_llmexp.core.models import Json, Usage
from pytest_llmexp.tracking.wire.counts import Answered, count, total
from pytest_llmexp.tracking.wire.family import Family, Stream
from pytest_llmexp.tracking.wire.growth import Event, add, data_of, grow
from pytest_llmexp.tracking.wire.jsontext import parse_or_keep
from pytest_llmexp.tracking.wire.shapes import by_index, index, part, text

_EVENTS = (
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
)
_GROWING = {"text_delta": "text", "input_json_delta": "partial_json", "thinking_delta": "thinking"}
_CACHES = ("cache_creation_input_tokens", "cache_read_input_tokens")


def _is_message(body: dict[str, Any]) -> bool:
    return body.get("type") == "message" or any(name in part(body, "usage") for name in _CACHES)


def _read(body: dict[str, Any]) -> Answered:
    """The input is what was neither written to nor read from the cache, so the three add up.

    https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#tracking-cache-performance
    """
    usage = part(body, "usage")
    written, read = (count(usage, name) for name in _CACHES)
    tokens = Usage(
        total(count(usage, "input_tokens"), written, read),
        count(usage, "output_tokens"),
        read,
        written,
        count(part(usage, "output_tokens_details"), "thinking_tokens", "reasoning_tokens"),
    )
    return Answered(text(body, "model"), tokens, text(body, "stop_reason"))


def _kind(event: Event) -> str:
    return text(data_of(event), "type") or ""


def _join(events: list[Event]) -> Json:
    """The message begins with `message_start`; its blocks come by index, its end and its usage in `message_delta`."""
    message: dict[str, Any] = {"type": "message"}
    usage: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    for data in map(data_of, events):
        kind = data.get("type")
        if kind == "message_start":
            message.update(part(data, "message"))
        elif kind == "message_delta":
            message.update(part(data, "delta"))
        elif kind == "content_block_start":
            blocks[index(data, len(blocks))] = dict(part(data, "content_block"))
        elif kind == "content_block_delta":
            _add_delta(blocks.setdefault(index(data, 0), {}), part(data, "delta"))
        said = part(part(data, "message"), "usage") or part(data, "usage")
        usage.update({name: value for name, value in said.items() if value is not None})
    return {**message, "content": [_closed(block) for block in by_index(blocks)], "usage": usage or None}


def _add_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if delta.get("type") == "citations_delta":
        cited = block.get("citations")
        block["citations"] = [*(cited if isinstance(cited, list) else []), delta.get("citation")]
    else:
        add(block, {key: value for key, value in delta.items() if key != "type"})


def _closed(block: dict[str, Any]) -> dict[str, Any]:
    """Arguments come as pieces of JSON text."""
    if isinstance(pieces := block.pop("partial_json", None), str) and pieces:
        block["input"] = parse_or_keep(pieces)
    return block


def _lane(event: Event) -> str | None:
    kind, data = _kind(event), data_of(event)
    if kind == "ping":
        return kind
    return repr(index(data, 0)) if kind == "content_block_delta" else None


def _grown(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any] | None:
    said, more = part(first, "delta"), part(later, "delta")
    name = _GROWING.get(text(more, "type") or "")
    if name is None or not isinstance(more.get(name), str):
        return None
    delta, whole = grow(said, more, texts=(name,)), grow(first, later, ignored=("delta",))
    return None if delta is None or whole is None else {**whole, "delta": delta}


FAMILY = Family(
    answers=_is_message,
    read=_read,
    stream=Stream(
        has=lambda event: _kind(event) in _EVENTS,
        lane=_lane,
        grown=_grown,
        join=_join,
        ended=lambda events: any(_kind(event) == "message_stop" for event in events),
    ),
)
