"""Server-sent events, and the chat completion that streamed chunks add up to. Pure functions of text and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pytest_llmexp.core.models import Json

_SAID_ONCE = ("id", "model", "created", "system_fingerprint", "service_tier")
_DONE = "[DONE]"


def read_events(text: str) -> tuple[list[Json], bool]:
    """Return the data of each event, as JSON where it is JSON, and whether OpenAI's end mark came."""
    events = [data for data in _data(text) if data]
    return [_parsed(data) for data in events if data.strip() != _DONE], any(d.strip() == _DONE for d in events)


def _data(text: str) -> Iterator[str]:
    """Events are separated by blank lines; their data lines are joined (WHATWG HTML, 9.2.6)."""
    for block in text.replace("\r\n", "\n").split("\n\n"):
        yield "\n".join(line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:"))


def _parsed(data: str) -> Json:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data


def join_chat_chunks(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the chat completion that the chunks of a stream add up to."""
    choices: dict[Any, dict[str, Any]] = {}
    joined: dict[str, Any] = {"object": "chat.completion", "usage": None}
    for chunk in chunks:
        joined.update({key: chunk[key] for key in _SAID_ONCE if key in chunk})
        joined["usage"] = chunk.get("usage") or joined["usage"]
        for part in _dicts(chunk.get("choices")):
            index = _index(part, 0)
            choice = choices.setdefault(index, {"index": index, "message": {}, "finish_reason": None})
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
            if isinstance(logprobs := part.get("logprobs"), dict):
                _add(choice.setdefault("logprobs", {}), logprobs)
            if isinstance(delta := part.get("delta"), dict):
                _add_delta(choice["message"], delta)
    for choice in choices.values():
        calls = choice["message"].get("tool_calls")
        if isinstance(calls, dict):
            choice["message"]["tool_calls"] = [calls[index] for index in sorted(calls)]
    return {**joined, "choices": [choices[index] for index in sorted(choices)]}


def _add_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    _add(message, {key: value for key, value in delta.items() if key not in ("role", "tool_calls")})
    if "role" in delta:
        message["role"] = delta["role"]
    calls = message.setdefault("tool_calls", {}) if _dicts(delta.get("tool_calls")) else {}
    for part in _dicts(delta.get("tool_calls")):
        call = calls.setdefault(_index(part, len(calls)), {"type": "function", "function": {}})
        if part.get("id"):
            call["id"] = part["id"]
        if isinstance(function := part.get("function"), dict):
            _add(call["function"], function)


def _add(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    """Texts and lists grow; of anything else the last one said counts."""
    for key, value in piece.items():
        said = whole.get(key)
        if isinstance(value, str) and isinstance(said, str):
            whole[key] = said + value
        elif isinstance(value, list) and isinstance(said, list):
            whole[key] = [*said, *value]
        elif value is not None or key not in whole:
            whole[key] = value


def _index(part: dict[str, Any], default: int) -> int:
    index = part.get("index")
    return index if isinstance(index, int) else default


def _dicts(value: Json) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
