"""Threads that a run starts belong to that run.

Python carries context variables into tasks and `asyncio.to_thread`, but not into `threading.Thread` (before
3.14) nor `ThreadPoolExecutor.submit`. While experiments run, both take the context of the place that called
them, if that place is in a scope; otherwise nothing changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from pytest_llmexp.tracking.recorder import current_scope


@contextmanager
def context_follows_threads() -> Iterator[None]:
    """Patch `Thread.start` and `ThreadPoolExecutor.submit` for the body of the with statement."""
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def start_in_context(self: threading.Thread) -> None:
        if current_scope():
            body, context = self.run, copy_context()
            self.run = lambda: context.run(body)  # type: ignore[method-assign]
        start(self)

    def submit_in_context(
        self: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        if current_scope():
            return submit(self, copy_context().run, function, *args, **kwargs)
        return submit(self, function, *args, **kwargs)

    threading.Thread.start = start_in_context  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_in_context  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
        ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]
