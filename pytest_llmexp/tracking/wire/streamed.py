"""Streamed answers: what they add up to, what is wrong with them, and a record to stream them from again."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from pytest_llmexp.core.models import Json
from pytest_llmexp.tracking.wire import eventstream, ndjson, sse
from pytest_llmexp.tracking.wire.families import STREAMS
from pytest_llmexp.tracking.wire.family import Stream
from pytest_llmexp.tracking.wire.growth import Event, data_of, go_on, merge
from pytest_llmexp.tracking.wire.pieces import cut, piecewise
from pytest_llmexp.tracking.wire.shapes import part, text

BROKE_OFF = "the stream broke off before its end"
NO_EVENT = "the stream held no event"
_LONGEST_MESSAGE = 2000
_END_MARKS = (b"[DONE]", b"message_stop", b"response.completed", b"response.incomplete", b'"done":true')


class Streamed(NamedTuple):
    """A stream as the response it would have been without streaming, what is wrong with it, and what restores it."""

    response: Json
    problem: str | None
    record: Json


class _Framing(NamedTuple):
    decode: Callable[[bytes], tuple[list[Event], bool]]
    whole: Callable[[bytes], bytes]  # without an event at its end that did not come whole, where `decode` would keep it
    encode: Callable[[Event], bytes]


_FRAMINGS = {
    sse.CONTENT_TYPE: _Framing(sse.decode, sse.whole, sse.encode),
    **{content_type: _Framing(ndjson.decode, ndjson.whole, ndjson.encode) for content_type in ndjson.CONTENT_TYPES},
    eventstream.CONTENT_TYPE: _Framing(eventstream.decode, bytes, eventstream.encode),
}


def is_stream(content_type: str) -> bool:
    """Tell whether a response of this content type comes event by event."""
    return _essence(content_type) in _FRAMINGS


def may_end_with(piece: bytes) -> bool:
    """Tell whether a piece of a stream may hold its end mark, after which many clients read no further."""
    return any(mark in piece.replace(b": ", b":") for mark in _END_MARKS)


def read_stream(content_type: str, content: bytes, *, closed_early: bool = False) -> Streamed:
    """Put a stream together. One of an unknown family is the response `{"events": [...]}`.

    The record holds the events, those that only go on with a text as one, and how they were cut into pieces. A stream
    that its client has `closed_early` is no problem but for errors that it tells of; its record says so.
    """
    framing = _framing(content_type)
    events, whole = framing.decode(framing.whole(content) if closed_early else content)
    came = events
    places: list[int] = []
    stream = next((stream for stream in STREAMS if any(map(stream.has, events))), None)
    if stream is not None:
        events, places = merge(came, stream.lane, stream.grown)
    response = stream.join(events) if stream else {"events": _said(events)}
    problem = _failure(events)
    record: dict[str, Any] = {"content_type": content_type}
    if closed_early:
        record["closed_early"] = True
    else:
        problem = problem or (None if whole else BROKE_OFF) or _missing(stream, events)
    if stream is not None and problem is None and len(events) < len(came):
        record.update(cut(came, events, places, partial(go_on, grown=stream.grown)))
    return Streamed(response, problem, {**record, "events": events})


def restore_stream(record: Json) -> tuple[str, bytes]:
    """Return the content type and the bytes of a stream that clients read to the answer that was recorded."""
    content_type = text(record, "content_type") or sse.CONTENT_TYPE
    encode = _framing(content_type).encode
    return content_type, b"".join(_bytes(encode, event) for event in _events(record))


def _events(record: Json) -> list[Json]:
    if not isinstance(record, dict):
        return []
    if "pieces" in record:
        try:
            return list(piecewise(record))
        except (LookupError, TypeError, ValueError, AttributeError):  # no record that was made here
            pass
    events = record.get("events")
    return events if isinstance(events, list) else []


def _bytes(encode: Callable[[Event], bytes], event: Json) -> bytes:
    try:
        return encode(event) if isinstance(event, dict) else b""
    except (ValueError, TypeError, KeyError, RecursionError, struct.error):
        return b""  # no event of any record that was read


def _framing(content_type: str) -> _Framing:
    return _FRAMINGS.get(_essence(content_type), _FRAMINGS[sse.CONTENT_TYPE])


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _said(events: list[Event]) -> list[Json]:
    slots = ("data", "chunk", "text", "base64")
    return [event[slot] for event in events for slot in slots if slot in event and not sse.is_end_mark(event)]


def _missing(stream: Stream | None, events: list[Event]) -> str | None:
    if stream is None:
        return None if _said(events) else NO_EVENT
    return None if stream.ended(events) else BROKE_OFF


def _failure(events: list[Event]) -> str | None:
    for event in events:
        data, headers = data_of(event), part(event, "headers")
        if data.get("error"):
            return _described(data["error"])
        if headers.get(":message-type") in ("exception", "error"):
            kind = text(headers, ":exception-type") or text(headers, ":error-code") or "error"
            return _described(f"{kind}: {text(data, 'message') or text(headers, ':error-message') or ''}")
        if data.get("type") == "error" or event.get("event") == "error":
            return _described(data or _said([event])[0])
        if data.get("type") == "response.failed":
            message = text(part(part(data, "response"), "error"), "message")
            return f"the response failed: {message[:_LONGEST_MESSAGE]}" if message else "the response failed"
    return None


def _described(error: Json) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return f"the stream ended with an error: {str(message or error)[:_LONGEST_MESSAGE]}"
