"""OpenAI responses, as Azure and others speak them too. https://platform.openai.com/docs/api-reference/responses"""

from __future__ import annotations

from typing import Any

from pytest_llmexp.core.models import Json
from pytest_llmexp.tracking.wire.counts import Answered, openai_usage
from pytest_llmexp.tracking.wire.family import Family, Stream
from pytest_llmexp.tracking.wire.growth import Event, data_of, grow
from pytest_llmexp.tracking.wire.shapes import part, text

ENDINGS = ("response.completed", "response.incomplete", "response.failed")
_PLACE = ("type", "item_id", "output_index", "content_index", "summary_index")


def _read(body: dict[str, Any]) -> Answered:
    status = text(body, "status")
    if status == "incomplete":
        status = text(part(body, "incomplete_details"), "reason") or status
    return Answered(text(body, "model"), openai_usage(body.get("usage")), status)


def _kind(event: Event) -> str:
    return text(data_of(event), "type") or ""


def _join(events: list[Event]) -> Json:
    """The event that ends a stream holds the whole response; without it, the events are what there is."""
    for event in reversed(events):
        if _kind(event) in ENDINGS:
            return data_of(event).get("response")
    return {"events": [event.get("data", event.get("text")) for event in events]}


def _lane(event: Event) -> str | None:
    """Deltas of one part of one item go together, whatever goes on meanwhile."""
    data = data_of(event)
    return repr([data.get(name) for name in _PLACE]) if _kind(event).endswith(".delta") else None


def _grown(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any] | None:
    if str(later.get("type")).endswith("audio.delta") or not isinstance(later.get("delta"), str):
        return None  # base64 does not add up to base64
    return grow(first, later, texts=("delta",), lists=("logprobs",), ignored=("sequence_number", "obfuscation"))


FAMILY = Family(
    answers=lambda body: body.get("object") == "response",
    read=_read,
    stream=Stream(
        has=lambda event: _kind(event).startswith("response."),
        lane=_lane,
        grown=_grown,
        join=_join,
        ended=lambda events: any(_kind(event) in ENDINGS for event in events),
    ),
)
