"""The lists of models that clients can ask for: one model, under any name.

Standard library only. One function per family; each takes a path and returns None where there is no list.
"""

from pytest_llmexp.localmodel.exchange import LABEL, LOCAL_MODEL, JsonObject


def openai(path: str) -> JsonObject | None:
    """Answer /models and /models/<name>, which Anthropic's clients ask for too."""
    if path == "/models":
        return {"object": "list", "data": [_openai_model(LOCAL_MODEL)]}
    return _openai_model(path.removeprefix("/models/")) if path.startswith("/models/") else None


def none(path: str) -> JsonObject | None:
    """Answer nothing: no models are listed here."""
    return None


def _openai_model(name: str) -> JsonObject:
    return {"id": name, "object": "model", "created": 0, "owned_by": LABEL}
