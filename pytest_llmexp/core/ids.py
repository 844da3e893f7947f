"""Identity: canonical JSON, tagged hashes, sortable ids. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from typing import Any

from pytest_llmexp.core.forks import renew_lock_in_children

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: keys sorted, no spaces, non-ASCII kept.

    Raises ValueError for NaN and infinities, TypeError for what is not JSON.
    """
    return _CANONICAL(value)


def tagged_hash(tag: str, *parts: Any) -> str:
    """Return `sha256:<64 hex digits>` over the tag and the canonical JSON of the parts.

    The tag keeps hashes of different things apart, as in BIP 340.
    """
    text = canonical_json([f"llmexp.{tag}", *parts])
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def short_hash(tagged: str) -> str:
    """Return the first seven hex digits of a tagged hash, for people."""
    return tagged.partition(":")[2][:7]


class IdMaker:
    """Makes ids that sort in the order they were made, also when the clock jumps back.

    An id is `<prefix>_` and 26 characters: 48 bits of milliseconds since 1970 and 80 bits
    (a counter that starts at random in each millisecond), in Crockford's base 32, like a ULID.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renew_lock_in_children(self)
        self._pid = os.getpid()
        self._milliseconds = 0
        self._rest = 0

    def __call__(self, prefix: str) -> str:
        """Return a new id."""
        with self._lock:
            now = time.time_ns() // 1_000_000
            if now > self._milliseconds or self._pid != os.getpid():
                self._pid = os.getpid()
                self._milliseconds = max(now, self._milliseconds)
                self._rest = int.from_bytes(os.urandom(10), "big") >> 1  # room for the counter
            else:
                self._rest += 1
            number = (self._milliseconds << 80) | self._rest
        return f"{prefix}_{_base32(number, 26)}"


def _base32(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(digits))


new_id = IdMaker()
