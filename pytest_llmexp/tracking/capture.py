"""Sees the calls of any client: a hook around `send` of httpx (openai 2) and httpx2 (openai 3).

The hook imports neither library: it waits until somebody does. Outside a scope it passes everything through.
A row is handed on before the request is sent, its response when that is back; the response reaches the
caller after the commit. Headers are never stored.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import wrapt

from pytest_llmexp.core.clock import utc_now
from pytest_llmexp.core.ids import new_id, tagged_hash
from pytest_llmexp.core.models import Call, Json
from pytest_llmexp.tracking import wire
from pytest_llmexp.tracking.recorder import CallCounter, Scope, current_scope

LIBRARIES = ("httpx", "httpx2")
_RETRY_HEADER = "x-stainless-retry-count"  # set by openai's and anthropic's clients on each attempt


@contextmanager
def capturing() -> Iterator[None]:
    """Install the hook for the body of the with statement; nested uses share one."""
    active = [True]

    def patch(library: ModuleType) -> None:
        if active and not isinstance(library.Client.send, wrapt.FunctionWrapper):
            wrapt.wrap_function_wrapper(library, "Client.send", _send(library))
            wrapt.wrap_function_wrapper(library, "AsyncClient.send", _send_async(library))
            patched.append(library)

    patched: list[ModuleType] = []
    for name in LIBRARIES:
        wrapt.when_imported(name)(patch)
    try:
        yield
    finally:
        active.clear()
        for library in patched:
            for client in (library.Client, library.AsyncClient):
                client.send = client.send.__wrapped__


class CallInProgress:
    """One attempt of one call, from the request to the commit of its response."""

    def __init__(self, scope: Scope, request: Any, body: Json) -> None:
        self._experiment = scope.experiment
        self._counter: CallCounter = scope.run.calls if scope.run else scope.experiment.loose
        key = tagged_hash("request", request.method, request.url.path, body)
        self.call = self._again(request, key) or _new_call(scope, request, body, key, self._counter.next())
        self._experiment.put(self.call)
        self._started = time.perf_counter()
        self._first: float | None = None

    def _again(self, request: Any, key: str) -> Call | None:
        if request.headers.get(_RETRY_HEADER, "0") == "0":
            return None
        earlier = self._counter.take_failed(key)
        return replace(earlier, status="running", error=None, attempts=earlier.attempts + 1) if earlier else None

    def chunk(self) -> None:
        """Note the time of the first piece of a streamed answer."""
        if self._first is None:
            self._first = time.perf_counter() - self._started

    def answered(self, status_code: int, text: str, *, streamed: bool) -> Future[None] | None:
        """Hand on the response; resolve when it is safe."""
        latency = time.perf_counter() - self._started
        body, problem = _read_body(text, streamed=streamed and status_code < 400)
        if status_code >= 400:
            problem = f"HTTP {status_code}: {text[:2000]}"
        model, usage = wire.read_response(body)
        return self._close(
            response=body,
            model_returned=model,
            latency_s=latency,
            status="error" if problem else "ok",
            error=problem,
            **usage._asdict(),
        )

    def failed(self, error: BaseException) -> Future[None] | None:
        """Hand on that no whole response came."""
        latency = time.perf_counter() - self._started
        return self._close(status="error", error=f"{type(error).__name__}: {error}", latency_s=latency)

    def settle(self, waiting: Future[None] | None) -> None:
        """Wait for the commit."""
        if waiting is not None:
            self._experiment.settle(waiting)

    async def settle_async(self, waiting: Future[None] | None) -> None:
        """Wait for the commit without holding up an asyncio loop; other loops are held up for the moment."""
        if waiting is not None and not waiting.done() and _asyncio_runs():
            await asyncio.wait([asyncio.wrap_future(waiting)], timeout=60)
        self.settle(waiting)

    def _close(self, **changes: Any) -> Future[None] | None:
        self.call = replace(self.call, first_token_s=self._first, **changes)
        if self.call.status == "error":
            self._counter.failed(self.call)
        return self._experiment.put(self.call)


def _new_call(scope: Scope, request: Any, body: Json, key: str, ordinal: int) -> Call:
    call_id = new_id("call")
    earlier = scope.asking.call_ids if scope.asking else []
    temperature = body.get("temperature")
    call = Call(
        id=call_id,
        experiment_id=scope.experiment.experiment_id,
        run_id=scope.run.run.id if scope.run else None,
        parent_call_id=earlier[0] if earlier else None,
        ordinal=ordinal,
        role=scope.role,
        bot_id=scope.asking.bot.id if scope.asking else None,
        client=(request.headers.get("user-agent") or "")[:100] or None,
        endpoint=_endpoint(request.url),
        model_requested=str(body["model"]),
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


def _begin(request: Any) -> CallInProgress | None:
    """Return the call that this request is, or None for any other request and outside a scope."""
    if (scope := current_scope()) is None or request.method != "POST":
        return None
    if not request.headers.get("content-type", "").startswith("application/json"):
        return None
    try:
        body = json.loads(request.content)
    except Exception:  # a request whose body is a stream, or no JSON: not ours to judge
        return None
    return CallInProgress(scope, request, body) if wire.is_call(body) else None


def _send(library: ModuleType) -> Any:
    def send(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        request = args[0] if args else kwargs["request"]
        if (call := _begin(request)) is None:
            return wrapped(*args, **kwargs)
        try:
            response = wrapped(*args, **kwargs)
        except BaseException as error:
            call.settle(call.failed(error))
            raise
        if kwargs.get("stream") and not response.is_stream_consumed:
            response.stream = _tee(library, response, call)
        else:
            call.settle(call.answered(response.status_code, response.text, streamed=_is_events(response)))
        return response

    return send


def _send_async(library: ModuleType) -> Any:
    async def send(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        request = args[0] if args else kwargs["request"]
        if (call := _begin(request)) is None:
            return await wrapped(*args, **kwargs)
        try:
            response = await wrapped(*args, **kwargs)
        except BaseException as error:
            call.settle(call.failed(error))
            raise
        if kwargs.get("stream") and not response.is_stream_consumed:
            response.stream = _tee_async(library, response, call)
        else:
            text = response.text
            await call.settle_async(call.answered(response.status_code, text, streamed=_is_events(response)))
        return response

    return send


class _Copy:
    """What passed through a response's stream, and the end of its call, once."""

    def __init__(self, library: ModuleType, response: Any, call: CallInProgress) -> None:
        self._library, self._response, self._call = library, response, call
        self._chunks: list[bytes] = []
        self._open = True

    def add(self, chunk: bytes) -> None:
        self._call.chunk()
        self._chunks.append(chunk)

    def end(self, error: BaseException | None = None) -> Future[None] | None:
        if not self._open:
            return None
        self._open = False
        if error is not None:
            return self._call.failed(error)
        headers = {
            name: value
            for name in ("content-type", "content-encoding")
            if (value := self._response.headers.get(name)) is not None
        }
        status = self._response.status_code
        try:
            text = self._library.Response(status, headers=headers, content=b"".join(self._chunks)).text
        except Exception as undecodable:  # a compressed stream that was cut
            return self._call.failed(undecodable)
        return self._call.answered(status, text, streamed=_is_events(self._response))


