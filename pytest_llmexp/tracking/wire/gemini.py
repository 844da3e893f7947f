"""Gemini's generateContent and its streams, also on Vertex. https://ai.google.dev/api/generate-content"""

from __future__ import annotations

from typing import Any

from pytest_llmexp.core.models import Json, Usage
from pytest_llmexp.tracking.wire.counts import Answered, count, total
from pytest_llmexp.tracking.wire.family import Family, Stream
from pytest_llmexp.tracking.wire.growth import Event, data_of, grow
from pytest_llmexp.tracking.wire.shapes import by_index, dicts, index, only, part, text

_OURS = ("candidates", "usageMetadata", "promptFeedback", "modelVersion")


def _is_ours(body: dict[str, Any]) -> bool:
    return any(name in body for name in _OURS)


def _read(body: dict[str, Any]) -> Answered:
    """The prompt includes cached content; results of tools and thoughts are counted on top.

    https://ai.google.dev/api/generate-content#UsageMetadata
    """
    usage = part(body, "usageMetadata")
    asked, said = count(usage, "promptTokenCount"), count(usage, "candidatesTokenCount")
    thoughts = count(usage, "thoughtsTokenCount")
    tokens = Usage(
        total(asked, count(usage, "toolUsePromptTokenCount")),
        total(thoughts if said is None else said, 0 if said is None else thoughts),
        count(usage, "cachedContentTokenCount"),
        None,
        thoughts,
    )
    candidates = dicts(body.get("candidates"))
    reason = text(candidates[0], "finishReason") if candidates else text(part(body, "promptFeedback"), "blockReason")
    return Answered(text(body, "modelVersion"), tokens, reason)


def join_chunks(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the response that chunks add up to. Counts of tokens go on from chunk to chunk: the last ones count."""
    joined: dict[str, Any] = {}
    candidates: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        joined.update({key: value for key, value in chunk.items() if value is not None})
        for piece in dicts(chunk.get("candidates")):
            _add_candidate(candidates.setdefault(index(piece, 0), {}), piece)
    return {**joined, "candidates": by_index(candidates)}


def _add_candidate(candidate: dict[str, Any], piece: dict[str, Any]) -> None:
    content, said = part(candidate, "content"), part(piece, "content")
    parts = list(content.get("parts", []))
    for more in dicts(said.get("parts")):
        if parts and (longer := _longer(parts[-1], more)) is not None:
            parts[-1] = longer
        else:
            parts.append(more)
    candidate.update({key: value for key, value in piece.items() if value is not None and key != "content"})
    candidate["content"] = {**content, **said, "parts": parts}


def _longer(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any] | None:
    """Return a text with what goes on with it: thoughts with thoughts, until a signature closes them."""
    if not isinstance(first.get("text"), str) or not isinstance(later.get("text"), str):
        return None
    if "thoughtSignature" in first or not {*first, *later} <= {"text", "thought", "thoughtSignature"}:
        return None
    if bool(first.get("thought")) is not bool(later.get("thought")):
        return None
    return grow(first, later, texts=("text",), latest=("thought", "thoughtSignature"))


def _lane(event: Event) -> str | None:
    candidate = only(data_of(event).get("candidates"))
    said = only(part(candidate, "content").get("parts"))
    return None if candidate is None or said is None else repr(index(candidate, 0))


def _grown(first: dict[str, Any], later: dict[str, Any]) -> dict[str, Any] | None:
    before, after = only(first["candidates"]) or {}, only(later["candidates"]) or {}
    said, more = part(before, "content"), part(after, "content")
    longer = _longer(only(said["parts"]) or {}, only(more["parts"]) or {})
    if longer is None:
        return None
    content = {**said, **more, "parts": [longer]}
    return {**first, **_said(later), "candidates": [{**before, **_said(after), "content": content}]}


def _said(piece: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in piece.items() if value is not None}


def _ended(events: list[Event]) -> bool:
    """A stream ends with the reason why, or with why there is no answer."""
    chunks = [data_of(event) for event in events]
    finished = any(candidate.get("finishReason") for chunk in chunks for candidate in dicts(chunk.get("candidates")))
    return finished or any(part(chunk, "promptFeedback").get("blockReason") for chunk in chunks)


def _join(events: list[Event]) -> Json:
    return join_chunks([data_of(event) for event in events])


FAMILY = Family(
    answers=_is_ours,
    read=_read,
    stream=Stream(
        has=lambda event: _is_ours(data_of(event)),
        lane=_lane,
        grown=_grown,
        join=_join,
        ended=_ended,
    ),
)
