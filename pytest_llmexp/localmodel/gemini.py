"""The wire format of POST /v1beta/models/<model>:generateContent and :streamGenerateContent.

Standard library only. Fields follow https://ai.google.dev/api/generate-content; names in snake case are read too.
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from pytest_llmexp.localmodel import errors
from pytest_llmexp.localmodel.conversation import plain_text, system, tool, turn
from pytest_llmexp.localmodel.exchange import Ask, BadRequest, JsonObject, Message, Reply, Tool, Usage, new_id, pieces
from pytest_llmexp.localmodel.fields import integer, limits, mapping, objects
from pytest_llmexp.localmodel.gemini_schema import json_schema

_FINISH_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_WRAPPERS = frozenset({"result", "output", "return_value"})


def read(body: JsonObject) -> Ask:
    """Read what is asked; raise BadRequest when the body is not what the endpoint takes."""
    body = in_camel_case(body)
    if not body.get("contents"):
        raise BadRequest("* GenerateContentRequest.contents: contents is not specified", "contents")
    config = in_camel_case(mapping(body, "generationConfig"))
    instruction = mapping(body, "systemInstruction").get("parts")
    tools, choice = _tools(body)
    return Ask(
        messages=(*system(instruction), *chain.from_iterable(map(_turn, objects(body, "contents")))),
        **limits(config, "topP", "maxOutputTokens", "stopSequences"),
        seed=integer(config, "seed"),
        n=integer(config, "candidateCount", low=1, high=8) or 1,
        schema=_schema(config),
        tools=tools,
        tool_choice=choice,
    )


def render(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> JsonObject:
    """Return the body of a response that is not streamed."""
    candidates = [_candidate(index, _parts(reply)) | _ending(reply) for index, reply in enumerate(replies)]
    return {"candidates": candidates, **_usage(usage), **_origin(label)}


def events(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> Iterator[JsonObject]:
    """Yield the payloads of a streamed response; the last one has the usage."""
    origin = _origin(label)
    for index, reply in enumerate(replies):
        calls = [part for part in _parts(reply) if "text" not in part]
        for part in [*({"text": piece} for piece in pieces(reply.text or "")), *calls]:
            yield {"candidates": [_candidate(index, [part])], **origin}
        counted = _usage(usage) if index == len(replies) - 1 else {}
        yield {"candidates": [_candidate(index, [{"text": ""}]) | _ending(reply)], **counted, **origin}


def error_event(message: str) -> JsonObject:
    """Return the payload that reports an error in the middle of a stream."""
    return errors.google(errors.Problem(500, message))


def in_camel_case(fields: JsonObject) -> JsonObject:
    """Return the fields under their names in camel case: Google's servers take both."""
    return {re.sub(r"_([a-z])", lambda found: found[1].upper(), name): value for name, value in fields.items()}


def _turn(content: JsonObject) -> Iterator[Message]:
    parts = [in_camel_case(part) for part in objects(content, "parts")]
    results = [_result(mapping(part, "functionResponse")) for part in parts if "functionResponse" in part]
    said = [part for part in parts if "text" in part and not part.get("thought")]
    return turn({"model": "assistant"}.get(content.get("role", ""), "user"), plain_text(said), results)


def _result(response: JsonObject) -> str:
    """Return the text of what a function returned: clients put a value that is no object under a name of their own."""
    given = response.get("response")
    if isinstance(given, dict) and len(given) == 1 and _WRAPPERS.issuperset(given):
        (given,) = given.values()
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _schema(config: JsonObject) -> JsonObject | None:
    plain = config.get("responseJsonSchema") or config.get("_responseJsonSchema")
    schema = plain or json_schema(config.get("responseSchema"))
    if schema is None and config.get("responseMimeType") == "application/json":
        return {}
    return schema if isinstance(schema, dict) else None


def _tools(body: JsonObject) -> tuple[tuple[Tool, ...], str]:
    """Return the functions that may be called, and the choice among them."""
    wanted = in_camel_case(mapping(in_camel_case(mapping(body, "toolConfig")), "functionCallingConfig"))
    mode, allowed = str(wanted.get("mode", "AUTO")).upper(), wanted.get("allowedFunctionNames") or []
    given = chain.from_iterable(
        objects(in_camel_case(group), "functionDeclarations") for group in objects(body, "tools")
    )
    tools = tuple(_tool(in_camel_case(declared)) for declared in given)
    kept = tuple(one for one in tools if one.name in allowed) if allowed else tools
    return kept, {"ANY": "required", "NONE": "none"}.get(mode, "auto")


def _tool(declared: JsonObject) -> Tool:
    return tool(declared, declared.get("parametersJsonSchema") or json_schema(declared.get("parameters")))


def _origin(label: str) -> JsonObject:
    return {"modelVersion": label, "responseId": new_id("")}


def _candidate(index: int, parts: list[JsonObject]) -> JsonObject:
    return {"content": {"parts": parts, "role": "model"}, "index": index}


def _parts(reply: Reply) -> list[JsonObject]:
    said: list[JsonObject] = [] if reply.text is None else [{"text": reply.text}]
    return said + [
        {"functionCall": {"id": call.id, "name": call.name, "args": call.argument_value}} for call in reply.tool_calls
    ]


def _ending(reply: Reply) -> JsonObject:
    """Return how a candidate ended; one that was refused has no content."""
    if reply.refusal is not None:
        return {"content": {"role": "model"}, "finishReason": "SAFETY", "finishMessage": reply.refusal}
    return {"finishReason": _FINISH_REASONS.get(reply.finish_reason, reply.finish_reason)}


def _usage(usage: Usage | None) -> JsonObject:
    if usage is None:
        return {}
    counts: dict[str, Any] = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "totalTokenCount": usage.total_tokens,
    }
    if usage.cached_tokens:
        counts["cachedContentTokenCount"] = usage.cached_tokens
    if usage.reasoning_tokens:
        counts["thoughtsTokenCount"] = usage.reasoning_tokens
    return {"usageMetadata": counts}
