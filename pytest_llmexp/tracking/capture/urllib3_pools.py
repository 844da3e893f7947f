"""The hook around `urlopen` of urllib3's connection pools: boto3 (Amazon Bedrock), requests, and what is built on it.

Responses that are no streams are read at once and made anew.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, NoReturn
from urllib.parse import urlsplit

import wrapt

from pytest_llmexp.tracking import wire
from pytest_llmexp.tracking.calls import CallInProgress, begin_call
from pytest_llmexp.tracking.capture.carrying import carry_out
from pytest_llmexp.tracking.exchange import Received, Sent
from pytest_llmexp.tracking.patching import SharedPatch
from pytest_llmexp.tracking.retry_after import retry_after
from pytest_llmexp.tracking.scope import ensure_calls_go_on
from pytest_llmexp.tracking.streams import Copy

_ATTEMPT_HEADER, _FIRST = "amz-sdk-request", "attempt=1"  # of botocore: "attempt=2; max=5" is a retry


def hook(patch: SharedPatch, library: ModuleType) -> None:
    """Patch the pools of a library that was imported."""
    patch.replace(library.HTTPConnectionPool, "urlopen", partial(_urlopen, library))


def _urlopen(
    library: ModuleType,
    original: Any,
    pool: Any,
    method: str,
    url: str,
    body: Any = None,
    headers: Any = None,
    *more: Any,
    **options: Any,
) -> Any:
    __tracebackhide__ = True
    ensure_calls_go_on()
    sent = _sent(pool, method, url, body, headers) if method.upper() == "POST" else None
    if sent is None or (call := begin_call(sent)) is None:
        return original(pool, method, url, body, headers, *more, **options)
    preload = bool(options.get("preload_content", True))
    decode = bool(options.get("decode_content", True))
    return carry_out(
        call,
        lambda: original(pool, method, url, body, headers, *more, **options),
        partial(_record, library, call, preload, decode),
        partial(_answer, library, preload, method, url, call),
    )


def _sent(pool: Any, method: str, url: str, body: Any, headers: Any) -> Sent | None:
    """Return the request, None where its body is no bytes (a file, a stream)."""
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes | bytearray):
        return None
    named = {str(name).lower(): _text(value) for name, value in dict(headers or pool.headers or {}).items()}
    host = f"[{pool.host}]" if ":" in pool.host else pool.host
    port = f":{pool.port}" if pool.port and pool.port != {"http": 80, "https": 443}.get(pool.scheme) else ""
    return Sent(
        method.upper(),
        f"{pool.scheme}://{host}{port}",
        urlsplit(url).path,
        named.get("content-type", ""),
        bytes(body),
        named.get("user-agent"),
        named.get(_ATTEMPT_HEADER, _FIRST).partition(";")[0] != _FIRST,
    )


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _record(library: ModuleType, call: CallInProgress, preloaded: bool, decodes: bool, response: Any) -> Any:
    kind = response.headers.get("content-type", "")
    coding = response.headers.get("content-encoding")
    wait_s = retry_after(response.status, response.headers)
    if preloaded:
        plain = response.data if decodes else _decoded(library, coding, response.data)
        call.settle(call.answered(Received(response.status, kind, plain, retry_after_s=wait_s)))
        return response
    if wire.is_stream(kind) and response.status < 400:
        return _Tee(response, Copy(call, response.status, kind), partial(_decoded, library, coding))
    content = response.read(decode_content=False)
    plain = _decoded(library, coding, content)
    call.settle(call.answered(Received(response.status, kind, plain, retry_after_s=wait_s)))
    return library.HTTPResponse(
        io.BytesIO(content),
        headers=response.headers,
        status=response.status,
        version=response.version,
        reason=response.reason,
        preload_content=False,
        decode_content=decodes,
        original_response=getattr(response, "_original_response", None),
        request_url=response.geturl(),
    )


def _decoded(library: ModuleType, coding: str | None, content: bytes) -> bytes:
    """Return content without compression."""
    if not coding:
        return content
    plain: bytes = library.HTTPResponse(io.BytesIO(content), headers={"content-encoding": coding}).data
    return plain


class _Tee(wrapt.ObjectProxy):  # type: ignore[type-arg]  # generic from wrapt 2 on only
    """A response that passes on what the real one reads and keeps a copy, which `decode` frees of compression."""

    def __init__(self, inner: Any, copy: Copy, decode: Callable[[bytes], bytes]) -> None:
        super().__init__(inner)
        self._self_copy, self._self_decode = copy, decode

    def _note(self, piece: bytes, last: bool, decoded: bool | None) -> None:
        copy = self._self_copy
        if not (self.decode_content if decoded is None else decoded):
            copy.decode = self._self_decode
        if (piece and copy.add(piece)) or last:
            copy.complete = True
            copy.finish()

    def _pieces(self, reading: Iterator[bytes], decoded: bool | None) -> Iterator[bytes]:
        copy = self._self_copy
        try:
            copy.awaited = True
            for piece in reading:
                self._note(piece, False, decoded)
                copy.awaited = False
                yield piece
                copy.awaited = True
        except BaseException as error:
            copy.settle(copy.end_by(error))
            raise
        self._note(b"", True, decoded)

    def _passed(self, reading: Callable[[], bytes], ends: Callable[[bytes], bool], decoded: bool | None) -> bytes:
        """Return a piece; `ends` says whether it was the last."""
        copy = self._self_copy
        try:
            copy.awaited = True
            piece = reading()
        except BaseException as error:
            copy.settle(copy.end_by(error))
            raise
        copy.awaited = False
        self._note(piece, ends(piece), decoded)
        return piece

    def stream(self, amt: int | None = 2**16, decode_content: bool | None = None) -> Iterator[bytes]:
        return self._pieces(self.__wrapped__.stream(amt, decode_content), decode_content)

    def read_chunked(self, amt: int | None = None, decode_content: bool | None = None) -> Iterator[bytes]:
        return self._pieces(self.__wrapped__.read_chunked(amt, decode_content), decode_content)

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces(iter(self.__wrapped__), True)

    def read(self, amt: int | None = None, decode_content: bool | None = None, **options: Any) -> bytes:
        return self._passed(
            lambda: self.__wrapped__.read(amt, decode_content, **options),
            lambda piece: amt is None or amt < 0 or (amt > 0 and not piece),
            decode_content,
        )

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        return self._passed(
            lambda: self.__wrapped__.read1(amt, decode_content), lambda piece: amt != 0 and not piece, decode_content
        )

    def readinto(self, buffer: Any) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    @property
    def data(self) -> bytes:
        return self._passed(lambda: self.__wrapped__.data, lambda _: True, None)

    def close(self) -> None:
        self._self_copy.finish()
        self.__wrapped__.close()

    def release_conn(self) -> None:
        self._self_copy.finish()
        self.__wrapped__.release_conn()

    def drain_conn(self) -> None:
        self._self_copy.finish()
        self.__wrapped__.drain_conn()


def _answer(library: ModuleType, preload: bool, method: str, url: str, call: CallInProgress, recorded: Received) -> Any:
    headers, kind = {"content-type": recorded.content_type}, library.HTTPResponse
    if recorded.complete:
        headers["content-length"] = str(len(recorded.content))
    elif preload:
        call.read_on()
    else:
        kind = partial(type("Part", (_Part, library.HTTPResponse), {}), call.read_on)
    return kind(
        io.BytesIO(recorded.content),
        headers=headers,
        status=recorded.status_code,
        version=11,
        reason="OK",
        preload_content=preload,
        request_method=method,
        request_url=url,
    )


class _Part:
    """A response of which the beginning is recorded; who reads on than it goes is told so by `read_on`."""

    def __init__(self, read_on: Callable[[], NoReturn], body: io.BytesIO, **options: Any) -> None:
        super().__init__(body, **options)  # type: ignore[call-arg]  # of HTTPResponse
        self._content, self._read_on = body, read_on

    def read(self, amt: int | None = None, *_: Any, **__: Any) -> bytes:
        piece = b"" if amt is None or amt < 0 else self._content.read(amt)
        return piece if piece or amt == 0 else self._read_on()

    def read1(self, amt: int | None = None, *_: Any, **__: Any) -> bytes:
        return self.read(2**16 if amt is None else amt)

    def stream(self, amt: int | None = None, *_: Any, **__: Any) -> Iterator[bytes]:
        while True:
            yield self.read(amt or 2**16)

    read_chunked = stream

    @property
    def data(self) -> bytes:
        return self._read_on()
