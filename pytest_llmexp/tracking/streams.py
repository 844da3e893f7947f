"""Streamed answers: what passes through to the caller is kept, and put together when the stream ends or breaks.

Works on the stream classes of httpx and httpx2, which it is handed and does not import.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from types import ModuleType
from typing import Any

from pytest_llmexp.tracking.calls import CallInProgress, Received, read_received


class _Copy:
    """What passed through a response's stream, and the end of its call, once."""

    def __init__(self, library: ModuleType, response: Any, call: CallInProgress) -> None:
        self._library, self._response, self._call = library, response, call
        self._chunks: list[bytes] = []
        self._open = True
        self.complete = False

    def add(self, chunk: bytes) -> None:
        self._call.chunk()
        self._chunks.append(chunk)

    def end(self, error: BaseException | None = None) -> Future[None] | None:
        if not self._open:
            return None
        self._open = False
        try:
            received = self._received()
        except Exception as undecodable:  # a compressed stream that was cut
            return self._call.failed(error or undecodable)
        return self._call.answered(received, error)

    def _received(self) -> Received:
        headers = {
            name: value
            for name in ("content-type", "content-encoding")
            if (value := self._response.headers.get(name)) is not None
        }
        content = b"".join(self._chunks)
        whole = self._library.Response(self._response.status_code, headers=headers, content=content)
        return read_received(whole)._replace(complete=self.complete)


def tee(library: ModuleType, response: Any, call: CallInProgress) -> Any:
    """Return a stream that passes on the response's own one and hands a copy to the call."""
    inner, copy = response.stream, _Copy(library, response, call)

    class Tee(library.SyncByteStream):  # type: ignore[name-defined,misc]
        def __iter__(self) -> Iterator[bytes]:
            try:
                for chunk in inner:
                    copy.add(chunk)
                    yield chunk
                copy.complete = True
            except Exception as error:
                call.settle(copy.end(error))
                raise
            except GeneratorExit:
                raise  # the caller stopped reading: `close` follows
            except BaseException as error:
                copy.end(error)
                raise

        def close(self) -> None:
            try:
                inner.close()
            finally:
                call.settle(copy.end())

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)  # httpx2 reads `stream.elapsed`

    return Tee()


def tee_async(library: ModuleType, response: Any, call: CallInProgress) -> Any:
    """Do what `tee` does for an asynchronous stream."""
    inner, copy = response.stream, _Copy(library, response, call)

    class Tee(library.AsyncByteStream):  # type: ignore[name-defined,misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in inner:
                    copy.add(chunk)
                    yield chunk
                copy.complete = True
            except Exception as error:
                await call.settle_async(copy.end(error))
                raise
            except GeneratorExit:
                raise  # the caller stopped reading: `aclose` follows
            except BaseException as error:
                copy.end(error)  # a cancelled task must not wait
                raise

        async def aclose(self) -> None:
            try:
                await inner.aclose()
            finally:
                await call.settle_async(copy.end())

        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)  # httpx2 reads `stream.elapsed`

    return Tee()
