"""One run whose body overlaps with others: its body in a thread, its output, its timeout."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, NoReturn

import pytest

from pytest_llmexp.core.errors import RunTimeoutError
from pytest_llmexp.runtest.execution import RunInProgress
from pytest_llmexp.runtest.loop import GRACE_S
from pytest_llmexp.runtest.private_api.output import RunOutput
from pytest_llmexp.tracking.scope import RunStopped


class BodyThreads:
    """Daemon threads that execute bodies, used again and again: to start one takes as long as half a call.

    The interpreter waits for the threads of a ThreadPoolExecutor at its exit, and so for a hung call; not for these.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._count = 0

    def execute(self, work: Callable[[], None]) -> None:
        """Call `work` in a thread that has nothing to do, or in a new one."""
        with self._lock:
            needed = self._idle == 0
            if needed:
                self._count += 1
            else:
                self._idle -= 1
        self._work.put(work)
        if needed:
            thread = threading.Thread(target=self._serve, name=f"llmexp-run-{self._count}", daemon=True)
            Context().run(thread.start)  # it belongs to no run

    def close(self) -> None:
        """Let every thread end that has nothing to do; others end after their work."""
        for _ in range(self._count):
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # holds on to a run
            with self._lock:
                self._idle += 1


class Body:
    """The state of a run from its setup to its report.

    `setup` and `call` are what pytest's reports are made of; `done` is True once there is something to report.
    """

    def __init__(self, item: pytest.Function, run: RunInProgress, timeout: float | None) -> None:
        self.item = item
        self.run = run
        self.timeout = timeout
        self.output = RunOutput(item)
        self.setup: pytest.CallInfo[Any] | None = None
        self.setup_report: pytest.TestReport | None = None
        self.call: pytest.CallInfo[Any] | None = None
        self.done = False
        self._lock = threading.Lock()
        self._decided = False
        self._dropped = False
        self._began: float | None = None
        self._started = False
        self._alone = True  # in its thread
        self._thread_id: int | None = None
        self._ended = threading.Event()
        self._future: Future[Any] | None = None

    @property
    def in_flight(self) -> bool:
        """Whether the body was started and has nothing to report yet."""
        return self._started and not self.done

    @property
    def has_failed(self) -> bool:
        """Whether the run has ended in a way that may make pytest fail."""
        return self.run.has_failed or (self.setup_report is not None and self.setup_report.failed)

    def prepare(self, function: Callable[[], Any], ended: Callable[[Body], None]) -> Callable[[], None]:
        """Return what calls `function` as the call phase, in a copy of this context; then `ended`."""
        return partial(copy_context().run, self._execute, function, ended)

    def begin(self, *, alone: bool) -> None:
        """Note that the body is in flight from now on."""
        self._started = True
        self._alone = alone

    def _execute(self, function: Callable[[], Any], ended: Callable[[Body], None]) -> None:
        self._thread_id = threading.get_ident()
        try:
            self._call(function, ended)
        finally:
            self._ended.set()

    def _call(self, function: Callable[[], Any], ended: Callable[[Body], None]) -> None:
        self.run.recorder.wait_until_stored()
        self._began = time.monotonic()
        process = os.getpid()
        call = pytest.CallInfo.from_call(function, when="call")
        if os.getpid() != process:
            _end_fork(call)
        if self._decide():
            if not self._was_stopped(call):
                self.run.judge(call, lazily=not self._alone)
            self.call = call
            ended(self)

    def _was_stopped(self, call: pytest.CallInfo[Any]) -> bool:
        """Say whether the body ended because the session does: then it says nothing."""
        if call.excinfo is None:
            return False
        return self._dropped or isinstance(call.excinfo.value, KeyboardInterrupt | pytest.exit.Exception | RunStopped)

    def _decide(self) -> bool:
        """Say, once, that what happens now is what the run came to."""
        with self._lock:
            decided, self._decided = self._decided, True
            return not decided

    def keep(self, future: Future[Any]) -> None:
        """Take note of the coroutine that is the body, so that it can be cancelled."""
        self._future = future

    def drop(self) -> None:
        """Let the body's end, if it comes, count only if it is a success; cancel it if it is a coroutine."""
        self._dropped = True
        self._cancel()

    def _cancel(self) -> None:
        if self._future is not None:
            self._future.cancel()

    def join(self, timeout_s: float) -> None:
        """Wait for the body's end."""
        if self._started:
            self._ended.wait(timeout_s)

    def remaining(self) -> float | None:
        """Return the seconds until the timeout; None without one, or before the body began."""
        if self.timeout is None or self._began is None:
            return None
        grace = 0.0 if self._future is None else GRACE_S  # a coroutine ends itself, unless something blocks its loop
        return self._began + self.timeout + grace - time.monotonic()

    def expire(self) -> bool:
        """End a run whose time is over as an error, and say whether that was so. Its thread is left behind."""
        remaining = self.remaining()
        if remaining is None or remaining > 0 or not self._decide():
            return False
        assert self.timeout is not None
        spent = self.timeout - remaining
        self.output.err.write(self._where())
        left = "its thread was left behind and may still make calls"
        blocked = "it went on when it was cancelled, or something blocks the event loop that async runs share"
        error = RunTimeoutError(f"run timed out after {self.timeout:g} s; {left if self._future is None else blocked}")
        self.call = _failed(error, spent)
        self.run.judge(self.call)
        self._cancel()
        return True

    def _where(self) -> str:
        frame = sys._current_frames().get(self._thread_id or 0)
        if frame is None:
            return ""
        return "where the run was when its time was over:\n" + "".join(traceback.format_stack(frame))


def _end_fork(call: pytest.CallInfo[Any]) -> NoReturn:
    """End a process that a body forked and that came out of the body: nothing here can go on."""
    if call.excinfo is not None and sys.__stderr__ is not None:
        traceback.print_exception(call.excinfo.value, file=sys.__stderr__)
        sys.__stderr__.flush()
    os._exit(1)


def _failed(error: Exception, duration: float) -> pytest.CallInfo[Any]:
    def fail() -> None:
        raise error

    call = pytest.CallInfo.from_call(fail, when="call")
    call.start, call.duration = call.stop - duration, duration
    return call
