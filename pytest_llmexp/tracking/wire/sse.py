"""Server-sent events. https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

import re

from pytest_llmexp.tracking.wire import jsontext
from pytest_llmexp.tracking.wire.growth import Event

CONTENT_TYPE = "text/event-stream"
_LINE_END = re.compile(r"\r\n|\r|\n")
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_ENVELOPE = ("event", "id", "retry")
_DONE = "[DONE]"


def decode(content: bytes) -> tuple[list[Event], bool]:
    """Return the events, and that none is damaged: a piece of one is kept as text. Comments are dropped."""
    events: list[Event] = []
    block: list[tuple[str, str]] = []
    for line in [*_LINE_END.split(content.decode("utf-8-sig", "replace")), ""]:
        if line:
            name, _, value = line.partition(":")
            block.append((name, value.removeprefix(" ")))
            continue
        if event := _event(block):
            events.append(event)
        block = []
    return events, True


def whole(content: bytes) -> bytes:
    """Return the content up to the end of its last event. Who reads by lines has one before its blank line comes."""
    ends = [found.end() for found in _EVENT_END.finditer(content)]
    whole_events = ends[-1] if ends else 0
    whole_lines = max(content.rfind(b"\n"), content.rfind(b"\r")) + 1
    last, _ = decode(content[whole_events:whole_lines])
    return content[: whole_lines if all("data" in event for event in last) else whole_events]


def is_end_mark(event: Event) -> bool:
    """Tell whether an event is the mark that OpenAI ends its streams with, which is no JSON."""
    return isinstance(said := event.get("text"), str) and said.strip() == _DONE


def _event(block: list[tuple[str, str]]) -> Event | None:
    """Lines of data are joined; of other fields the last one counts. Without data there is no event."""
    data = "\n".join(value for name, value in block if name == "data")
    if not data:
        return None
    envelope = {name: value for name, value in block if name in _ENVELOPE and value}
    try:
        return {**envelope, "data": jsontext.parse(data)}
    except ValueError:
        return {**envelope, "text": data}


def encode(event: Event) -> bytes:
    """Return one event as it goes over the wire."""
    lines = [f"{name}: {_LINE_END.sub(' ', str(event[name]))}" for name in _ENVELOPE if event.get(name)]
    data = jsontext.write(event["data"]) if "data" in event else str(event.get("text", ""))
    lines += [f"data: {line}" for line in _LINE_END.split(data)]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")
