"""The wire format of POST /v1/messages.

Standard library only. Fields follow https://docs.claude.com/en/api/messages.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

from pytest_llmexp.localmodel import errors
from pytest_llmexp.localmodel.conversation import plain_text, system, tool, turn
from pytest_llmexp.localmodel.exchange import Ask, BadRequest, JsonObject, Message, Reply, Usage, new_id, pieces
from pytest_llmexp.localmodel.fields import limits, mapping, objects

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def read(body: JsonObject) -> Ask:
    """Read what is asked; raise BadRequest when the body is not what the endpoint takes."""
    turns = objects(body, "messages")
    if not turns:
        raise BadRequest("messages: at least one message is required", "messages")
    return Ask(
        messages=(*system(body.get("system")), *chain.from_iterable(map(_turn, turns))),
        **limits(body, "top_p", "max_tokens", "stop_sequences"),
        schema=_schema(body),
        # Without a schema it is a tool of the server, such as web search, which the model does not ask us to call.
        tools=tuple(tool(given, given["input_schema"]) for given in objects(body, "tools") if "input_schema" in given),
        tool_choice=_tool_choice(mapping(body, "tool_choice")),
        stream=bool(body.get("stream")),
    )


def render(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> JsonObject:
    """Return the body of a response that is not streamed."""
    reply = replies[0]
    content = [block for block, _ in _blocks(reply)]
    return {**_message(label), "content": content, **_ending(reply), **_usage(usage)}


def events(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> Iterator[JsonObject]:
    """Yield the payloads of a streamed response."""
    reply = replies[0]
    so_far = usage and Usage(usage.input_tokens, 1, usage.cached_tokens)
    yield {"type": "message_start", "message": {**_message(label), **_usage(so_far)}}
    yield {"type": "ping"}
    for index, (block, text) in enumerate(_blocks(reply)):
        is_text = block["type"] == "text"
        empty: JsonObject = {"text": ""} if is_text else {"input": {}}
        kind, key = ("text_delta", "text") if is_text else ("input_json_delta", "partial_json")
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
        for piece in pieces(text):
            yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: piece}}
        yield {"type": "content_block_stop", "index": index}
    counted = {"usage": {"output_tokens": usage.output_tokens}} if usage else {}
    yield {"type": "message_delta", "delta": _ending(reply), **counted}
    yield {"type": "message_stop"}


def error_event(message: str) -> JsonObject:
    """Return the payload that reports an error in the middle of a stream."""
    return errors.anthropic(errors.Problem(500, message))


def _turn(given: JsonObject) -> Iterator[Message]:
    role, content = given.get("role"), given.get("content")
    if not isinstance(role, str):
        raise BadRequest("messages: every message needs a 'role'", "messages")
    blocks = objects(given, "content") if isinstance(content, list) else []
    results = [plain_text(block.get("content")) for block in blocks if block.get("type") == "tool_result"]
    said = [block for block in blocks if block.get("type") == "text"] if blocks else content
    return turn(role, plain_text(said), results)


def _schema(body: JsonObject) -> JsonObject | None:
    wanted = mapping(mapping(body, "output_config"), "format") or mapping(body, "output_format")
    return mapping(wanted, "schema") if wanted.get("type") == "json_schema" else None


def _tool_choice(choice: JsonObject) -> str:
    kind = choice.get("type", "auto")
    return str(choice.get("name") if kind == "tool" else {"any": "required"}.get(kind, kind))


def _message(label: str) -> JsonObject:
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": label,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _blocks(reply: Reply) -> Iterator[tuple[JsonObject, str]]:
    """Yield the blocks of a reply, each with the text that a stream sends in pieces."""
    if reply.said:
        yield {"type": "text", "text": reply.said}, reply.said
    for call in reply.tool_calls:
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": call.argument_value}
        yield block, call.argument_text


def _ending(reply: Reply) -> JsonObject:
    if reply.stopped_by is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": reply.stopped_by}
    reason = "content_filter" if reply.refusal is not None else reply.finish_reason
    return {"stop_reason": _STOP_REASONS.get(reason, reason), "stop_sequence": None}


def _usage(usage: Usage | None) -> JsonObject:
    if usage is None:
        return {}
    counts = {
        "input_tokens": usage.input_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }
    return {"usage": counts}
