"""The hook around the requests of aiohttp's sessions, which google-genai and other asynchronous clients use.

Responses that are no streams are read at once. A recorded answer becomes a ClientResponse by its constructor, which
aiohttp keeps to itself and which changes: what this version does not take is left out.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import wrapt

from pytest_llmexp.tracking import wire
from pytest_llmexp.tracking.calls import CallInProgress, begin_call
from pytest_llmexp.tracking.capture.carrying import carry_out_async
from pytest_llmexp.tracking.exchange import Received, Sent, address_of
from pytest_llmexp.tracking.patching import SharedPatch
from pytest_llmexp.tracking.retry_after import retry_after
from pytest_llmexp.tracking.scope import ensure_calls_go_on
from pytest_llmexp.tracking.streams import Copy

_LIMIT = 2**16  # of aiohttp's own readers


def hook(patch: SharedPatch, library: ModuleType) -> None:
    """Patch the sessions of a library that was imported."""
    patch.replace(library.ClientSession, "_request", partial(_request, library))


async def _request(library: ModuleType, original: Any, session: Any, method: str, url: Any, **options: Any) -> Any:
    __tracebackhide__ = True
    ensure_calls_go_on()
    sent = _sent(session, method, url, options) if method.upper() == "POST" else None
    if sent is None or (call := begin_call(sent)) is None:
        return await original(session, method, url, **options)
    return await carry_out_async(
        call,
        lambda: original(session, method, url, **options),
        partial(_record, library, call),
        partial(_answer, library, method, session._build_url(url), call),
    )


def _sent(session: Any, method: str, url: Any, options: Mapping[str, Any]) -> Sent | None:
    """Return the request, None where its body is no bytes yet (a form, a stream)."""
    body, headers = options.get("data"), {**session.headers}
    headers = {name.lower(): value for name, value in {**headers, **dict(options.get("headers") or {})}.items()}
    kind = headers.get("content-type", "")
    if options.get("json") is not None:
        body, kind = json.dumps(options["json"]), kind or "application/json"
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes):
        return None
    full = session._build_url(url)
    return Sent(method.upper(), address_of(_split(full)), full.path, kind, body, headers.get("user-agent"))


def _split(url: Any) -> Any:
    return SimpleNamespace(scheme=url.scheme, hostname=url.host, port=url.explicit_port)


async def _record(library: ModuleType, call: CallInProgress, response: Any) -> Any:
    kind = response.headers.get("content-type", "")
    if wire.is_stream(kind) and response.status < 400:
        copy = Copy(call, response.status, kind)
        response.content = _Tee(response.content, copy)
        response.close = _ending(response.close, copy)
        response.release = _ending(response.release, copy)
        return response
    content = await response.read()
    response.content = _reader(library, content)  # for those who read it piece by piece
    wait_s = retry_after(response.status, response.headers)
    await call.settle_async(call.answered(Received(response.status, kind, content, retry_after_s=wait_s)))
    return response


def _ending(method: Callable[[], Any], copy: Copy) -> Callable[[], Any]:
    def ended() -> Any:
        copy.end()
        return method()

    return ended


class _Reader(wrapt.ObjectProxy):  # type: ignore[type-arg]  # generic from wrapt 2 on only
    """A response's reader, of which every piece goes through `_passed`."""

    async def _passed(self, read: Callable[[], Any]) -> Any:
        raise NotImplementedError

    async def read(self, n: int = -1) -> bytes:
        return await self._passed(lambda: self.__wrapped__.read(n))  # type: ignore[no-any-return]

    async def readany(self) -> bytes:
        return await self._passed(self.__wrapped__.readany)  # type: ignore[no-any-return]

    async def readline(self, *arguments: Any, **options: Any) -> bytes:
        return await self._passed(lambda: self.__wrapped__.readline(*arguments, **options))  # type: ignore[no-any-return]

    async def readuntil(self, *arguments: Any, **options: Any) -> bytes:
        return await self._passed(lambda: self.__wrapped__.readuntil(*arguments, **options))  # type: ignore[no-any-return]

    async def readexactly(self, n: int) -> bytes:
        return await self._passed(lambda: self.__wrapped__.readexactly(n))  # type: ignore[no-any-return]

    async def readchunk(self) -> tuple[bytes, bool]:
        return await self._passed(self.__wrapped__.readchunk)  # type: ignore[no-any-return]

    def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        return _pieces(lambda: self.read(n))

    def iter_any(self) -> AsyncIterator[bytes]:
        return _pieces(self.readany)

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        while (chunk := await self.readchunk()) != (b"", False):
            yield chunk

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _pieces(self.readline)


class _Tee(_Reader):
    """Passes on what the response's own reader reads and keeps a copy."""

    def __init__(self, inner: Any, copy: Copy) -> None:
        super().__init__(inner)
        self._self_copy = copy

    async def _passed(self, read: Callable[[], Any]) -> Any:
        copy = self._self_copy
        try:
            copy.awaited = True
            passed = await read()
        except BaseException as error:
            await copy.settle_async(copy.end_by(error))
            raise
        copy.awaited = False
        piece = passed[0] if isinstance(passed, tuple) else passed
        if (piece and copy.add(piece)) or self.at_eof():
            copy.complete = True
            await copy.finish_async()
        return passed


class _Part(_Reader):
    """Holds the beginning of a recorded stream; who reads on than it goes is told so by `read_on`."""

    def __init__(self, inner: Any, read_on: Callable[[], NoReturn]) -> None:
        super().__init__(inner)
        self._self_read_on = read_on

    async def _passed(self, read: Callable[[], Any]) -> Any:
        if self.__wrapped__.at_eof():
            self._self_read_on()
        try:
            return await read()
        except asyncio.IncompleteReadError:
            self._self_read_on()

    async def read(self, n: int = -1) -> bytes:
        return await super().read(n) if n >= 0 else self._self_read_on()

    def at_eof(self) -> bool:
        return False


async def _pieces(read: Callable[[], Any]) -> AsyncIterator[bytes]:
    while piece := await read():
        yield piece


def _reader(library: ModuleType, content: bytes) -> Any:
    """Return a reader that holds everything already."""
    loop = asyncio.get_running_loop()
    protocol = library.base_protocol.BaseProtocol(loop)
    reader = library.StreamReader(protocol, _LIMIT, loop=loop)
    reader.feed_data(content)
    reader.feed_eof()
    return reader


def _answer(library: ModuleType, method: str, url: Any, call: CallInProgress, recorded: Received) -> Any:
    headers = library.client_reqrep.CIMultiDictProxy(
        library.client_reqrep.CIMultiDict({"Content-Type": recorded.content_type})
    )
    given = {
        "writer": None,
        "continue100": None,
        "timer": library.helpers.TimerNoop(),
        "request_info": library.RequestInfo(url, method, headers, url),
        "traces": [],
        "loop": asyncio.get_running_loop(),
        "session": None,
        "stream_writer": SimpleNamespace(output_size=0),
    }
    known = inspect.signature(library.ClientResponse.__init__).parameters
    response = library.ClientResponse(method, url, **{name: each for name, each in given.items() if name in known})
    response.status, response.reason = recorded.status_code, "OK"
    response._headers, response._raw_headers = (
        headers,
        tuple((name.encode(), value.encode()) for name, value in headers.items()),
    )
    content = _reader(library, recorded.content)
    response.content = content if recorded.complete else _Part(content, call.read_on)
    return response
