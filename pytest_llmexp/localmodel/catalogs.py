"""The lists of models that clients can ask for: one model, under any name.

Standard library only. One function per family; each takes a path and returns None where there is no list.
"""

import re

from pytest_llmexp.localmodel.exchange import LABEL, LOCAL_MODEL, JsonObject


def openai(path: str) -> JsonObject | None:
    """Answer /models and /models/<name>, which Anthropic's clients ask for too."""
    if path == "/models":
        return {"object": "list", "data": [_openai_model(LOCAL_MODEL)]}
    return _openai_model(path.removeprefix("/models/")) if path.startswith("/models/") else None


def gemini(path: str) -> JsonObject | None:
    """Answer /v1beta/models and /v1beta/models/<name>."""
    found = re.fullmatch(r"/v1\w*/models(?:/([^/:]+))?", path)
    if found is None:
        return None
    return _gemini_model(found[1]) if found[1] else {"models": [_gemini_model(LOCAL_MODEL)]}


def ollama(path: str) -> JsonObject | None:
    """Answer /api/tags."""
    model = {"name": LOCAL_MODEL, "model": LOCAL_MODEL, "details": {"family": LABEL}}
    return {"models": [model]} if path == "/api/tags" else None


def none(path: str) -> JsonObject | None:
    """Answer nothing: no models are listed here."""
    return None


def _openai_model(name: str) -> JsonObject:
    return {"id": name, "object": "model", "created": 0, "owned_by": LABEL}


def _gemini_model(name: str) -> JsonObject:
    methods = ["generateContent", "embedContent"]
    return {"name": f"models/{name}", "displayName": LABEL, "supportedGenerationMethods": methods}
