"""One call, from its request to the commit of its response.

A row is handed on before the request is sent, its response when that is back; the response reaches the caller
after the commit. Headers are never stored. Nothing here raises, but where calls may not be made at all: recording must
not decide a test. Knows no client.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

from pytest_llmexp.core.models import Call, Json
from pytest_llmexp.tracking import wire
from pytest_llmexp.tracking.admission import Admission
from pytest_llmexp.tracking.call_rows import (
    another_attempt,
    is_asked_by,
    new_call,
    paid_call,
    request_key,
    served_fields,
)
from pytest_llmexp.tracking.counting import CallCounter
from pytest_llmexp.tracking.exchange import Received, Sent
from pytest_llmexp.tracking.recorder import COMMIT_TIMEOUT_S, OpenStream
from pytest_llmexp.tracking.replay import ReplayMissError, recorded_answer, stream_closed_early
from pytest_llmexp.tracking.retries import failed_just_now, may_be_retried, note_latest
from pytest_llmexp.tracking.scope import Scope, current_scope, entered

_NOT_JSON = "the answer is not JSON"
_UNFINISHED = (_NOT_JSON, wire.BROKE_OFF, wire.NO_EVENT)
CLOSED_EARLY = "the client closed the response before its end"  # of what is no stream: half a JSON text says nothing
FAULTS = (*_UNFINISHED, CLOSED_EARLY)  # of answers, in our own words


class CallInProgress:
    """One attempt of one call. A retry continues the call of the attempt before: same row, one attempt more.

    `latency_s` and `first_token_s` are those of the last attempt; `wait_s` adds up.
    """

    def __init__(self, scope: Scope, sent: Sent, body: Json, key: str) -> None:
        __tracebackhide__ = True
        self._scope = scope
        self._experiment = scope.experiment
        self._counter: CallCounter = scope.run.calls if scope.run else scope.experiment.loose
        self._open = True
        self._first: float | None = None
        self._last: float | None = None  # when the last piece of a streamed answer came
        self._source: Call | None = None  # the recorded call whose answer is served
        again = self._failed_before(sent, key)
        self.call = another_attempt(again) if again else new_call(scope, sent, body, key, self._counter.next())
        self._latest = note_latest(self.call.id)
        if again is None:
            self._find_recorded(scope)
        elif scope.asking and again.id not in scope.asking.call_ids:
            scope.asking.call_ids.append(again.id)  # asked anew by a caller that tries again
        self._admission = Admission(self._experiment, scope.run, sent, self.call)
        if self._source is None:
            self._admission.check()
        self._started = time.perf_counter()

    def _failed_before(self, sent: Sent, key: str) -> Call | None:
        """Return the call of which this request is a retry, as its client says, or as it looks."""
        if sent.is_retry:
            return self._counter.take_failed(key)
        call_id = failed_just_now()
        again = self._counter.take_failed(key, call_id) if call_id else None
        if again is None or is_asked_by(again, self._scope):
            return again
        self._counter.failed(again)
        return None

    def _find_recorded(self, scope: Scope) -> None:
        """Look for a recorded answer. Raises ReplayMissError."""
        __tracebackhide__ = True
        nth = self._counter.ask(self.call.request_key or "")
        if scope.experiment.replay is None:
            return
        try:
            self._source = scope.experiment.replay.find(scope.run.run if scope.run else None, self.call, nth)
        except ReplayMissError as miss:
            self._missed(miss)
            raise

    def replayed(self) -> Received | None:
        """Return the recorded answer that is served instead of a call, and hand on that it was."""
        if (source := self._source) is None:
            return None
        self._open = False
        self._counter.made = True
        self._experiment.put(replace(self.call, **served_fields(source)), lazily=True)
        return recorded_answer(source)

    def read_on(self) -> NoReturn:
        """Refuse to go on with a recorded stream that its client closed early. Raises ReplayMissError."""
        __tracebackhide__ = True
        run, source = self._scope.run, self._source
        raise self._missed(
            stream_closed_early(run.run if run else None, self.call, paid_call(source) if source else "")
        )

    def _missed(self, miss: ReplayMissError) -> ReplayMissError:
        run = self._scope.run
        if run is not None and run.refusal is None:
            run.refusal = miss  # whatever the body makes of it, the run says nothing
        return miss

    def admit(self) -> None:
        """Wait for the call's turn and hand on that it is made. Raises RunStopped if it must not be."""
        __tracebackhide__ = True
        self._begin(self._admission.wait())

    async def admit_async(self) -> None:
        """Do what `admit` does without holding up an event loop."""
        __tracebackhide__ = True
        self._begin(await self._admission.wait_async())

    def _begin(self, waited: float | None) -> None:
        if waited is not None:
            self.call = replace(self.call, wait_s=(self.call.wait_s or 0.0) + waited)
        self._counter.made = True
        self._experiment.put(self.call, lazily=True)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send the request in the body of the with statement; what the client is built on does not count it again."""
        with entered(replace(self._scope, sending=self.call.request_key)):
            self._started = time.perf_counter()
            yield

    @property
    def open_streams(self) -> set[OpenStream]:
        """Streamed answers of the experiment that did not end yet."""
        return self._experiment.open_streams

    def chunk(self) -> None:
        """Note the time of a piece of a streamed answer."""
        self._last = time.perf_counter() - self._started
        if self._first is None:
            self._first = self._last

    def answered(self, received: Received, broken: BaseException | None = None) -> Future[None] | None:
        """Hand on the response; resolve when it is safe. `broken` is what ended it before its time."""
        latency = time.perf_counter() - self._started
        closed_early = not received.complete and broken is None
        try:
            body, problem, stream = _read(received, closed_early)
            answered = wire.read_response(body)
        except Exception as error:  # an answer that nobody foresaw is kept as it came
            body, problem, stream = received.text, None, None
            answered = wire.Answered(None, wire.NO_USAGE, None)
            self._experiment.note_problem(error)
        if broken is not None:
            problem = _describe(broken)
        elif problem in _UNFINISHED and closed_early:
            problem = CLOSED_EARLY
        has_ended = received.complete or answered.finish_reason is not None
        usage = answered.usage if has_ended else wire.NO_USAGE  # some count while they go: that is no sum
        return self._close(
            received,
            broken,
            response=body,
            stream=None if problem else stream,
            model_returned=answered.model,
            finish_reason=answered.finish_reason,
            latency_s=(self._last or latency) if closed_early else latency,  # not how long the client thought it over
            status="error" if problem else "ok",
            error=problem,
            **usage._asdict(),
        )

    def failed(self, error: BaseException) -> Future[None] | None:
        """Hand on that no response came."""
        latency = time.perf_counter() - self._started
        return self._close(None, error, status="error", error=_describe(error), latency_s=latency)

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

    def _close(self, received: Received | None, broken: BaseException | None, **changes: Any) -> Future[None] | None:
        if not self._open:
            return None
        self._open = False
        self.call = replace(self.call, first_token_s=self._first, **changes)
        self._admission.ended(self.call, self._counter, received, broken)
        if self._experiment.ledger is not None:
            self.call = self._experiment.ledger.counted(self.call)
        if self.call.status == "error":
            self._counter.failed(self.call)
            self._latest.may_be_retried = may_be_retried(received, broken)
        return self._experiment.put(self.call)


def begin_call(sent: Sent) -> CallInProgress | None:
    """Return the call that a request is; None for any other request, outside a scope, and inside of the same call.

    Raises ReplayMissError where no call may be made and none is recorded, and RunStopped if the experiment's spending
    limit lets no call start; neither is an Exception.
    """
    __tracebackhide__ = True
    if (scope := current_scope()) is None or not sent.content_type.startswith("application/json"):
        return None
    try:
        body = json.loads(sent.content)
    except Exception:  # a body that is a stream, or no JSON: not ours to judge
        return None
    try:
        model = wire.requested_model(sent.path, body)
        if model is None:
            return None
        key = request_key(sent, model, body)
        return None if scope.sending == key else CallInProgress(scope, sent, body, key)
    except Exception as error:
        scope.experiment.note_problem(error)
        if scope.experiment.replay is not None and scope.experiment.replay.mode == "only":
            raise ReplayMissError(f"no call is made, as recorded answers cannot be looked up: {error}") from error
        return None


def _read(received: Received, closed_early: bool) -> tuple[Json, str | None, Json]:
    """Return the body as it is stored, what is wrong with it, and what a stream can be streamed again from."""
    if received.status_code >= 400:
        body, _ = _read_body(received)
        return body, f"HTTP {received.status_code}: {received.text[:2000]}", None
    if wire.is_stream(received.content_type):
        streamed = wire.read_stream(received.content_type, received.content, closed_early=closed_early)
        return streamed.response, streamed.problem, streamed.record
    return *_read_body(received), None


def _read_body(received: Received) -> tuple[Json, str | None]:
    if not received.is_text:
        return {"content_type": received.content_type}, None
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
