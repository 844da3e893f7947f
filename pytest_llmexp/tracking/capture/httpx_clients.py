"""The hook around `send` of the clients of httpx and httpx2, which are one in what is used of them here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import partial
from types import ModuleType
from typing import Any, NoReturn

from pytest_llmexp.tracking.calls import CallInProgress, begin_call
from pytest_llmexp.tracking.capture.carrying import carry_out, carry_out_async
from pytest_llmexp.tracking.exchange import Received, Sent
from pytest_llmexp.tracking.patching import SharedPatch
from pytest_llmexp.tracking.retry_after import retry_after
from pytest_llmexp.tracking.scope import ensure_calls_go_on
from pytest_llmexp.tracking.streams import Copy

_RETRY_HEADER = "x-stainless-retry-count"  # set by openai's and anthropic's clients on each attempt


def hook(patch: SharedPatch, library: ModuleType) -> None:
    """Patch the clients of a library that was imported."""
    patch.replace(library.Client, "send", partial(_send, library))
    patch.replace(library.AsyncClient, "send", partial(_send_async, library))


def _send(library: ModuleType, original: Any, client: Any, request: Any, **options: Any) -> Any:
    __tracebackhide__ = True
    ensure_calls_go_on()
    if request.method != "POST" or (call := begin_call(sent_by(request))) is None:
        return original(client, request, **options)

    streams = bool(options.get("stream"))

    def record(response: Any) -> Any:
        if streams and not response.is_stream_consumed:
            response.stream = _tee(library, response.stream, _copy(library, response, call))
        else:
            call.settle(call.answered(_received(response)))
        return response

    answer = partial(_answer, library, request, streams, call)
    return carry_out(call, lambda: original(client, request, **options), record, answer)


async def _send_async(library: ModuleType, original: Any, client: Any, request: Any, **options: Any) -> Any:
    __tracebackhide__ = True
    ensure_calls_go_on()
    if request.method != "POST" or (call := begin_call(sent_by(request))) is None:
        return await original(client, request, **options)

    streams = bool(options.get("stream"))

    async def record(response: Any) -> Any:
        if streams and not response.is_stream_consumed:
            response.stream = _tee(library, response.stream, _copy(library, response, call))
        else:
            await call.settle_async(call.answered(_received(response)))
        return response

    answer = partial(_answer, library, request, streams, call)
    return await carry_out_async(call, lambda: original(client, request, **options), record, answer)


def sent_by(request: Any) -> Sent:
    """Return what is kept of a request of either library."""
    url, headers = request.url, request.headers
    port = f":{url.port}" if url.port else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    try:
        content = request.content
    except Exception:  # a body that is a stream: it was not read yet
        content = b""
    return Sent(
        request.method,
        f"{url.scheme}://{host}{port}",
        url.path,
        headers.get("content-type", ""),
        content,
        headers.get("user-agent"),
        headers.get(_RETRY_HEADER, "0") != "0",
    )


def _received(response: Any) -> Received:
    kind, wait_s = response.headers.get("content-type", ""), retry_after(response.status_code, response.headers)
    return Received(response.status_code, kind, response.content, retry_after_s=wait_s)


def _answer(library: ModuleType, request: Any, streams: bool, call: CallInProgress, recorded: Received) -> Any:
    content: dict[str, Any] = {"content": recorded.content}
    if not recorded.complete:
        if not streams:
            call.read_on()
        kinds = (_Part, library.SyncByteStream, library.AsyncByteStream)
        content = {"stream": type("Part", kinds, {})(recorded.content, call.read_on)}
    headers = {"content-type": recorded.content_type}
    response = library.Response(recorded.status_code, headers=headers, request=request, **content)
    response.elapsed = timedelta(0)
    return response


class _Part:
    """The beginning of a recorded stream; who reads on than it goes is told so by `read_on`."""

    def __init__(self, content: bytes, read_on: Callable[[], NoReturn]) -> None:
        self._content, self._read_on = content, read_on

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        self._read_on()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content
        self._read_on()


def _copy(library: ModuleType, response: Any, call: CallInProgress) -> Copy:
    headers = {
        name: value
        for name in ("content-type", "content-encoding")
        if (value := response.headers.get(name)) is not None
    }

    def decode(content: bytes) -> bytes:
        decoded: bytes = library.Response(response.status_code, headers=headers, content=content).content
        return decoded

    wait_s = retry_after(response.status_code, response.headers)
    return Copy(call, response.status_code, headers.get("content-type", ""), decode, wait_s)


def _tee(library: ModuleType, inner: Any, copy: Copy) -> Any:
    return type("Tee", (_Tee, library.SyncByteStream, library.AsyncByteStream), {})(inner, copy)


class _Tee:
    """A stream, read either way, that passes on the response's own one and keeps a copy."""

    def __init__(self, inner: Any, copy: Copy) -> None:
        self._inner, self._copy = inner, copy

    def __iter__(self) -> Iterator[bytes]:
        copy = self._copy
        try:
            copy.awaited = True
            for chunk in self._inner:
                if copy.add(chunk):
                    copy.finish()
                yield chunk
                copy.awaited = True
            copy.complete = True
        except BaseException as error:
            copy.settle(copy.end_by(error))
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        copy = self._copy
        try:
            copy.awaited = True
            async for chunk in self._inner:
                if copy.add(chunk):
                    await copy.finish_async()
                yield chunk
                copy.awaited = True
            copy.complete = True
        except BaseException as error:
            await copy.settle_async(copy.end_by(error))
            raise

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._copy.finish()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            await self._copy.finish_async()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)  # httpx2 reads `stream.elapsed`
