"""One event loop per process for `async def` tests and fixtures, in a thread of its own.

So coroutines of several runs share it, clients of a module or session belong to it, and the main thread can wait
with a timeout and be interrupted. Knows no pytest.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from contextvars import Context
from typing import Any, NamedTuple

GRACE_S = 2.0


class _Escaped(NamedTuple):
    """What a coroutine raised that would not have come through the loop as it was."""

    error: BaseException


class LoopThread:
    """Runs coroutines in the context of their caller; the loop begins with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing = False

    @property
    def began(self) -> bool:
        """Whether there is a loop."""
        return self._loop is not None

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start a coroutine; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(_kept_in(coroutine), self._begun())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine and return what it returns, from any thread but the loop's own."""
        return wait_for(self.submit(coroutine))

    def close(self) -> None:
        """Cancel what is left, end the loop, and leave behind what does not end."""
        with self._lock:
            loop, thread, self._loop, self._closing = self._loop, self._thread, None, True
        if loop is None or thread is None:
            return
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_wind_up(), loop).result(GRACE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(GRACE_S)
        if not thread.is_alive():
            loop.close()

    def _begun(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._closing = False
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="llmexp-loop", daemon=True)
                Context().run(self._thread.start)  # the loop belongs to no run
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._closing:
            with suppress(KeyboardInterrupt, SystemExit):  # of a task that a test started; the task keeps it
                loop.run_forever()


def wait_for(future: Future[Any], timeout_s: float | None = None) -> Any:
    """Return the result of a submitted coroutine, or raise what it raised; TimeoutError if it is not over in time."""
    try:
        result = future.result(timeout_s)
    except BaseException:
        future.cancel()  # an interrupt of the waiting thread ends the coroutine too
        raise
    if isinstance(result, _Escaped):
        try:
            raise result.error
        finally:
            del result  # the error's traceback would hold on to it, and it on to the error
    return result


async def _kept_in(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except (KeyboardInterrupt, SystemExit) as error:  # would end the loop, and every run on it
        return _Escaped(error)
    except (TimeoutError, CancelledError, InvalidStateError) as error:  # asyncio hands on a copy without traceback
        return _Escaped(error)
    except asyncio.CancelledError as error:  # a future raises its own, and an Exception, which pytest tears down after
        return _Escaped(CancelledError(*error.args).with_traceback(error.__traceback__))


async def _wind_up() -> None:
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=GRACE_S / 2)
    await loop.shutdown_asyncgens()  # the default executor is not waited for: one of its threads may hang