def _tee(library: ModuleType, response: Any, call: CallInProgress) -> Any:
    inner, copy = response.stream, _Copy(library, response, call)

    class Tee(library.SyncByteStream):  # type: ignore[name-defined,misc]
        def __iter__(self) -> Iterator[bytes]:
            try:
                for chunk in inner:
                    copy.add(chunk)
                    yield chunk
            except Exception as error:
                call.settle(copy.end(error))
                raise

        def close(self) -> None:
            inner.close()
            call.settle(copy.end())

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    return Tee()


def _tee_async(library: ModuleType, response: Any, call: CallInProgress) -> Any:
    inner, copy = response.stream, _Copy(library, response, call)

    class Tee(library.AsyncByteStream):  # type: ignore[name-defined,misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in inner:
                    copy.add(chunk)
                    yield chunk
            except Exception as error:
                await call.settle_async(copy.end(error))
                raise

        async def aclose(self) -> None:
            await inner.aclose()
            await call.settle_async(copy.end())

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    return Tee()


def _is_events(response: Any) -> bool:
    return str(response.headers.get("content-type", "")).startswith("text/event-stream")


def _read_body(text: str, *, streamed: bool) -> tuple[Json, str | None]:
    if streamed:
        return wire.join_stream(text)
    try:
        return json.loads(text), None
    except ValueError:
        return text, "the answer is not JSON"


def _asyncio_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
