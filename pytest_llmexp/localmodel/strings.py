"""Strings that fit a JSON schema: its format and length, and what the name of the property suggests.

Standard library only.
"""

import datetime
import uuid

from pytest_llmexp.localmodel.brevity import Brief, requested_brief
from pytest_llmexp.localmodel.exchange import JsonObject
from pytest_llmexp.localmodel.relevance import stems
from pytest_llmexp.localmodel.vocabulary import SHARED
from pytest_llmexp.localmodel.writer import Writer

_TITLES = frozenset(stems("name title subject headline heading label topic keyword tag category"))
_LISTS = {stems(name)[0]: name for name in ("city", "company", "day", "month")}
_DAYS_FROM = datetime.datetime(2030, 1, 1, 9, tzinfo=datetime.UTC)


def sampled_string(schema: JsonObject, name: str, message: str, writer: Writer) -> str:
    """Return a string for a property of this name.

    Args:
        schema: May set `format`, `minLength`, `maxLength` and a `description` that asks for brevity.
        name: The name of the property; "name" or "title" gives a title, "city" a city.
        message: The message that the string answers; it may ask for brevity.
        writer: Writes it.
    """
    if schema.get("format"):
        formatted = _formatted(str(schema["format"]), writer)
        if formatted is not None:
            return formatted
    text = _listed(name, writer) or writer.write(_brief(schema, name, message)).text
    return _fitted(text, schema, writer)


def _brief(schema: JsonObject, name: str, message: str) -> Brief:
    asked = requested_brief(str(schema.get("description", ""))) or requested_brief(message) or Brief()
    is_title = bool(_TITLES.intersection(stems(name)[-1:])) or schema.get("maxLength", 1000) <= 60
    return Brief(is_title or (asked.title and not name), asked.sentences, asked.max_words)


def _listed(name: str, writer: Writer) -> str | None:
    slot = next((_LISTS[word] for word in stems(name)[-1:] if word in _LISTS), None)
    return writer.choose({option: writer.relevance.pull(option) for option in SHARED[slot]}) if slot else None


def _fitted(text: str, schema: JsonObject, writer: Writer) -> str:
    low, high = int(schema.get("minLength", 0)), schema.get("maxLength")
    while len(text) < low:
        text = f"{text} {writer.write(Brief(sentences=1)).text}"
    if high is not None and len(text) > high:
        words = text[:high].rsplit(" ", 1)[0].rstrip(" ,")
        text = words if len(words) >= max(low, 1) else text[:high]
    return text


def _formatted(kind: str, writer: Writer) -> str | None:
    """Return a string of one of JSON schema's formats, or None for a format that needs nothing special."""
    days = writer.rng.randrange(365)
    moment = _DAYS_FROM + datetime.timedelta(days=days)
    values = {
        "date": moment.date().isoformat(),
        "date-time": moment.isoformat(),
        "time": moment.time().isoformat() + "Z",
        "duration": f"P{days + 1}D",
        "email": f"user{days}@example.com",
        "hostname": f"host{days}.example.com",
        "uri": f"https://example.com/page/{days}",
        "ipv4": f"192.0.2.{days % 250 + 1}",
        "ipv6": f"2001:db8::{days + 1:x}",
        "uuid": str(uuid.UUID(int=writer.rng.getrandbits(128), version=4)),
    }
    return values.get(kind)
