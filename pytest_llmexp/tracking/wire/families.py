"""The wire families, the more peculiar ones first: the last takes everything."""

from __future__ import annotations

from pytest_llmexp.tracking.wire import anthropic, bedrock, chat, embeddings, gemini, ollama, responses
from pytest_llmexp.tracking.wire.family import Family, Stream

FAMILIES: tuple[Family, ...] = (
    chat.FAMILY,
    responses.FAMILY,
    anthropic.FAMILY,
    bedrock.FAMILY,
    gemini.FAMILY,
    ollama.FAMILY,
    embeddings.FAMILY,
)
STREAMS: tuple[Stream, ...] = tuple(family.stream for family in FAMILIES if family.stream)
