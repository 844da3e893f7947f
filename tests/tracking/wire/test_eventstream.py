"""Amazon's binary event streams: bytes to events and back, to the byte."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest

from pytest_llmexp.tracking import wire
from tests.tracking.wire.samples import EVENTSTREAM, message

EMPTY = bytes.fromhex("000000100000000005c248eb7d98c8ff")  # a message without headers and payload
EVERY_TYPE = b"".join(
    [
        b"\x01a\x00",
        b"\x01b\x01",
        b"\x01c\x02\xff",
        b"\x01d\x03\x01\x00",
        b"\x01e\x04\x00\x00\x00\x07",
        b"\x01f\x05" + b"\x00" * 7 + b"\x09",
        b"\x01g\x06\x00\x02\xfe\xff",
        b"\x01h\x07\x00\x02hi",
        b"\x01i\x08" + b"\x00" * 7 + b"\x0a",
        b"\x01j\x09" + bytes(range(16)),
    ]
)
READ: dict[str, Any] = {
    "a": True,
    "b": False,
    "c": {"type": 2, "value": -1},
    "d": {"type": 3, "value": 256},
    "e": {"type": 4, "value": 7},
    "f": {"type": 5, "value": 9},
    "g": {"type": 6, "value": "/v8="},
    "h": "hi",
    "i": {"type": 8, "value": 10},
    "j": {"type": 9, "value": "AAECAwQFBgcICQoLDA0ODw=="},
}


def framed(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return head + struct.pack(">I", zlib.crc32(head))


def test_messages_are_restored_to_the_byte() -> None:
    content = EMPTY + framed(EVERY_TYPE, b'{"a":1}') + framed(b"", b"\xff") + framed(b"", b"no JSON")
    streamed = wire.read_stream(EVENTSTREAM, content)
    assert streamed.problem is None
    assert streamed.record["events"] == [
        {"headers": {}, "text": ""},
        {"headers": READ, "data": {"a": 1}},
        {"headers": {}, "base64": "/w=="},
        {"headers": {}, "text": "no JSON"},
    ]
    assert wire.restore_stream(streamed.record) == (EVENTSTREAM, content)


@pytest.mark.parametrize("at", [0, 5, 9, 13, 20, -1])
def test_a_damaged_message_ends_the_stream(at: int) -> None:
    damaged = bytearray(message(b'{"a": 1}', event_type="x"))
    damaged[at] ^= 1
    streamed = wire.read_stream(EVENTSTREAM, EMPTY + bytes(damaged))
    assert streamed.problem == wire.BROKE_OFF
    assert streamed.record["events"] == [{"headers": {}, "text": ""}]


@pytest.mark.parametrize("headers", [b"\x01a\x0a", b"\x01a\x07\x00\x05hi", b"\x05a", b"\x01\xff\x00", b"\x01a\x09\x00"])
def test_headers_that_are_none_end_the_stream(headers: bytes) -> None:
    assert wire.read_stream(EVENTSTREAM, framed(headers, b"")).problem == wire.BROKE_OFF


def test_both_checksums_are_checked() -> None:
    """The first one guards the lengths, before anything is read by them."""
    damaged = bytearray(EMPTY[:-4])
    damaged[9] ^= 1
    content = bytes(damaged) + struct.pack(">I", zlib.crc32(damaged))
    assert wire.read_stream(EVENTSTREAM, content).problem == wire.BROKE_OFF


@pytest.mark.parametrize(
    "value",
    [None, 1, [], {}, {"type": [], "value": 1}, {"type": 9, "value": "AAEC"}, {"type": 2, "value": 300}, "x" * 70_000],
)
def test_headers_that_no_message_has_are_restored_to_nothing(value: Any) -> None:
    events = [{"headers": {"a": value}, "data": 1}, {"headers": {}, "text": ""}]
    assert wire.restore_stream({"content_type": EVENTSTREAM, "events": events}) == (EVENTSTREAM, EMPTY)
