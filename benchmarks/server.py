"""The model server of the benchmarks: pytest_llmexp's loopback server in a process of its own, which also keeps time.

The model's name says how to answer: `answer-200ms-40b` is 40 bytes of text after 200 ms.
"""

from __future__ import annotations

import gc
import multiprocessing
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import NamedTuple, Self

from pytest_llmexp.localmodel import Answer, Request, Usage
from pytest_llmexp.localmodel.exchange import Ask, Reply
from pytest_llmexp.localmodel.server import LocalModelServer

_WORDS = "An honest answer of some length, made of plain words. "


class CallTimes(NamedTuple):
    """What the server saw of one contender. `span_s`: from the first request to the last answer."""

    requests: int
    span_s: float
    in_flight: int


class ModelServer:
    """The server's process, for the body of a with statement."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.base_url = ""

    def __enter__(self) -> Self:
        self._process.start()
        if not self._pipe.poll(60):
            raise TimeoutError("the model server did not start within 60 s")
        self.base_url = self._pipe.recv()
        return self

    def take_times(self) -> CallTimes:
        """Return what was seen since this was asked last."""
        self._pipe.send("take")
        times: CallTimes = self._pipe.recv()
        return times

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(10)


def model_name(latency_ms: int, size: int) -> str:
    """Return the name of the model that answers so many bytes after so many milliseconds."""
    return f"answer-{latency_ms}ms-{size}b"


class _Clock:
    """Notes when requests come and answers go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = self._open = self._peak = 0
        self._first = self._last = 0.0

    def script(self, request: Request) -> Answer:
        """Answer a request as its model's name says."""
        latency_ms, size = map(int, re.findall(r"\d+", request.body["model"]))
        with self._lock:
            self._first = self._first or time.perf_counter()
            self._requests += 1
            self._open += 1
            self._peak = max(self._peak, self._open)
        text = (_WORDS * (size // len(_WORDS) + 1))[:size]
        # the usage is given because counting the pieces of long texts would cost the server more than the rest
        return _TimedAnswer(text, usage=Usage(size // 4, size // 4), latency_s=latency_ms / 1000, sent=self._answered)

    def take(self) -> CallTimes:
        """Return what was seen, and start afresh."""
        with self._lock:
            times = CallTimes(self._requests, self._last - self._first, self._peak)
            self._requests = self._open = self._peak = 0
            self._first = self._last = 0.0
        return times

    def _answered(self) -> None:
        with self._lock:
            self._last = time.perf_counter()
            self._open -= 1


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class _TimedAnswer(Answer):
    """An answer that says when it is sent: the server asks for its replies once the latency is over."""

    sent: Callable[[], None] = _nothing

    def replies(self, ask: Ask) -> tuple[Reply, ...]:
        self.sent()
        return super().replies(ask)


def _serve(pipe: Connection) -> None:
    gc.disable()  # the server keeps all requests: looking through them again and again would make it slower
    clock = _Clock()
    with LocalModelServer(clock.script) as server:
        pipe.send(server.base_url)
        while True:
            try:
                pipe.recv()
            except EOFError:
                return
            pipe.send(clock.take())
