"""How values become columns and come back exactly, whatever a model put into them.

SQLite tools stop at NUL, PostgreSQL refuses it, and neither takes lone surrogates. In plain text the three
characters NUL, a surrogate and U+001A itself become U+001A and four hex digits; in JSON text NUL and surrogates
become JSON's own escapes. Knows no table and no database.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_llmexp.core.models import Json

Redact = Callable[[str], str]

_ESCAPED = re.compile("\x1a([0-9a-f]{4})")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORT = 200  # characters of a text worth remembering: addresses, clients and models are the same in call after call
_SHORT_KEPT = 1000
_WAITING = 512  # requests remembered until their response comes; more are not in flight at once
_LONGEST_WAITING = 100_000  # characters: bounds the memory that they take


def encode_text(text: str) -> str:
    """Return `text` without NUL and surrogates; `decode_text` undoes it."""
    if text.isascii():
        if "\x00" not in text and "\x1a" not in text:
            return text
    elif "\x1a" not in text and "\x00" not in text and _encodable(text):
        return text
    text = text.replace("\x1a", "\x1a001a").replace("\x00", "\x1a0000")
    return _SURROGATE.sub(lambda match: f"\x1a{ord(match.group()):04x}", text)


def decode_text(text: str) -> str:
    """Return what was given to `encode_text`."""
    if "\x1a" not in text:
        return text
    return _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), text)


def encode_json(value: Json, redact: Redact | None = None) -> str:
    """Return `value` as JSON text, non-ASCII kept, every string (keys too) redacted.

    Numbers JSON does not have are kept as the strings "nan", "inf" and "-inf". A surrogate pair in two halves
    comes back as the one character it means in JSON. `json.loads` undoes the rest.
    Raises TypeError for what is not JSON, RecursionError for what is nested too deep.
    """
    text = _dump(value)
    # The redactor also knows its secrets in their JSON-escaped form: only a hit costs the walk.
    if redact is not None and redact(text) != text:
        text = _dump(map_strings(value, redact))
    return text


def map_strings(value: Json, change: Callable[[str], str]) -> Json:
    """Return `value` with `change` applied to every string and key, and to the str of a number without JSON form."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(k) if isinstance(k, str) else k: map_strings(item, change) for k, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_strings(item, change) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def encoder(kind: str, redact: Redact | None) -> Callable[[Any], Any] | None:
    """Return what turns a value that is not None into a column of this kind (see columns.py); None: nothing to do."""
    if kind == "text" and redact is not None:
        return _remember_short(lambda value: encode_text(redact(value)))
    if kind in ("text", "exact"):
        return encode_text
    if kind == "json":
        return lambda value: encode_json(value, redact)
    if kind == "json twice":
        return _remember_until_again(lambda value: encode_json(value, redact))
    if kind == "names":
        return encode_json
    return _finite if kind == "finite" else None


def decoder(kind: str) -> Callable[[Iterable[Any]], list[Any]] | None:
    """Return what turns the values of a column of this kind back into what they were; None: nothing to do."""
    if kind in ("text", "exact"):
        return lambda column: [text if text is None or "\x1a" not in text else decode_text(text) for text in column]
    if kind in ("json", "json twice"):
        return lambda column: [None if text is None else {} if text == "{}" else json.loads(text) for text in column]
    if kind == "names":
        return lambda column: [tuple(json.loads(text)) for text in column]
    if kind == "flag":
        return lambda column: [None if number is None else bool(number) for number in column]
    return None


def _remember_short(encode: Callable[[str], str]) -> Callable[[str], str]:
    """Return `encode` with a memory for short texts."""
    known: dict[str, str] = {}

    def encoded(text: str) -> str:
        if len(text) > _SHORT:
            return encode(text)
        if (found := known.get(text)) is None:
            found = encode(text)
            if len(known) >= _SHORT_KEPT:
                known.clear()
            known[text] = found
        return found

    return encoded


def _remember_until_again(encode: Callable[[Json], str]) -> Callable[[Json], str]:
    """Return `encode` that keeps the text of a value until the very same value comes again.

    A call's request is written when it is sent and when its response is back; nothing changes it in between.
    """
    waiting: dict[int, tuple[Json, str]] = {}  # by id: true as long as the value itself is held here

    def encoded(value: Json) -> str:
        kept = waiting.pop(id(value), None)
        if kept is not None and kept[0] is value:
            return kept[1]
        text = encode(value)
        if len(text) <= _LONGEST_WAITING:
            if len(waiting) >= _WAITING:
                waiting.clear()  # requests without an answer, for the most part
            waiting[id(value)] = (value, text)
        return text

    return encoded


def _dump(value: Json) -> str:
    try:
        text = _JSON(value)
    except ValueError:  # NaN or infinity; what contains itself ends in a RecursionError
        text = _JSON(map_strings(value, str))
    if text.isascii() or _encodable(text):
        return text
    return _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _plain(value: Any) -> Json:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is no JSON")


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode


def _finite(value: float) -> float:
    number = float(value)
    if not math.isfinite(number) or number != value:
        raise ValueError(f"{value!r} is no finite float")
    return number


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
