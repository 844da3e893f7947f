"""Embeddings: hashed bags of words. Equal texts get equal vectors; texts that share words are near each other.

Standard library only. One function per endpoint: OpenAI's, Gemini's two, Ollama's two.
"""

import base64
import hashlib
import math
import struct
from typing import Any

from pytest_llmexp.localmodel.conversation import plain_text
from pytest_llmexp.localmodel.exchange import BadRequest, JsonObject, pieces
from pytest_llmexp.localmodel.fields import integer, mapping, objects
from pytest_llmexp.localmodel.gemini import in_camel_case

DIMENSIONS = 256


def openai(body: JsonObject, label: str) -> JsonObject:
    """Return the response of /v1/embeddings; raise BadRequest for an input that is none."""
    texts = _texts(body.get("input"))
    dimensions = integer(body, "dimensions", low=1, high=16384) or DIMENSIONS
    encode = _base64 if body.get("encoding_format") == "base64" else _floats
    data = [
        {"object": "embedding", "index": index, "embedding": encode(vector(text, dimensions))}
        for index, text in enumerate(texts)
    ]
    tokens = _tokens(texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": label, "usage": usage}


def gemini(body: JsonObject, label: str) -> JsonObject:
    """Return the response of :embedContent, which has no field for the model."""
    return {"embedding": _gemini_vector(body)}


def gemini_batch(body: JsonObject, label: str) -> JsonObject:
    """Return the response of :batchEmbedContents."""
    return {"embeddings": [_gemini_vector(request) for request in objects(body, "requests")]}


def ollama(body: JsonObject, label: str) -> JsonObject:
    """Return the response of /api/embed."""
    texts = _texts(body.get("input"))
    dimensions = integer(body, "dimensions", low=1, high=16384) or DIMENSIONS
    vectors = [vector(text, dimensions) for text in texts]
    return {"model": label, "embeddings": vectors, "prompt_eval_count": _tokens(texts)}


def ollama_prompt(body: JsonObject, label: str) -> JsonObject:
    """Return the response of /api/embeddings, the older one for a single prompt."""
    return {"embedding": vector(plain_text(body.get("prompt")))}


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return the unit vector of a text: each word adds 1 or -1 at the place its hash gives it.

    Signed feature hashing after Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009.
    """
    values = [0.0] * dimensions
    for piece in pieces(text.casefold()):
        place = int.from_bytes(hashlib.blake2b(piece.strip().encode(), digest_size=8).digest())
        values[(place >> 1) % dimensions] += 1.0 if place & 1 else -1.0
    norm = math.sqrt(sum(value * value for value in values))
    if norm == 0:
        return [1.0] + [0.0] * (dimensions - 1)
    return [value / norm for value in values]


def _gemini_vector(request: JsonObject) -> JsonObject:
    request = in_camel_case(request)
    settings = request | in_camel_case(mapping(request, "embedContentConfig"))
    dimensions = integer(settings, "outputDimensionality", low=1, high=16384) or DIMENSIONS
    return {"values": vector(plain_text(mapping(request, "content").get("parts")), dimensions)}


def _tokens(texts: list[str]) -> int:
    return sum(len(pieces(text)) for text in texts)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(item, str) for item in value):
            return value
        if all(isinstance(item, int) for item in value):
            return [" ".join(map(str, value))]
        if all(isinstance(item, list) for item in value):
            return [" ".join(map(str, item)) for item in value]
    raise BadRequest("'input' must be a text, a list of texts, or lists of tokens, and not empty.", "input")


def _floats(values: list[float]) -> list[float]:
    return values


def _base64(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
