"""From a request to what goes over the wire: scripted, sampled, or an error as the family that was asked shows it.

Standard library only; knows nothing of sockets.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pytest_llmexp.localmodel.errors import Problem
from pytest_llmexp.localmodel.exchange import LABEL, SCRIPT_LABEL, BadRequest, JsonObject, count_usage
from pytest_llmexp.localmodel.routes import Completions, Route
from pytest_llmexp.localmodel.sampler import sample
from pytest_llmexp.localmodel.script import COUNTED, Answer, Request, Sentinel

LABEL_HEADER = "X-Local-Model"


@dataclass(frozen=True)
class Outgoing:
    """A response, and how its delivery goes wrong. `events` of a stream take the place of the body."""

    status: int = 200
    body: bytes = b""
    events: tuple[bytes, ...] | None = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None


def answer(route: Route, request: Request, scripted: Answer | None) -> Outgoing:
    """Answer a POST request. Without a scripted answer, the sampling model answers."""
    try:
        if scripted is None:
            return replace(_content(route, request, None, LABEL), headers={LABEL_HEADER: LABEL})
        headers = {LABEL_HEADER: SCRIPT_LABEL, **scripted.headers}
        outgoing = _scripted(route, request, scripted)
        return replace(outgoing, headers=headers, cut_after=scripted.cut_after)
    except BadRequest as refused:
        return error(route, Problem(400, str(refused), refused.param))
    except Exception as bug:
        return error(route, Problem(500, f"The local model failed: {bug!r}"))


def catalog(route: Route) -> Outgoing:
    """Answer a GET request: a list of models, or one of them; any name is known."""
    listed = route.family.catalog(route.path)
    return unknown(route, "GET") if listed is None else _json(listed)


def unknown(route: Route, method: str) -> Outgoing:
    """Answer that nobody speaks there."""
    return error(route, Problem(404, f"Unknown request URL: {method} {route.path}.", code="unknown_url"))


def error(route: Route, problem: Problem) -> Outgoing:
    """Return an error as the family that was asked shows it."""
    return replace(_json(route.family.error(problem)), status=problem.status)


def _scripted(route: Route, request: Request, scripted: Answer) -> Outgoing:
    if scripted.body is not None:
        return Outgoing(scripted.status, scripted.body)
    if scripted.status != 200:
        return error(route, Problem(scripted.status, scripted.text or "The server had an error."))
    return _content(route, request, scripted, SCRIPT_LABEL)


def _content(route: Route, request: Request, scripted: Answer | None, label: str) -> Outgoing:
    if route.endpoint is None:
        return unknown(route, "POST")
    if isinstance(route.endpoint, Completions):
        return _completion(route.endpoint, request, scripted, label)
    return _json(route.endpoint(request.body, label))


def _completion(endpoint: Completions, request: Request, scripted: Answer | None, label: str) -> Outgoing:
    wire = endpoint.wire
    ask = wire.read(request.body)
    replies = sample(ask) if scripted is None else scripted.replies(ask)
    usage = COUNTED if scripted is None else scripted.usage
    counted = count_usage(ask, replies) if isinstance(usage, Sentinel) else usage
    streams = ask.stream if endpoint.streams is None else endpoint.streams
    if not streams:
        return _json(wire.render(replies, counted, label, ask))
    payloads = list(wire.events(replies, counted, label, ask))
    if scripted is not None and scripted.error_after is not None:
        payloads[scripted.error_after :] = [wire.error_event("The server had an error in the stream.")]
    framed = tuple(endpoint.framing.frames(payloads))
    return Outgoing(events=framed, content_type=endpoint.framing.content_type)


def _json(body: JsonObject) -> Outgoing:
    return Outgoing(body=json.dumps(body, ensure_ascii=False).encode())
