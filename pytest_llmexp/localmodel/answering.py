"""From a request to what goes over the wire: scripted, sampled, or an error in OpenAI's shape.

Standard library only; knows nothing of sockets.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType

from pytest_llmexp.localmodel import chat, embeddings, responses
from pytest_llmexp.localmodel.exchange import (
    LABEL,
    LOCAL_MODEL,
    SCRIPT_LABEL,
    BadRequest,
    JsonObject,
    count_usage,
)
from pytest_llmexp.localmodel.sampler import sample
from pytest_llmexp.localmodel.script import COUNTED, Answer, Request, Sentinel

WIRES: Mapping[str, ModuleType] = {"/chat/completions": chat, "/responses": responses}


@dataclass(frozen=True)
class Outgoing:
    """A response, and how its delivery goes wrong. `events` of a stream take the place of the body."""

    status: int = 200
    body: bytes = b""
    events: tuple[bytes, ...] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None


def answer(request: Request, scripted: Answer | None) -> Outgoing:
    """Answer a POST request. Without a scripted answer, the sampling model answers."""
    try:
        if scripted is not None and scripted.body is not None:
            return Outgoing(scripted.status, scripted.body, None, scripted.headers, scripted.cut_after)
        if scripted is not None and scripted.status != 200:
            failure = error(scripted.status, scripted.text or "The server had an error.")
            return Outgoing(failure.status, failure.body, None, scripted.headers, scripted.cut_after)
        if request.path == "/embeddings":
            return _json(embeddings.render(request.body, LABEL if scripted is None else SCRIPT_LABEL), scripted)
        if request.path in WIRES:
            return _completion(WIRES[request.path], request, scripted)
        return error(404, f"Unknown request URL: POST {request.path}.", code="unknown_url")
    except BadRequest as refused:
        return error(400, str(refused), param=refused.param)
    except Exception as bug:
        return error(500, f"The local model failed: {bug!r}")


def models(path: str) -> Outgoing:
    """Answer a GET request: the list of models, or one of them; any name is known."""
    if path == "/models":
        return _json({"object": "list", "data": [_model(LOCAL_MODEL)]})
    if path.startswith("/models/"):
        return _json(_model(path.removeprefix("/models/")))
    return error(404, f"Unknown request URL: GET {path}.", code="unknown_url")


def error(status: int, message: str, param: str | None = None, code: str | None = None) -> Outgoing:
    """Return an error in the shape of OpenAI's errors."""
    kinds = {429: "rate_limit_error", 401: "authentication_error", 403: "permission_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return Outgoing(status, json.dumps(body).encode())


def _completion(wire: ModuleType, request: Request, scripted: Answer | None) -> Outgoing:
    ask = wire.read(request.body)
    replies = sample(ask) if scripted is None else scripted.replies(ask)
    label = LABEL if scripted is None else SCRIPT_LABEL
    usage = COUNTED if scripted is None else scripted.usage
    counted = count_usage(ask, replies) if isinstance(usage, Sentinel) else usage
    if not ask.stream:
        return _json(wire.render(replies, counted, label, ask), scripted)
    events = tuple(wire.events(replies, counted, label, ask))
    if scripted is None:
        return Outgoing(events=events)
    if scripted.error_after is not None:
        events = (*events[: scripted.error_after], wire.error_event("The server had an error in the stream."))
    return Outgoing(events=events, headers=scripted.headers, cut_after=scripted.cut_after)


def _json(body: JsonObject, scripted: Answer | None = None) -> Outgoing:
    encoded = json.dumps(body, ensure_ascii=False).encode()
    return Outgoing(200, encoded, None, scripted.headers, scripted.cut_after) if scripted else Outgoing(200, encoded)


def _model(name: str) -> JsonObject:
    return {"id": name, "object": "model", "created": 0, "owned_by": LABEL}
