"""The wire format of POST /v1/responses, without stored state.

Standard library only. Fields follow https://platform.openai.com/docs/api-reference/responses.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from pytest_llmexp.localmodel.conversation import plain_text, tool
from pytest_llmexp.localmodel.exchange import Ask, BadRequest, JsonObject, Message, Reply, Usage, new_id, pieces
from pytest_llmexp.localmodel.fields import integer, json_schema, number, objects


def read(body: JsonObject) -> Ask:
    """Read what is asked; raise BadRequest when the body is not what the endpoint takes."""
    if body.get("previous_response_id") is not None:
        raise BadRequest("This server stores no responses; send the whole conversation.", "previous_response_id")
    instructions = body.get("instructions")
    first = (Message("system", instructions),) if isinstance(instructions, str) else ()
    return Ask(
        messages=(*first, *_messages(body)),
        temperature=number(body, "temperature", 1.0, 0, 2),
        top_p=number(body, "top_p", 1.0, 0, 1),
        seed=integer(body, "seed"),
        max_tokens=integer(body, "max_output_tokens", low=1),
        schema=_schema((body.get("text") or {}).get("format")),
        tools=tuple(tool(given, given.get("parameters")) for given in _functions(body)),
        tool_choice=_tool_choice(body.get("tool_choice")),
        stream=bool(body.get("stream")),
        include_usage=True,
    )


def render(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> JsonObject:
    """Return the body of a response that is not streamed."""
    return _finished(_envelope(label, ask), replies[0], _items(replies[0]), usage)


def events(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> Iterator[JsonObject]:
    """Yield the payloads of a streamed response."""
    for sequence, event in enumerate(_stream(replies[0], usage, label, ask)):
        yield {**event, "sequence_number": sequence}


def error_event(message: str) -> JsonObject:
    """Return the payload that reports an error in the middle of a stream."""
    detail = {"type": "server_error", "code": None, "message": message, "param": None}
    return {"type": "error", "code": None, "message": message, "param": None, "error": detail}


def _messages(body: JsonObject) -> list[Message]:
    given = body.get("input")
    if isinstance(given, str) and given:
        return [Message("user", given)]
    items = objects(body, "input") if isinstance(given, list) else []
    if not items:
        raise BadRequest("'input' is missing or empty; give a text or a list of items.", "input")
    return [message for item in items if (message := _message(item))]


def _message(item: JsonObject) -> Message | None:
    if item.get("type") == "function_call_output":
        return Message("tool", plain_text(item.get("output")))
    role = item.get("role")
    if not isinstance(role, str):
        return None
    return Message({"developer": "system"}.get(role, role), plain_text(item.get("content")))


def _schema(text_format: Any) -> JsonObject | None:
    kind = text_format.get("type") if isinstance(text_format, dict) else None
    if kind == "json_object":
        return {}
    return json_schema(text_format, "text.format") if kind == "json_schema" else None


def _functions(body: JsonObject) -> list[JsonObject]:
    return [given for given in objects(body, "tools") if given.get("type") == "function"]


def _tool_choice(choice: Any) -> str:
    if isinstance(choice, dict):
        return str(choice.get("name", "required"))
    return choice if isinstance(choice, str) else "auto"


def _envelope(label: str, ask: Ask) -> JsonObject:
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": ask.last("system") or None,
        "max_output_tokens": ask.max_tokens,
        "metadata": {},
        "model": label,
        "output": [],
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "store": False,
        "temperature": ask.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": ask.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def _finished(envelope: JsonObject, reply: Reply, items: list[JsonObject], usage: Usage | None) -> JsonObject:
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(reply.finish_reason)
    ending = {"status": "incomplete", "incomplete_details": {"reason": reason}} if reason else {"status": "completed"}
    return {**envelope, **ending, "output": items, "usage": _usage(usage) if usage else None}


def _items(reply: Reply) -> list[JsonObject]:
    items = [_message_item(part)] if (part := _part(reply)) else []
    for call in reply.tool_calls:
        named = {"call_id": call.id, "name": call.name, "arguments": call.argument_text}
        items.append({"id": new_id("fc_"), "type": "function_call", "status": "completed", **named})
    return items


def _message_item(part: JsonObject) -> JsonObject:
    return {"id": new_id("msg_"), "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def _part(reply: Reply) -> JsonObject | None:
    if reply.refusal is not None:
        return {"type": "refusal", "refusal": reply.refusal}
    if reply.text is not None:
        return {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
    return None


def _stream(reply: Reply, usage: Usage | None, label: str, ask: Ask) -> Iterator[JsonObject]:
    envelope, items = _envelope(label, ask), _items(reply)
    yield {"type": "response.created", "response": envelope}
    yield {"type": "response.in_progress", "response": envelope}
    for position, item in enumerate(items):
        item_events = _message_events if item["type"] == "message" else _call_events
        yield from item_events(item, position)
    response = _finished(envelope, reply, items, usage)
    yield {"type": f"response.{response['status']}", "response": response}


def _message_events(item: JsonObject, position: int) -> Iterator[JsonObject]:
    part = item["content"][0]
    kind, key = ("output_text", "text") if part["type"] == "output_text" else ("refusal", "refusal")
    place = {"item_id": item["id"], "output_index": position, "content_index": 0}
    extra: JsonObject = {"logprobs": []} if kind == "output_text" else {}
    yield _item_event("added", {**item, "status": "in_progress", "content": []}, position)
    yield {"type": "response.content_part.added", **place, "part": {**part, key: ""}}
    for piece in pieces(part[key]):
        yield {"type": f"response.{kind}.delta", **place, "delta": piece, **extra}
    yield {"type": f"response.{kind}.done", **place, key: part[key], **extra}
    yield {"type": "response.content_part.done", **place, "part": part}
    yield _item_event("done", item, position)


def _call_events(item: JsonObject, position: int) -> Iterator[JsonObject]:
    place = {"item_id": item["id"], "output_index": position}
    done = {"name": item["name"], "arguments": item["arguments"]}
    yield _item_event("added", {**item, "status": "in_progress", "arguments": ""}, position)
    for piece in pieces(item["arguments"]):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
    yield {"type": "response.function_call_arguments.done", **place, **done}
    yield _item_event("done", item, position)


def _item_event(kind: str, item: JsonObject, position: int) -> JsonObject:
    return {"type": f"response.output_item.{kind}", "output_index": position, "item": item}


def _usage(usage: Usage) -> JsonObject:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
