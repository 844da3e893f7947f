"""Amazon's event streams: binary messages of headers and payload, each with its own checksums.

A message is its length and that of its headers (4 bytes each), the CRC32 of both, the headers, the payload, and the
CRC32 of all before. A header is a name (1 byte of length), a type, a value. Numbers are big-endian.
https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html#streaming-event-stream and
https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from pytest_llmexp.core.models import Json
from pytest_llmexp.tracking.wire import jsontext
from pytest_llmexp.tracking.wire.growth import Event
from pytest_llmexp.tracking.wire.shapes import part, text

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")
_FRAME = _PRELUDE.size + 2 * _CRC.size
_TRUE, _FALSE, _BYTES, _TEXT, _UUID = 0, 1, 6, 7, 9
_NUMBERS = {2: ">b", 3: ">h", 4: ">i", 5: ">q", 8: ">q"}  # by type: byte, short, int, long, time in ms


class _Message(NamedTuple):
    headers: dict[str, Json]
    payload: bytes


def name_of(event: Event) -> str | None:
    """Return what kind of event it is."""
    return text(event, "event") or text(part(event, "headers"), ":event-type")


def decode(content: bytes) -> tuple[list[Event], bool]:
    """Return the events of a stream up to its first damage, and whether there is none."""
    events: list[Event] = []
    try:
        for message in _messages(content):
            events.append({"headers": message.headers, **_payload(message.payload)})
    except (ValueError, struct.error, IndexError):
        return events, False
    return events, True


def encode(event: Event) -> bytes:
    """Return one event as a message. Raises ValueError or struct.error for what is none."""
    headers = b"".join(_header(name, value) for name, value in part(event, "headers").items())
    payload = _payload_bytes(event)
    prelude = _PRELUDE.pack(_FRAME + len(headers) + len(payload), len(headers))
    message = prelude + _CRC.pack(zlib.crc32(prelude)) + headers + payload
    return message + _CRC.pack(zlib.crc32(message))


def _messages(content: bytes) -> Iterator[_Message]:
    at = 0
    while at < len(content):
        size, headers_size = _PRELUDE.unpack_from(content, at)
        begin, end = at + _PRELUDE.size + _CRC.size, at + size - _CRC.size
        if size < _FRAME + headers_size or at + size > len(content):
            raise ValueError("cut off")
        for until in (begin - _CRC.size, end):
            if _CRC.unpack_from(content, until) != (zlib.crc32(content[at:until]),):
                raise ValueError("wrong checksum")
        yield _Message(_headers(content[begin : begin + headers_size]), content[begin + headers_size : end])
        at += size


def _headers(block: bytes) -> dict[str, Json]:
    headers: dict[str, Json] = {}
    at = 0
    while at < len(block):
        name_end = at + 1 + block[at]
        name, kind = block[at + 1 : name_end].decode(), block[name_end]
        headers[name], at = _value(kind, block, name_end + 1)
    return headers


def _value(kind: int, block: bytes, at: int) -> tuple[Json, int]:
    """Return a header's value, and where the next begins. Texts and truths are JSON; others name their type."""
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind in _NUMBERS:
        (number,) = struct.unpack_from(_NUMBERS[kind], block, at)
        return {"type": kind, "value": number}, at + struct.calcsize(_NUMBERS[kind])
    size = 16
    if kind != _UUID:
        (size,) = struct.unpack_from(">H", block, at)
        at += 2
    raw = block[at : at + size]
    if len(raw) < size or kind not in (_BYTES, _TEXT, _UUID):
        raise ValueError("no header")
    return raw.decode() if kind == _TEXT else {"type": kind, "value": base64.b64encode(raw).decode()}, at + size


def _header(name: str, value: Json) -> bytes:
    encoded = name.encode("utf-8", "replace")
    head = struct.pack(">B", len(encoded)) + encoded
    if isinstance(value, bool):
        return head + bytes([_TRUE if value else _FALSE])
    if isinstance(value, str):
        raw = value.encode("utf-8", "replace")
        return head + struct.pack(">BH", _TEXT, len(raw)) + raw
    kind, inner = (value["type"], value["value"]) if isinstance(value, dict) else (None, None)
    if isinstance(inner, int) and kind in _NUMBERS:
        return head + bytes([kind]) + struct.pack(_NUMBERS[kind], inner)
    raw = base64.b64decode(str(inner), validate=True)
    if kind not in (_BYTES, _UUID) or (kind == _UUID and len(raw) != 16):
        raise ValueError("no header")
    return head + bytes([kind]) + (struct.pack(">H", len(raw)) if kind == _BYTES else b"") + raw


def _payload(payload: bytes) -> dict[str, Any]:
    """Return a payload as JSON, as text or in base64; what InvokeModel wraps in base64 is unwrapped."""
    try:
        said = payload.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(payload).decode()}
    try:
        data = jsontext.parse(said)
    except ValueError:
        return {"text": said}
    chunk = _chunk(data)
    return {"data": data} if chunk is None else {"chunk": chunk}


def _chunk(data: Json) -> dict[str, Any] | None:
    if not isinstance(data, dict) or "bytes" not in data or not data.keys() <= {"bytes", "p"}:
        return None
    try:
        chunk = jsontext.parse(base64.b64decode(data["bytes"], validate=True).decode())
    except (ValueError, TypeError):
        return None
    return chunk if isinstance(chunk, dict) else None


def _payload_bytes(event: Event) -> bytes:
    if "chunk" in event:
        wrapped = base64.b64encode(jsontext.write(event["chunk"]).encode()).decode()
        return jsontext.write({"bytes": wrapped}).encode()
    if "data" in event:
        return jsontext.write(event["data"]).encode()
    if "base64" in event:
        return base64.b64decode(str(event["base64"]), validate=True)
    return str(event.get("text", "")).encode("utf-8", "replace")
