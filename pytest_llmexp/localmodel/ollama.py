"""The wire format of Ollama's POST /api/chat, and what it shares with /api/generate.

Standard library only. Fields follow https://docs.ollama.com/api. Durations are left out: there are none.
"""

import datetime
from collections.abc import Iterator, Sequence

from pytest_llmexp.localmodel import errors
from pytest_llmexp.localmodel.conversation import function_tool, plain_text
from pytest_llmexp.localmodel.exchange import Ask, BadRequest, JsonObject, Message, Reply, Tool, Usage, pieces
from pytest_llmexp.localmodel.fields import integer, mapping, number, objects, stop_texts

_DONE_REASONS = {"tool_calls": "stop", "content_filter": "stop"}


def read(body: JsonObject) -> Ask:
    """Read what is asked; raise BadRequest when the body is not what the endpoint takes."""
    given = objects(body, "messages")
    if not given:
        raise BadRequest("messages is missing or empty", "messages")
    messages = [Message(str(message.get("role", "user")), plain_text(message.get("content"))) for message in given]
    return asked(body, messages, tuple(map(function_tool, objects(body, "tools"))))


def render(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> JsonObject:
    """Return the body of a response that is not streamed."""
    reply = replies[0]
    return finished(label, reply, usage, {"message": _message(reply.said, reply)})


def events(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> Iterator[JsonObject]:
    """Yield the payloads of a streamed response."""
    reply = replies[0]
    for piece in pieces(reply.said):
        yield unfinished(label, {"message": _message(piece)})
    if reply.tool_calls:
        yield unfinished(label, {"message": _message("", reply)})
    yield finished(label, reply, usage, {"message": _message("")})


def error_event(message: str) -> JsonObject:
    """Return the payload that reports an error in the middle of a stream."""
    return errors.ollama(errors.Problem(500, message))


def asked(body: JsonObject, messages: Sequence[Message], tools: tuple[Tool, ...] = ()) -> Ask:
    """Return what is asked with these messages and the options of the body; it streams unless told not to."""
    options, wanted = mapping(body, "options"), body.get("format")
    limit = integer(options, "num_predict") or 0
    return Ask(
        messages=tuple(messages),
        temperature=number(options, "temperature", 0.8, 0, 2),
        top_p=number(options, "top_p", 0.9, 0, 1),
        seed=integer(options, "seed"),
        max_tokens=limit if limit > 0 else None,  # -1 and -2 are Ollama's words for no limit
        stop=stop_texts(options),
        schema=wanted if isinstance(wanted, dict) else {} if wanted == "json" else None,
        tools=tools,
        stream=body.get("stream") is not False,
    )


def unfinished(label: str, content: JsonObject) -> JsonObject:
    """Return a piece of a streamed response."""
    now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
    return {"model": label, "created_at": now, **content, "done": False}


def finished(label: str, reply: Reply, usage: Usage | None, content: JsonObject) -> JsonObject:
    """Return a whole response, or the last piece of a streamed one."""
    counts = {"prompt_eval_count": usage.input_tokens, "eval_count": usage.output_tokens} if usage else {}
    reason = _DONE_REASONS.get(reply.finish_reason, reply.finish_reason)
    return {**unfinished(label, content), "done": True, "done_reason": reason, **counts}


def _message(text: str, reply: Reply | None = None) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": text}
    if reply is not None and reply.tool_calls:
        calls = [{"name": call.name, "arguments": call.argument_value} for call in reply.tool_calls]
        message["tool_calls"] = [{"function": {**call, "index": index}} for index, call in enumerate(calls)]
    return message
