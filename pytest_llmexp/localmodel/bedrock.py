"""The wire format of POST /model/<model>/converse and /converse-stream of Amazon Bedrock.

Standard library only. Fields follow https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html.
No field of a response names a model, so only the header does that every response has.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from pytest_llmexp.localmodel.conversation import plain_text, system, tool, turn
from pytest_llmexp.localmodel.exchange import Ask, BadRequest, JsonObject, Message, Reply, Usage, pieces
from pytest_llmexp.localmodel.fields import limits, mapping, objects

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
}


def read(body: JsonObject) -> Ask:
    """Read what is asked; raise BadRequest when the body is not what the endpoint takes."""
    turns = objects(body, "messages")
    if not turns:
        raise BadRequest("The request has no 'messages'; give a list of objects with 'role' and 'content'.")
    tools = mapping(body, "toolConfig")
    specs = [given["toolSpec"] for given in objects(tools, "tools") if isinstance(given.get("toolSpec"), dict)]
    return Ask(
        messages=(*system(body.get("system")), *chain.from_iterable(map(_turn, turns))),
        **limits(mapping(body, "inferenceConfig"), "topP", "maxTokens", "stopSequences"),
        schema=_schema(body),
        tools=tuple(tool(spec, mapping(spec, "inputSchema").get("json")) for spec in specs),
        tool_choice=_tool_choice(mapping(tools, "toolChoice")),
    )


def render(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> JsonObject:
    """Return the body of a response that is not streamed."""
    content = [block for block, _ in _blocks(replies[0])]
    message = {"role": "assistant", "content": content}
    return {"output": {"message": message}, "stopReason": _stop_reason(replies[0]), **_counts(usage)}


def events(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> Iterator[JsonObject]:
    """Yield the payloads of a streamed response, each under the name of its event."""
    yield {"messageStart": {"role": "assistant"}}
    for index, (block, text) in enumerate(_blocks(replies[0])):
        place = {"contentBlockIndex": index}
        if "toolUse" in block:
            started = {key: value for key, value in block["toolUse"].items() if key != "input"}
            yield {"contentBlockStart": {"start": {"toolUse": started}, **place}}
        for piece in pieces(text):
            delta = {"toolUse": {"input": piece}} if "toolUse" in block else {"text": piece}
            yield {"contentBlockDelta": {"delta": delta, **place}}
        yield {"contentBlockStop": place}
    yield {"messageStop": {"stopReason": _stop_reason(replies[0])}}
    yield {"metadata": _counts(usage)}


def error_event(message: str) -> JsonObject:
    """Return the payload that reports an error in the middle of a stream."""
    return {"internalServerException": {"message": message}}


def _turn(given: JsonObject) -> Iterator[Message]:
    blocks = objects(given, "content")
    results = [_result(block["toolResult"]) for block in blocks if isinstance(block.get("toolResult"), dict)]
    return turn(str(given.get("role", "user")), plain_text([block for block in blocks if "text" in block]), results)


def _result(result: JsonObject) -> str:
    parts = objects(result, "content")
    return "\n".join(json.dumps(part["json"]) if "json" in part else part.get("text") or "" for part in parts)


def _schema(body: JsonObject) -> JsonObject | None:
    structure = mapping(mapping(mapping(body, "outputConfig"), "textFormat"), "structure")
    text = mapping(structure, "jsonSchema").get("schema")
    if text is None:
        return None
    try:
        schema: Any = json.loads(text)
    except (TypeError, ValueError):
        schema = None
    if not isinstance(schema, dict):
        raise BadRequest("The 'schema' of 'jsonSchema' must be a JSON object, written as text.")
    return schema


def _tool_choice(choice: JsonObject) -> str:
    if "tool" in choice:
        return str(mapping(choice, "tool").get("name", "required"))
    return "required" if "any" in choice else "auto"


def _blocks(reply: Reply) -> Iterator[tuple[JsonObject, str]]:
    """Yield the blocks of a reply, each with the text that a stream sends in pieces."""
    if reply.said:
        yield {"text": reply.said}, reply.said
    for call in reply.tool_calls:
        use = {"toolUseId": call.id, "name": call.name, "input": call.argument_value}
        yield {"toolUse": use}, call.argument_text


def _stop_reason(reply: Reply) -> str:
    if reply.stopped_by is not None:
        return "stop_sequence"
    reason = "content_filter" if reply.refusal is not None else reply.finish_reason
    return _STOP_REASONS.get(reason, reason)


def _counts(usage: Usage | None) -> JsonObject:
    """Return usage and metrics; nobody measured the latency, but clients demand a number."""
    counts: JsonObject = {"metrics": {"latencyMs": 0}}
    if usage is not None:
        counts["usage"] = {
            "inputTokens": usage.input_tokens - usage.cached_tokens,
            "outputTokens": usage.output_tokens,
            "totalTokens": usage.total_tokens,
            "cacheReadInputTokens": usage.cached_tokens,
            "cacheWriteInputTokens": 0,
        }
    return counts
