"""JSON objects, one a line. https://github.com/ndjson/ndjson-spec"""

from __future__ import annotations

from pytest_llmexp.tracking.wire import jsontext
from pytest_llmexp.tracking.wire.growth import Event

CONTENT_TYPES = ("application/x-ndjson", "application/jsonl", "application/stream+json")
_EDGES = " \t\r\ufeff"  # white space of JSON, and the mark that some files begin with


def decode(content: bytes) -> tuple[list[Event], bool]:
    """Return an event for each line, and that none is damaged: a piece of one is kept as text."""
    lines = (line.strip(_EDGES) for line in content.decode("utf-8", "replace").split("\n"))
    return [_event(line) for line in lines if line], True


def whole(content: bytes) -> bytes:
    """Return the content up to the end of its last whole line."""
    return content[: content.rfind(b"\n") + 1]


def _event(line: str) -> Event:
    try:
        return {"data": jsontext.parse(line)}
    except ValueError:
        return {"text": line}


def encode(event: Event) -> bytes:
    """Return one event as a line."""
    line = jsontext.write(event["data"]) if "data" in event else str(event.get("text", "")).replace("\n", " ")
    return (line + "\n").encode("utf-8", "replace")
