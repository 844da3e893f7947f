"""What a request asks for: which model, how warm; and whether it is a call at all."""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import unquote

from pytest_llmexp.core.models import Json
from pytest_llmexp.tracking.wire.shapes import part, text

_PROMPTS = ("messages", "input", "contents", "prompt", "texts")
_PROMPTS_AT_A_MODEL = (*_PROMPTS, "content", "requests", "instances")  # said so where the path names the model only
_ONLY_COUNTING = re.compile(r"/(count_tokens|input_tokens|tokenize|count-tokens)$")

# /v1beta/models/gemini-3-pro:generateContent, also below /projects/<p>/locations/<l>/publishers/<who> on Vertex,
# where `rawPredict` takes other makers' requests
_GOOGLE = re.compile(
    r"/(?:models|tunedModels|endpoints)/([^/:]+)"
    r":(?:generateContent|streamGenerateContent|embedContent|batchEmbedContents|predict|rawPredict|streamRawPredict)$"
)
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/(?:chat/completions|completions|embeddings|responses)$")  # Azure
_BEDROCK = re.compile(r"/model/(.+)/(?:converse|converse-stream|invoke|invoke-with-response-stream)$")

_CONFIGS = ("generationConfig", "generation_config", "inferenceConfig", "options", "textGenerationConfig")


def requested_model(path: str, body: Json) -> str | None:
    """Return the model that a JSON request asks for; None if it is no call of a model.

    A call names a model, in the body or in its path, and carries something for it. Requests that only have tokens
    counted are none. A path of Bedrock says enough: what it carries differs from model to model.
    """
    if not isinstance(body, dict) or not body or _ONLY_COUNTING.search(path):
        return None
    if at_bedrock := _BEDROCK.search(path):
        return unquote(at_bedrock[1])
    in_path = _GOOGLE.search(path) or _DEPLOYMENT.search(path)
    if in_path and any(name in body for name in _PROMPTS_AT_A_MODEL):
        return text(body, "model") or in_path[1] if in_path.re is _DEPLOYMENT else unquote(in_path[1])
    return text(body, "model") if any(name in body for name in _PROMPTS) else None


def requested_temperature(body: Json) -> float | None:
    """Return the temperature that a request asks for; None if it does not say."""
    if not isinstance(body, dict):
        return None
    places: list[dict[str, Any]] = [body, *(part(body, name) for name in _CONFIGS)]
    return next((warm for place in places if (warm := _number(place.get("temperature"))) is not None), None)


def _number(value: Json) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
