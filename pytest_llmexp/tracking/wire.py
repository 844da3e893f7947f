"""Reads requests and responses of model servers: which are calls, which model, how many tokens.

Pure functions of JSON. The families are OpenAI's chat completions, responses and embeddings
(https://platform.openai.com/docs/api-reference); others that look like a call are kept as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pytest_llmexp.core.models import Json, Usage

_PROMPT_FIELDS = ("messages", "input", "contents", "prompt")


class Answered(NamedTuple):
    """What a response says of itself."""

    model: str | None
    usage: Usage


def is_call(body: Json) -> bool:
    """Say whether a JSON request body is a call of a model: it names a model and carries something for it."""
    return isinstance(body, dict) and "model" in body and any(field in body for field in _PROMPT_FIELDS)


def read_response(body: Json) -> Answered:
    """Return the model that answered and the tokens it counted; None where the response does not say."""
    if not isinstance(body, dict):
        return Answered(None, Usage())
    model = body.get("model")
    return Answered(model if isinstance(model, str) else None, _usage(body.get("usage")))


def _usage(usage: Json) -> Usage:
    """Chat completions say prompt/completion tokens, responses and others input/output tokens."""
    if not isinstance(usage, dict):
        return Usage()
    return Usage(
        _count(usage, "prompt_tokens", "input_tokens"),
        _count(usage, "completion_tokens", "output_tokens"),
        _count(_part(usage, "prompt_tokens_details", "input_tokens_details"), "cached_tokens"),
        _count(_part(usage, "completion_tokens_details", "output_tokens_details"), "reasoning_tokens"),
    )


def _count(usage: Mapping[str, Json], *names: str) -> int | None:
    found = (usage[name] for name in names if isinstance(usage.get(name), int))
    return next(found, None)


def _part(usage: Mapping[str, Json], *names: str) -> Mapping[str, Json]:
    found = (usage[name] for name in names if isinstance(usage.get(name), dict))
    return next(found, {})


def join_stream(text: str) -> tuple[Json, str | None]:
    """Put a stream of server-sent events together to the response it would have been without streaming.

    Returns the response and, where the stream broke off, what is missing. A stream of an unknown family is
    returned as `{"events": [...]}`.
    """
    events = list(_events(text))
    if any(isinstance(event, dict) and event.get("object") == "chat.completion.chunk" for event in events):
        return _join_chat([event for event in events if isinstance(event, dict)]), _chat_gap(text, events)
    for event in reversed(events):
        if isinstance(event, dict) and event.get("type") in ("response.completed", "response.incomplete"):
            return event.get("response"), None
    return {"events": events}, None if events else "the stream held no event"


def _events(text: str) -> Iterator[Json]:
    """Events are separated by blank lines; their data lines are joined (WHATWG HTML, 9.2.6)."""
    for block in text.replace("\r\n", "\n").split("\n\n"):
        data = "\n".join(line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:"))
        if data and data != "[DONE]":
            try:
                yield json.loads(data)
            except ValueError:
                yield data


def _chat_gap(text: str, events: list[Json]) -> str | None:
    finished = any(
        choice.get("finish_reason")
        for event in events
        if isinstance(event, dict)
        for choice in event.get("choices") or ()
    )
    return None if finished or "data: [DONE]" in text else "the stream broke off before its end"


def _join_chat(chunks: list[dict[str, Any]]) -> Json:
    choices: dict[int, dict[str, Any]] = {}
    joined: dict[str, Any] = {"object": "chat.completion", "usage": None}
    for chunk in chunks:
        joined.update({key: chunk[key] for key in ("id", "model", "created") if key in chunk})
        joined["usage"] = chunk.get("usage") or joined["usage"]
        for part in chunk.get("choices") or ():
            choice = choices.setdefault(
                part.get("index", 0), {"index": part.get("index", 0), "message": {}, "finish_reason": None}
            )
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
            _add_delta(choice["message"], part.get("delta") or {})
    return {**joined, "choices": [choices[index] for index in sorted(choices)]}


def _add_delta(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for key, value in delta.items():
        if key == "tool_calls":
            _add_tool_calls(message.setdefault("tool_calls", []), value or [])
        elif isinstance(value, str) and key != "role":
            message[key] = (message.get(key) or "") + value
        elif value is not None or key not in message:
            message[key] = value


def _add_tool_calls(calls: list[dict[str, Any]], deltas: list[dict[str, Any]]) -> None:
    for delta in deltas:
        index = delta.get("index", len(calls))
        while len(calls) <= index:
            calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
        if delta.get("id"):
            calls[index]["id"] = delta["id"]
        for key, value in (delta.get("function") or {}).items():
            calls[index]["function"][key] = (calls[index]["function"].get(key) or "") + (value or "")
