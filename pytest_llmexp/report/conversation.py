"""Who said what in the JSON of a request and its response. Pure functions; whatever the JSON holds, they do not raise.

Read are OpenAI's chat completions and responses, Anthropic's messages, Gemini's generateContent, Bedrock's converse,
Ollama's own chat and generate, and the messages of OpenTelemetry's spans. What is none of these gives no turns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from pytest_llmexp.core.models import Json

_RESULTS = ("tool_result", "toolResult", "functionResponse", "function_response", "tool_call_response")


class ToolUse(NamedTuple):
    """A tool that a model calls."""

    name: str
    arguments: Json


class Turn(NamedTuple):
    """What one party says: a text, and the tools it calls."""

    role: str
    text: str
    tools: tuple[ToolUse, ...] = ()


def read_request(request: Json) -> list[Turn]:
    """Return the messages of a request, instructions first."""
    return list(_request_turns(request)) if isinstance(request, dict) else []


def read_response(response: Json) -> list[Turn]:
    """Return the answers of a response; several if several were asked for."""
    return list(_response_turns(response)) if isinstance(response, dict) else []


def _request_turns(request: dict[str, Json]) -> Iterator[Turn]:
    for name in ("instructions", "system", "systemInstruction", "system_instruction"):
        if request.get(name):
            yield _turn("system", _parts(request[name]))
    for message in _dicts(request.get("messages")):  # OpenAI, Anthropic, Bedrock, Ollama
        yield _message(message, "user")
    for item in _listed(request.get("contents")):  # Gemini
        yield _turn(_text(item.get("role")) or "user" if isinstance(item, dict) else "user", _parts(item))
    for item in _listed(request.get("input")):  # OpenAI's responses and embeddings
        yield _item(item, "user") if isinstance(item, dict) else _turn("user", [item])
    for text in _listed(request.get("prompt")):
        yield _turn("user", [text])


def _response_turns(response: dict[str, Json]) -> Iterator[Turn]:
    for choice in _dicts(response.get("choices")):  # OpenAI's chat completions, and the older completions
        if isinstance(message := choice.get("message"), dict):
            yield _message(message, "assistant")
        elif isinstance(choice.get("text"), str):
            yield Turn("assistant", choice["text"])
    for item in _dicts(response.get("output")):  # OpenAI's responses
        yield _item(item, "assistant")
    for candidate in _dicts(response.get("candidates")):  # Gemini
        if isinstance(content := candidate.get("content"), dict):
            yield _turn(_text(content.get("role")) or "model", _parts(content))
    output = response.get("output")
    held = output.get("message") if isinstance(output, dict) else response.get("message")  # Bedrock, else Ollama
    if isinstance(held, dict) and "content" in held:
        yield _message(held, "assistant")
    if response.get("type") == "message":  # Anthropic
        yield _message(response, "assistant")
    if isinstance(response.get("response"), str):  # Ollama's generate
        yield Turn("assistant", response["response"])


def _message(message: dict[str, Json], role: str) -> Turn:
    """Read a message with `content`; OpenAI and Ollama put reasoning, refusals and tool calls beside it."""
    thoughts = _text(message.get("reasoning_content")) or _text(message.get("thinking"))
    parts: list[Json] = [{"thinking": thoughts}] if thoughts else []
    parts += [*_parts(message.get("content", message.get("parts"))), *filter(None, [_text(message.get("refusal"))])]
    parts += [call["function"] for call in _dicts(message.get("tool_calls")) if isinstance(call.get("function"), dict)]
    if isinstance(message.get("function_call"), dict):
        parts.append(message["function_call"])
    return _turn(_text(message.get("role")) or role, parts)


def _item(item: dict[str, Json], role: str) -> Turn:
    """Read an item of OpenAI's responses."""
    kind = item.get("type")
    if kind == "function_call":
        return _turn("assistant", [item])
    if kind == "function_call_output":
        return Turn("tool", _result(item.get("output")))
    if kind == "reasoning":
        texts = chain(_dicts(item.get("summary")), _dicts(item.get("content")))
        return _turn("assistant", [{"thinking": "\n".join(_text(part.get("text")) for part in texts)}])
    return _message(item, role) if "content" in item or "parts" in item else _turn(role, [item])


def _turn(role: str, parts: list[Json]) -> Turn:
    said = [_read_part(part) for part in parts]
    texts = [part for part in said if isinstance(part, str) and part]
    return Turn(role, "\n".join(texts), tuple(part for part in said if isinstance(part, ToolUse)))


def _parts(content: Json) -> list[Json]:
    """Return what a message consists of; Gemini wraps it into `parts`."""
    if isinstance(content, dict) and "parts" in content:
        return _listed(content["parts"])
    return _listed(content)


def _read_part(part: Json) -> str | ToolUse:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else _json(part)
    if (use := _tool_use(part)) is not None:
        return use
    for name in _RESULTS:
        if part.get("type") == name or isinstance(part.get(name), dict):
            result = part[name] if isinstance(part.get(name), dict) else part
            return _result(next((result[key] for key in ("content", "response", "result") if key in result), None))
    thought = part.get("thinking") or (part.get("text") if part.get("thought") is True else None)
    if isinstance(thought, str):
        return f"[thinking] {thought}"
    for name in ("text", "refusal", "content"):
        if isinstance(part.get(name), str):
            return str(part[name])
    if "json" in part or not part:
        return _json(part.get("json"))
    # an image, a file, a sound: its name instead of its bytes; what a tool returned has names of its own
    kind = _text(part.get("type")) or (next(iter(part)) if len(part) == 1 else "")
    return f"[{kind}]" if kind else _json(part)


def _result(content: Json) -> str:
    """Return what a tool gave back: parts like those of a message, or any JSON."""
    if isinstance(content, list):
        return _turn("tool", content).text
    return content if isinstance(content, str) else _json(content)


def _tool_use(part: dict[str, Json]) -> ToolUse | None:
    for name in ("toolUse", "functionCall", "function_call"):  # Bedrock, Gemini
        if isinstance(part.get(name), dict):
            part = part[name]
    for arguments in ("input", "args", "arguments"):
        if isinstance(part.get("name"), str) and arguments in part:
            return ToolUse(part["name"], _parsed(part[arguments]))
    return None


def _parsed(arguments: Json) -> Json:
    """OpenAI sends arguments as JSON inside of a text."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _dicts(value: Json) -> list[dict[str, Json]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
