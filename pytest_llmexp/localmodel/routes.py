"""Who speaks at which address: the families of APIs and their endpoints.

Standard library only; knows nothing of sockets.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pytest_llmexp.localmodel import (
    anthropic,
    bedrock,
    catalogs,
    chat,
    embeddings,
    errors,
    gemini,
    ollama,
    ollama_generate,
    responses,
)
from pytest_llmexp.localmodel.errors import Problem
from pytest_llmexp.localmodel.eventstream import FRAMES
from pytest_llmexp.localmodel.exchange import Ask, JsonObject, Reply, Usage
from pytest_llmexp.localmodel.framing import DONE_EVENTS, EVENTS, JSON_ARRAY, JSON_LINES, NAMED_EVENTS, Framing


class Wire(Protocol):
    """A wire format; each is a module."""

    def read(self, body: JsonObject) -> Ask:
        """Read what is asked; raise BadRequest when the body is not what the endpoint takes."""

    def render(self, replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> JsonObject:
        """Return the body of a response that is not streamed."""

    def events(self, replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> Iterator[JsonObject]:
        """Yield the payloads of a streamed response."""

    def error_event(self, message: str) -> JsonObject:
        """Return the payload that reports an error in the middle of a stream."""


@dataclass(frozen=True)
class Completions:
    """An endpoint for replies; `streams` says whether it streams, and is None where the body says so."""

    wire: Wire
    framing: Framing = EVENTS
    streams: bool | None = None


Embeddings = Callable[[JsonObject, str], JsonObject]
Endpoint = Completions | Embeddings


class Family(NamedTuple):
    """APIs of one provider.

    `paths` matches all that is asked in its way; `endpoints` are patterns of paths too, and `prefix` is left out of
    what they match. A path that ends in `?alt=sse` was asked with that query.
    """

    paths: str
    error: Callable[[Problem], JsonObject]
    endpoints: dict[str, Endpoint]
    catalog: Callable[[str], JsonObject | None] = catalogs.none
    prefix: str = ""


class Route(NamedTuple):
    """What was asked: a family, the path to log, and the endpoint if there is one."""

    family: Family
    path: str
    endpoint: Endpoint | None


_DEPLOYMENT = r"(?:(?:/openai)?/deployments/[^/]+)?"  # on Azure
_GEMINI_MODEL = r"/v1\w*/(?:.+/)?(?:models|tunedModels|endpoints)/[^/]+"

FAMILIES = (
    Family("/v1/messages.*", errors.anthropic, {"/v1/messages": Completions(anthropic, NAMED_EVENTS)}),
    Family(
        rf"{_GEMINI_MODEL}:\w*[cC]ontents?|/v1(?:alpha|beta)\w*/.*",
        errors.google,
        {
            f"{_GEMINI_MODEL}:generateContent": Completions(gemini, streams=False),
            rf"{_GEMINI_MODEL}:streamGenerateContent\?alt=sse": Completions(gemini, EVENTS, streams=True),
            f"{_GEMINI_MODEL}:streamGenerateContent": Completions(gemini, JSON_ARRAY, streams=True),
            f"{_GEMINI_MODEL}:embedContent": embeddings.gemini,
            f"{_GEMINI_MODEL}:batchEmbedContents": embeddings.gemini_batch,
        },
        catalogs.gemini,
    ),
    Family(
        "/api/.*",
        errors.ollama,
        {
            "/api/chat": Completions(ollama, JSON_LINES),
            "/api/generate": Completions(ollama_generate, JSON_LINES),
            "/api/embed": embeddings.ollama,
            "/api/embeddings": embeddings.ollama_prompt,
        },
        catalogs.ollama,
    ),
    Family(
        "/model/.*",
        errors.bedrock,
        {
            "/model/.+/converse": Completions(bedrock, streams=False),
            "/model/.+/converse-stream": Completions(bedrock, FRAMES, streams=True),
        },
    ),
    Family(
        ".*",
        errors.openai,
        {
            f"{_DEPLOYMENT}/chat/completions": Completions(chat, DONE_EVENTS),
            f"{_DEPLOYMENT}/responses": Completions(responses, NAMED_EVENTS),
            f"{_DEPLOYMENT}/embeddings": embeddings.openai,
        },
        catalogs.openai,
        prefix="/v1",
    ),
)


def find(path: str, alt: str = "") -> Route:
    """Return who speaks at a path; `alt` is the field of this name in the query."""
    family = next(family for family in FAMILIES if re.fullmatch(family.paths, path))
    logged = path.removeprefix(family.prefix) if path.startswith(f"{family.prefix}/") else path
    asked = (f"{logged}?alt={alt}", logged) if alt else (logged,)
    found = (
        endpoint for target in asked for known, endpoint in family.endpoints.items() if re.fullmatch(known, target)
    )
    return Route(family, logged, next(found, None))
