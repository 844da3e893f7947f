"""Binary frames of `application/vnd.amazon.eventstream`, in which Amazon's services stream.

Standard library only. A frame is a prelude (its length, that of its headers, a CRC32 of both), headers, the payload,
and a CRC32 of all before; see https://smithy.io/2.0/aws/amazon-eventstream.html.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from zlib import crc32

from pytest_llmexp.localmodel.exchange import JsonObject
from pytest_llmexp.localmodel.framing import Framing

_TEXT = 7  # the type of a header whose value is a text
_AROUND = 16  # bytes of the prelude and of the last checksum


def _frames(payloads: Iterable[JsonObject]) -> Iterator[bytes]:
    """Yield a frame for each payload, an object whose one key names the event or the exception."""
    for payload in payloads:
        ((name, content),) = payload.items()
        kind = "exception" if name.endswith("Exception") else "event"
        headers = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
        yield frame(headers, json.dumps(content, ensure_ascii=False).encode())


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """Return one frame."""
    encoded = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    lengths = struct.pack("!II", len(encoded) + len(payload) + _AROUND, len(encoded))
    message = lengths + struct.pack("!I", crc32(lengths)) + encoded + payload
    return message + struct.pack("!I", crc32(message))


def _header(name: bytes, value: bytes) -> bytes:
    return struct.pack("!B", len(name)) + name + struct.pack("!BH", _TEXT, len(value)) + value


FRAMES = Framing("application/vnd.amazon.eventstream", _frames)
