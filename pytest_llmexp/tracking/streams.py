"""Streamed answers: what passes through to the caller is kept, and handed on when the stream ends or breaks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from pytest_llmexp.tracking import wire
from pytest_llmexp.tracking.calls import CallInProgress
from pytest_llmexp.tracking.exchange import Received


class GivenUpError(Exception):
    """A run, or a process, ended while a streamed answer was read."""


class Copy:
    """What passed through a response's stream, and the end of its call, once.

    `decode` undoes the compression of what passed through, None if there is none; `complete` says that it was all,
    `awaited` that the caller is waiting for a piece.
    """

    def __init__(
        self,
        call: CallInProgress,
        status_code: int,
        content_type: str,
        decode: Callable[[bytes], bytes] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self._call, self._status_code, self._content_type = call, status_code, content_type
        self._retry_after_s = retry_after_s
        self._chunks: list[bytes] = []
        self._open = True
        self._stored: Future[None] | None = None
        self.decode = decode
        self.complete = False
        self.awaited = False
        call.open_streams.add(self)

    @property
    def run_id(self) -> str | None:
        """The run that asked."""
        return self._call.call.run_id

    def add(self, chunk: bytes) -> bool:
        """Keep a piece, and tell whether it was the last: then `finish` comes before the caller gets it.

        Clients that know the end mark of a stream do not read on to its end, and may never close it.
        """
        self.awaited = False
        self._call.chunk()
        self._chunks.append(chunk)
        if wire.may_end_with(chunk) and self._open:
            self.complete = self.complete or self._has_ended(b"".join(self._chunks))
        return self.complete

    def _has_ended(self, content: bytes) -> bool:
        return wire.may_end_with(content) and wire.read_stream(self._content_type, content).problem is None

    def end(self, error: BaseException | None = None) -> Future[None] | None:
        """Hand on what came, once, and return when that is safe; `error` is what ended it before its time."""
        if self._open:
            self._open = False
            self._stored = self._hand_on(error)
        return self._stored

    def _hand_on(self, error: BaseException | None) -> Future[None] | None:
        self._call.open_streams.discard(self)
        try:
            content = b"".join(self._chunks)
            content = self.decode(content) if self.decode else content
        except Exception as undecodable:  # a compressed stream that was cut
            return self._call.failed(error or undecodable)
        complete = self.complete or (error is None and self._has_ended(content))  # the end mark may come in two pieces
        if error is None and self.awaited and not complete:
            error = GivenUpError("the answer was given up while it was read")
        received = Received(self._status_code, self._content_type, content, complete, self._retry_after_s)
        return self._call.answered(received, error)

    def end_by(self, error: BaseException) -> Future[None] | None:
        """End because reading was left by an exception, and return what to wait for, if that may be waited for.

        A generator that is closed was left by its caller: `close` may follow, or nothing.
        """
        stored = self.end(None if isinstance(error, GeneratorExit) else error)
        return stored if isinstance(error, Exception) else None  # a cancelled task must not wait

    def settle(self, stored: Future[None] | None) -> None:
        """Wait until what was handed on is stored."""
        self._call.settle(stored)

    async def settle_async(self, stored: Future[None] | None) -> None:
        """Do what `settle` does without holding up an event loop."""
        await self._call.settle_async(stored)

    def finish(self) -> None:
        """End, and wait until it is stored."""
        self.settle(self.end())

    async def finish_async(self) -> None:
        """Do what `finish` does without holding up an event loop."""
        await self.settle_async(self.end())
