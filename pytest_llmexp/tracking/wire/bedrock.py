"""Bedrock's Converse and ConverseStream, and how Titan and Llama count in InvokeModel.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

from typing import Any

from pytest_llmexp.core.models import Json, Usage
from pytest_llmexp.tracking.wire.counts import Answered, count, total
from pytest_llmexp.tracking.wire.eventstream import name_of
from pytest_llmexp.tracking.wire.family import Family, Stream
from pytest_llmexp.tracking.wire.growth import Event, add, data_of, grow
from pytest_llmexp.tracking.wire.jsontext import parse_or_keep
from pytest_llmexp.tracking.wire.shapes import by_index, dicts, index, part, text

_EVENTS = (
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
)
_IN_METADATA = ("usage", "metrics", "trace", "performanceConfig")
_GROWING = {"text": "", "toolUse": "input", "reasoningContent": "text"}  # of a delta: a text, or where it is in


def _is_ours(body: dict[str, Any]) -> bool:
    return "stopReason" in body or "inputTextTokenCount" in body or "prompt_token_count" in body


def _read(body: dict[str, Any]) -> Answered:
    """The input is what was neither written to nor read from the cache, so the three add up.

    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
    """
    usage = part(body, "usage")
    read, written = count(usage, "cacheReadInputTokens"), count(usage, "cacheWriteInputTokens")
    results = dicts(body.get("results"))
    titan = results[0] if results else {}
    asked = count(usage, "inputTokens")
    said = count(usage, "outputTokens")
    tokens = Usage(
        count(body, "inputTextTokenCount", "prompt_token_count") if asked is None else total(asked, read, written),
        count({**titan, **body}, "generation_token_count", "tokenCount") if said is None else said,
        read,
        written,
    )
    reason = text(body, "stopReason") or text(body, "stop_reason") or text(titan, "completionReason")
    return Answered(None, tokens, reason)


def _join(events: list[Event]) -> Json:
    message: dict[str, Any] = {}
    joined: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    for event in events:
        name, data = name_of(event), data_of(event)
        at = index(data, 0, "contentBlockIndex")
        if name == "messageStart":
            message["role"] = data.get("role")
        elif name == "contentBlockStart":
            blocks[at] = {key: dict(value) for key, value in part(data, "start").items() if isinstance(value, dict)}
        elif name == "contentBlockDelta":
            _add_delta(blocks.setdefault(at, {}), part(data, "delta"))
        elif name == "messageStop":
            joined.update({key: value for key, value in data.items() if key != "p"})
        elif name == "metadata":
            joined.update({key: data[key] for key in _IN_METADATA if key in data})
    return {"output": {"message": {**message, "content": [_closed(block) for block in by_index(blocks)]}}, **joined}


def _add_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    for kind, value in delta.items():
        if isinstance(value, dict) and isinstance(block.get(kind, {}), dict):
            add(block.setdefault(kind, {}), value)
        else:
            add(block, {kind: dict(value) if isinstance(value, dict) else value})


def _closed(block: dict[str, Any]) -> dict[str, Any]:
    """Arguments come as pieces of JSON text; what a model thought is one object deeper when it is not streamed."""
    if text(tool := part(block, "toolUse"), "input"):
        tool["input"] = parse_or_keep(tool["input"])
    if isinstance(thought := part(block, "reasoningContent").get("text"), str):
        rest = {key: value for key, value in block["reasoningContent"].items() if key not in ("text", "signature")}
        signed = {key: block["reasoningContent"][key] for key in ("signature",) if key in block["reasoningContent"]}
        block["reasoningContent"] = {"reasoningText": {"text": thought, **signed}, **rest}
    return block


def _lane(event: Event) -> str | None:
    at = index(data_of(event), 0, "contentBlockIndex")
    return repr(at) if name_of(event) == "contentBlockDelta" else None


def _grown(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any] | None:
    whole = grow(first, later, ignored=("delta", "p"))
    said, more = part(first, "delta"), part(later, "delta")
    kind = next(iter(more)) if len(more) == 1 and more.keys() == said.keys() else None
    if whole is None or kind not in _GROWING:
        return None
    if not _GROWING[kind]:
        delta = grow(said, more, texts=(kind,))
    else:
        inner = grow(part(said, kind), part(more, kind), texts=(_GROWING[kind],)) if part(more, kind) else None
        delta = None if inner is None or _GROWING[kind] not in part(more, kind) else {kind: inner}
    return None if delta is None else {**whole, "delta": delta}


FAMILY = Family(
    answers=_is_ours,
    read=_read,
    stream=Stream(
        has=lambda event: name_of(event) in _EVENTS,
        lane=_lane,
        grown=_grown,
        join=_join,
        ended=lambda events: any(name_of(event) == "messageStop" for event in events),
    ),
)
