"""How the payloads of a stream go over the wire: server-sent events, lines of JSON, or one JSON array.

Standard library only.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pytest_llmexp.localmodel.exchange import JsonObject


class Framing(NamedTuple):
    """The content type of a stream, and what makes its pieces out of payloads."""

    content_type: str
    frames: Callable[[Iterable[JsonObject]], Iterator[bytes]]


def _done_events(payloads: Iterable[JsonObject]) -> Iterator[bytes]:
    """Yield events of data, and one that says they are done unless an error ended them."""
    payload: JsonObject = {}
    for payload in payloads:
        yield _event(payload)
    if "error" not in payload:
        yield b"data: [DONE]\n\n"


def _named_events(payloads: Iterable[JsonObject]) -> Iterator[bytes]:
    for payload in payloads:
        yield f"event: {payload['type']}\n".encode() + _event(payload)


def _json_lines(payloads: Iterable[JsonObject]) -> Iterator[bytes]:
    for payload in payloads:
        yield _json(payload) + b"\n"


def _json_array(payloads: Iterable[JsonObject]) -> Iterator[bytes]:
    start = b"["
    for payload in payloads:
        yield start + _json(payload)
        start = b",\r\n"
    yield b"]"


def _event(payload: JsonObject) -> bytes:
    return b"data: " + _json(payload) + b"\n\n"


def _json(payload: JsonObject) -> bytes:
    return json.dumps(payload, ensure_ascii=False).encode()


DONE_EVENTS = Framing("text/event-stream", _done_events)
EVENTS = Framing("text/event-stream", lambda payloads: map(_event, payloads))
NAMED_EVENTS = Framing("text/event-stream", _named_events)
JSON_LINES = Framing("application/x-ndjson", _json_lines)
JSON_ARRAY = Framing("application/json", _json_array)
