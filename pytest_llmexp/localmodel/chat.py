"""The wire format of POST /v1/chat/completions.

Standard library only. Fields follow https://platform.openai.com/docs/api-reference/chat.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from pytest_llmexp.localmodel import errors
from pytest_llmexp.localmodel.conversation import function_tool, plain_text
from pytest_llmexp.localmodel.exchange import (
    Ask,
    BadRequest,
    JsonObject,
    Message,
    Reply,
    ToolCall,
    Usage,
    new_id,
    pieces,
)
from pytest_llmexp.localmodel.fields import integer, json_schema, number, objects, stop_texts


def read(body: JsonObject) -> Ask:
    """Read what is asked; raise BadRequest when the body is not what the endpoint takes."""
    messages = objects(body, "messages")
    if not messages:
        raise BadRequest(
            "'messages' is missing or empty; give a list of objects with 'role' and 'content'.", "messages"
        )
    limit = integer(body, "max_completion_tokens", low=1) or integer(body, "max_tokens", low=1)
    return Ask(
        messages=tuple(map(_message, messages)),
        temperature=number(body, "temperature", 1.0, 0, 2),
        top_p=number(body, "top_p", 1.0, 0, 1),
        seed=integer(body, "seed"),
        max_tokens=limit,
        stop=stop_texts(body),
        n=integer(body, "n", low=1, high=128) or 1,
        schema=_schema(body.get("response_format")),
        tools=tuple(map(function_tool, objects(body, "tools"))),
        tool_choice=_tool_choice(body.get("tool_choice")),
        logprobs=bool(body.get("logprobs")),
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )


def render(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> JsonObject:
    """Return the body of a response that is not streamed."""
    body = {**_head("chat.completion", label), "choices": [_choice(i, reply, ask) for i, reply in enumerate(replies)]}
    if usage is not None:
        body["usage"] = _usage(usage)
    return body


def events(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> Iterator[JsonObject]:
    """Yield the payloads of a streamed response."""
    head = _head("chat.completion.chunk", label)
    for index, reply in enumerate(replies):
        yield _event(head, index, {"role": "assistant", "content": "" if reply.text is not None else None})
        for delta, logprobs in _deltas(reply, ask):
            yield _event(head, index, delta, logprobs=logprobs)
        yield _event(head, index, {}, reply.finish_reason)
    if ask.include_usage and usage is not None:
        yield {**head, "choices": [], "usage": _usage(usage)}


def error_event(message: str) -> JsonObject:
    """Return the payload that reports an error in the middle of a stream."""
    return errors.openai(errors.Problem(500, message))


def _message(message: JsonObject) -> Message:
    role = message.get("role")
    if not isinstance(role, str):
        raise BadRequest("Every message needs a 'role'.", "messages")
    return Message({"developer": "system", "function": "tool"}.get(role, role), plain_text(message.get("content")))


def _schema(response_format: Any) -> JsonObject | None:
    if not isinstance(response_format, dict) or response_format.get("type") == "text":
        return None
    if response_format.get("type") == "json_object":
        return {}
    return json_schema(response_format.get("json_schema"), "response_format")


def _tool_choice(choice: Any) -> str:
    if isinstance(choice, dict):
        return str((choice.get("function") or {}).get("name", "required"))
    return choice if isinstance(choice, str) else "auto"


def _head(kind: str, label: str) -> JsonObject:
    return {"id": new_id("chatcmpl-"), "object": kind, "created": int(time.time()), "model": label}


def _choice(index: int, reply: Reply, ask: Ask) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
    if reply.tool_calls:
        message["tool_calls"] = [_call(call) for call in reply.tool_calls]
    logprobs = (
        _logprobs(list(zip(pieces(reply.text or ""), reply.logprobs or (), strict=False))) if ask.logprobs else None
    )
    return {"index": index, "message": message, "finish_reason": reply.finish_reason, "logprobs": logprobs}


def _logprobs(tokens: Sequence[tuple[str, float]]) -> JsonObject | None:
    if not tokens:
        return None
    entries = [{"token": t, "bytes": list(t.encode()), "logprob": p, "top_logprobs": []} for t, p in tokens]
    return {"content": entries, "refusal": None}


def _call(call: ToolCall) -> JsonObject:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.argument_text}}


def _deltas(reply: Reply, ask: Ask) -> Iterator[tuple[JsonObject, JsonObject | None]]:
    logprobs = reply.logprobs or ()
    for position, piece in enumerate(pieces(reply.text or "")):
        known = ask.logprobs and position < len(logprobs)
        yield {"content": piece}, _logprobs([(piece, logprobs[position])]) if known else None
    for piece in pieces(reply.refusal or ""):
        yield {"refusal": piece}, None
    for position, call in enumerate(reply.tool_calls):
        start = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": position, "id": call.id, "type": "function", "function": start}]}, None
        for piece in pieces(call.argument_text):
            yield {"tool_calls": [{"index": position, "function": {"arguments": piece}}]}, None


def _event(
    head: JsonObject, index: int, delta: JsonObject, reason: str | None = None, logprobs: JsonObject | None = None
) -> JsonObject:
    choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
    return {**head, "choices": [choice]}


def _usage(usage: Usage) -> JsonObject:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
