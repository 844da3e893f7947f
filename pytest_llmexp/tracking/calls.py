"""One call, from its request to the commit of its response.

A row is handed on before the request is sent, its response when that is back; the response reaches the caller
after the commit. Headers are never stored. Nothing here raises: recording must not decide a test. Knows no client.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple

from pytest_llmexp.core.clock import utc_now
from pytest_llmexp.core.ids import new_id, tagged_hash
from pytest_llmexp.core.models import Call, Json
from pytest_llmexp.tracking import wire
from pytest_llmexp.tracking.counting import CallCounter
from pytest_llmexp.tracking.recorder import COMMIT_TIMEOUT_S, Scope, current_scope
from pytest_llmexp.tracking.tracing import step_of

_RETRY_HEADER = "x-stainless-retry-count"  # set by openai's and anthropic's clients on each attempt
_NOT_JSON = "the answer is not JSON"
_UNFINISHED = (_NOT_JSON, wire.BROKE_OFF, wire.NO_EVENT)
_CLOSED_EARLY = "the client closed the response before its end"
_NOT_TEXT = ("audio/", "image/", "video/", "application/octet-stream")


class Received(NamedTuple):
    """A response as far as it came. `text` is None for a body that is no text; `complete` if it was read to its end."""

    status_code: int
    content_type: str
    text: str | None
    complete: bool = True


class CallInProgress:
    """One attempt of one call. A retry continues the call of the attempt before: same row, one attempt more.

    `latency_s` and `first_token_s` are those of the last attempt.
    """

    def __init__(self, scope: Scope, request: Any, body: Json) -> None:
        self._experiment = scope.experiment
        self._counter: CallCounter = scope.run.calls if scope.run else scope.experiment.loose
        key = tagged_hash("request", request.method, request.url.path, body)
        self.call = self._again(request, key) or _new_call(scope, request, body, key, self._counter.next())
        self._experiment.put(self.call, lazily=True)
        self._started = time.perf_counter()
        self._first: float | None = None

    def _again(self, request: Any, key: str) -> Call | None:
        if request.headers.get(_RETRY_HEADER, "0") == "0":
            return None
        earlier = self._counter.take_failed(key)
        return earlier and replace(
            earlier,
            status="running",
            error=None,
            response=None,
            model_returned=None,
            latency_s=None,
            first_token_s=None,
            attempts=earlier.attempts + 1,
        )

    def chunk(self) -> None:
        """Note the time of the first piece of a streamed answer."""
        if self._first is None:
            self._first = time.perf_counter() - self._started

    def answered(self, received: Received, broken: BaseException | None = None) -> Future[None] | None:
        """Hand on the response; resolve when it is safe. `broken` is what ended it before its time."""
        latency = time.perf_counter() - self._started
        try:
            body, problem = _read(received)
            model, usage = wire.read_response(body)
        except Exception as error:  # an answer that nobody foresaw is kept as it came
            body, problem = received.text, None
            model, usage = None, wire.NO_USAGE
            self._experiment.note_problem(error)
        if broken is not None:
            problem = _describe(broken)
        elif problem in _UNFINISHED and not received.complete:
            problem = _CLOSED_EARLY
        return self._close(
            response=body,
            model_returned=model,
            latency_s=latency,
            status="error" if problem else "ok",
            error=problem,
            **usage._asdict(),
        )

    def failed(self, error: BaseException) -> Future[None] | None:
        """Hand on that no response came."""
        latency = time.perf_counter() - self._started
        return self._close(status="error", error=_describe(error), latency_s=latency)

    def settle(self, waiting: Future[None] | None) -> None:
        """Wait for the commit."""
        self._experiment.settle(waiting)

    async def settle_async(self, waiting: Future[None] | None) -> None:
        """Wait for the commit without holding up an asyncio loop; other loops are held up for the moment."""
        if waiting is None:
            return
        if not waiting.done() and _asyncio_runs():
            done, _ = await asyncio.wait([asyncio.wrap_future(waiting)], timeout=COMMIT_TIMEOUT_S)
            for committed in done:
                committed.exception()  # asyncio logs exceptions that nobody asked for; the recorder has noted it
            self._experiment.settle(waiting, timeout_s=0)
        else:
            self._experiment.settle(waiting)

    def _close(self, **changes: Any) -> Future[None] | None:
        self.call = replace(self.call, first_token_s=self._first, **changes)
        if self.call.status == "error":
            self._counter.failed(self.call)
        return self._experiment.put(self.call)


def begin_call(request: Any) -> CallInProgress | None:
    """Return the call that this request is, or None for any other request and outside a scope."""
    if (scope := current_scope()) is None or request.method != "POST":
        return None
    if not request.headers.get("content-type", "").startswith("application/json"):
        return None
    try:
        body = json.loads(request.content)
    except Exception:  # a request whose body is a stream, or no JSON: not ours to judge
        return None
    try:
        return CallInProgress(scope, request, body) if wire.requested_model(request.url.path, body) else None
    except Exception as error:
        scope.experiment.note_problem(error)
        return None


def read_received(response: Any) -> Received:
    """Return the whole response of an httpx or httpx2 client."""
    content_type = str(response.headers.get("content-type", ""))
    text = None if content_type.startswith(_NOT_TEXT) else response.text
    return Received(response.status_code, content_type, text)


def _new_call(scope: Scope, request: Any, body: Json, key: str, ordinal: int) -> Call:
    call_id = new_id("call")
    earlier = scope.asking.call_ids if scope.asking else []
    temperature = body.get("temperature")
    call = Call(
        id=call_id,
        experiment_id=scope.experiment.experiment_id,
        run_id=scope.run.run.id if scope.run else None,
        parent_call_id=earlier[0] if earlier else None,
        step_id=step_of(scope),
        ordinal=ordinal,
        role=scope.role,
        bot_id=scope.asking.bot.id if scope.asking else None,
        client=(request.headers.get("user-agent") or "")[:100] or None,
        endpoint=_endpoint(request.url),
        model_requested=wire.requested_model(request.url.path, body),
        temperature=temperature if isinstance(temperature, int | float) else None,
        request=body,
        started_at=utc_now(),
        request_key=key,
    )
    earlier.append(call_id)
    return call


def _endpoint(url: Any) -> str:
    """The address without user, password and query: they can hold keys."""
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.host}{port}{url.path}"


def _read(received: Received) -> tuple[Json, str | None]:
    """Return the body as it is stored, and what is wrong with it."""
    body, problem = _read_body(received)
    if received.status_code >= 400:
        problem = f"HTTP {received.status_code}: {(received.text or '')[:2000]}"
    return body, problem


def _read_body(received: Received) -> tuple[Json, str | None]:
    if received.text is None:
        return {"content_type": received.content_type}, None
    if received.content_type.startswith("text/event-stream") and received.status_code < 400:
        return wire.join_stream(received.text)
    try:
        return json.loads(received.text), None
    except (ValueError, RecursionError):
        return received.text, _NOT_JSON


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _asyncio_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
