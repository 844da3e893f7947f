"""Threads that a run starts belong to that run.

Python carries context variables into tasks and `asyncio.to_thread`, but not into `threading.Thread` (before
3.14) nor `ThreadPoolExecutor.submit`. While experiments run, both take the context of the place that called them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from pytest_llmexp.tracking.patching import SharedPatch
from pytest_llmexp.tracking.scope import current_scope

_patch = SharedPatch()  # of the process, as what it patches


@contextmanager
def context_follows_threads() -> Iterator[None]:
    """Patch `Thread.start` and `ThreadPoolExecutor.submit` for the body of the with statement."""
    with _patch.held():
        _patch.replace(threading.Thread, "start", _start_in_context)
        _patch.replace(ThreadPoolExecutor, "submit", _submit_in_context)
        yield


def _start_in_context(start: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
    if current_scope():
        body, context = thread.run, copy_context()
        thread.run = lambda: context.run(body)  # type: ignore[method-assign]
    start(thread)


def _submit_in_context(
    submit: Callable[..., Future[Any]],
    pool: ThreadPoolExecutor,
    function: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Future[Any]:
    # outside of a run too: the pool's threads may have been started by a run, whose context is not this caller's
    return submit(pool, copy_context().run, function, *args, **kwargs)
