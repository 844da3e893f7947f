"""Reads requests and responses of model servers: which are calls, which model, how many tokens.

Pure functions of JSON; whatever a server says, they do not raise. The families are OpenAI's chat completions,
responses and embeddings (https://platform.openai.com/docs/api-reference); others that look like a call are kept
as they are.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pytest_llmexp.core.models import Json, Usage
from pytest_llmexp.tracking.sse import join_chat_chunks, read_events

_PROMPT_FIELDS = ("messages", "input", "contents", "prompt")
_MODEL_IN_PATH = re.compile(r"/models/([^/:]+):\w+$")  # Gemini: /v1beta/models/gemini-3-pro:generateContent
BROKE_OFF = "the stream broke off before its end"
NO_EVENT = "the stream held no event"
_ENDINGS = ("response.completed", "response.incomplete", "response.failed")
_LARGEST = 2**63 - 1  # of an integer column
NO_USAGE = Usage()


class Answered(NamedTuple):
    """What a response says of itself."""

    model: str | None
    usage: Usage
    finish_reason: str | None = None


def requested_model(path: str, body: Json) -> str | None:
    """Return the model that a JSON request asks for; None if it is no call of a model.

    A call names a model, in the body or in its path, and carries something for it.
    """
    if not isinstance(body, dict) or not any(field in body for field in _PROMPT_FIELDS):
        return None
    if "model" in body:
        return str(body["model"])
    in_path = _MODEL_IN_PATH.search(path)
    return in_path[1] if in_path else None


def read_response(body: Json) -> Answered:
    """Return the model that answered and the tokens it counted; None where the response does not say."""
    if not isinstance(body, dict):
        return Answered(None, NO_USAGE)
    model = body.get("model")
    return Answered(model if isinstance(model, str) else None, _usage(body.get("usage")))


def _usage(usage: Json) -> Usage:
    """Chat completions say prompt/completion tokens, responses and others input/output tokens."""
    if not isinstance(usage, dict):
        return NO_USAGE
    return Usage(
        _count(usage, "prompt_tokens", "input_tokens"),
        _count(usage, "completion_tokens", "output_tokens"),
        _count(_part(usage, "prompt_tokens_details", "input_tokens_details"), "cached_tokens"),
        None,
        _count(_part(usage, "completion_tokens_details", "output_tokens_details"), "reasoning_tokens"),
    )


def _count(usage: dict[str, Json], *names: str) -> int | None:
    return next((usage[name] for name in names if _is_count(usage.get(name))), None)


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _part(usage: dict[str, Json], *names: str) -> dict[str, Json]:
    return next((usage[name] for name in names if isinstance(usage.get(name), dict)), {})


def join_stream(text: str) -> tuple[Json, str | None]:
    """Put a stream of server-sent events together to the response it would have been without streaming.

    Returns the response and, where the stream broke off or reports an error, what is wrong. A stream of an
    unknown family is returned as `{"events": [...]}`.
    """
    events, done = read_events(text)
    objects: list[dict[str, Any]] = [event for event in events if isinstance(event, dict)]
    failure = next((_failure(event["error"]) for event in objects if event.get("error")), None)
    if any(event.get("object") == "chat.completion.chunk" for event in objects):
        response = join_chat_chunks(objects)
        finished = done or any(choice["finish_reason"] for choice in response["choices"])
        return response, failure or (None if finished else BROKE_OFF)
    for event in reversed(objects):
        if event.get("type") in _ENDINGS:
            failed = failure or "the response failed"
            return event.get("response"), failed if event["type"] == "response.failed" else failure
    cut = any(str(event.get("type", "")).startswith("response.") for event in objects)
    return {"events": events}, failure or (BROKE_OFF if cut else None if events else NO_EVENT)


def _failure(error: Json) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return f"the stream ended with an error: {str(message)[:2000]}"


class Streamed(NamedTuple):
    response: Json
    problem: str | None
    record: Json


def requested_temperature(body: Json) -> float | None:
    temperature = body.get("temperature")
    return temperature if isinstance(temperature, int | float) else None


def is_stream(content_type: str) -> bool:
    return content_type.startswith("text/event-stream")


def read_stream(content_type: str, content: bytes) -> Streamed:
    response, problem = join_stream(content.decode("utf-8", "replace"))
    return Streamed(response, problem, {"sse": content.decode("utf-8", "replace")})


def restore_stream(record: Json) -> tuple[str, bytes]:
    return "text/event-stream", record["sse"].encode()
