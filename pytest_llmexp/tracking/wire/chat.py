"""OpenAI chat completions, as Azure and most other servers speak them, and the older text completions.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from typing import Any

from pytest_llmexp.core.models import Json
from pytest_llmexp.tracking.wire.counts import Answered, openai_usage
from pytest_llmexp.tracking.wire.family import Family, Stream
from pytest_llmexp.tracking.wire.growth import Event, add, data_of, grow, join_texts
from pytest_llmexp.tracking.wire.shapes import by_index, dicts, index, only, part, text
from pytest_llmexp.tracking.wire.sse import is_end_mark

_CHUNKS = ("chat.completion.chunk", "text_completion")
_SAID_OFTEN = ("id", "model", "system_fingerprint", "service_tier")


def _read(body: dict[str, Any]) -> Answered:
    choices = dicts(body.get("choices"))
    finish_reason = text(choices[0], "finish_reason") if choices else None
    return Answered(text(body, "model"), openai_usage(body.get("usage")), finish_reason)


def _is_chunk(event: Event) -> bool:
    data = data_of(event)
    return data.get("object") in _CHUNKS or any("delta" in choice for choice in dicts(data.get("choices")))


def _ended(events: list[Event]) -> bool:
    choices = (choice for event in events for choice in dicts(data_of(event).get("choices")))
    return any(is_end_mark(event) for event in events) or any(choice.get("finish_reason") for choice in choices)


def _join(events: list[Event]) -> Json:
    """Return the completion that the chunks add up to."""
    choices: dict[int, dict[str, Any]] = {}
    joined: dict[str, Any] = {"object": "chat.completion", "usage": None}
    for chunk in map(data_of, events):
        joined.update({key: chunk[key] for key in _SAID_OFTEN if chunk.get(key) is not None})
        if "created" in chunk:
            joined.setdefault("created", chunk["created"])
        if chunk.get("object") == "text_completion":
            joined["object"] = "text_completion"
        joined["usage"] = chunk.get("usage") or joined["usage"]
        for piece in dicts(chunk.get("choices")):
            at = index(piece, 0)
            _add_choice(choices.setdefault(at, {"index": at, "message": {}, "finish_reason": None}), piece)
    return {**joined, "choices": [_closed(choice) for choice in by_index(choices)]}


def _add_choice(choice: dict[str, Any], piece: dict[str, Any]) -> None:
    choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
    if isinstance(said := piece.get("text"), str):
        choice["text"] = join_texts(choice.get("text", ""), said)
    if isinstance(logprobs := piece.get("logprobs"), dict):
        add(choice.setdefault("logprobs", {}), logprobs)
    if isinstance(delta := piece.get("delta"), dict):
        _add_delta(choice["message"], delta)


def _add_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    add(message, {key: value for key, value in delta.items() if key not in ("role", "tool_calls", "function_call")})
    if delta.get("role"):
        message["role"] = delta["role"]
    if isinstance(called := delta.get("function_call"), dict):
        add(message.setdefault("function_call", {}), called)
    calls = message.setdefault("tool_calls", {}) if dicts(delta.get("tool_calls")) else {}
    for piece in dicts(delta.get("tool_calls")):
        call = calls.setdefault(index(piece, len(calls)), {"type": "function", "function": {}})
        if piece.get("id"):
            call["id"] = piece["id"]
        add(call["function"], part(piece, "function"))


def _closed(choice: dict[str, Any]) -> dict[str, Any]:
    if "tool_calls" in choice["message"]:
        choice["message"]["tool_calls"] = by_index(choice["message"]["tool_calls"])
    if "text" in choice and not choice["message"]:
        del choice["message"]
    return choice


def _lane(event: Event) -> str | None:
    """Chunks of one choice that say something go together; choices of one answer may take turns."""
    choice = only(data_of(event).get("choices"))
    if choice is None:
        return None
    delta = part(choice, "delta")
    says = isinstance(choice.get("text"), str) or "tool_calls" in delta
    says = says or any(isinstance(value, str) for key, value in delta.items() if key != "role")
    return repr(index(choice, 0)) if says else None


def _grown(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any] | None:
    before, after = only(first["choices"]), only(later["choices"])
    whole = grow(first, later, latest=("usage",), ignored=("created", "obfuscation", "choices"))
    choice = _grown_choice(before, after) if before and after and not before.get("finish_reason") else None
    return None if whole is None or choice is None else {**whole, "choices": [choice]}


def _grown_choice(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any] | None:
    whole = grow(
        first,
        later,
        texts=("text",),
        latest=("finish_reason", "content_filter_results"),
        ignored=("delta", "logprobs"),
    )
    for name, go_on in (("delta", _grown_delta), ("logprobs", _grown_logprobs)):
        if whole is None or later.get(name) is None:
            continue
        if not isinstance(first.get(name), dict) or not isinstance(later[name], dict):
            return None
        longer = go_on(first[name], later[name])
        whole = None if longer is None else {**whole, name: longer}
    return whole


def _grown_logprobs(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any] | None:
    return grow(first, later, lists=later.keys())


def _grown_delta(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any] | None:
    """Every text of a delta grows but its role, as in the response."""
    calls = later.get("tool_calls")
    growing = {key for key in later if key != "role"}
    whole = grow(first, later, texts=growing, lists=growing, ignored=("tool_calls",))
    if whole is None or not calls:
        return whole
    longer = _grown_call(only(first.get("tool_calls")), only(calls))
    return None if longer is None else {**whole, "tool_calls": [longer]}


def _grown_call(first: dict[str, Any] | None, later: dict[str, Any] | None) -> dict[str, Any] | None:
    """A call goes on if it has the same index and brings nothing new but arguments."""
    if first is None or later is None or later.get("id") or index(later, -1) < 0 or "index" not in first:
        return None
    whole = grow(first, later, ignored=("id", "type", "function"))
    said, more = first.get("function"), later.get("function")
    if whole is None or not isinstance(said, dict) or not isinstance(more, dict):
        return None
    function = grow(said, more, texts=more.keys(), lists=more.keys())
    return None if function is None else {**whole, "function": function}


FAMILY = Family(
    answers=lambda body: isinstance(body.get("choices"), list),
    read=_read,
    stream=Stream(has=_is_chunk, lane=_lane, grown=_grown, join=_join, ended=_ended),
)
