"""Knows a retry of a client that does not say that it is one: the same request, by whom it last failed, next of all.

Knows no client, and holds on to no run.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from contextvars import ContextVar
from typing import Any

from pytest_llmexp.tracking.exchange import Received

_RETRYABLE = (408, 409, 425, 429)


class Latest:
    """The latest call of a thread or task; `may_be_retried` once it has failed in a way that clients try again."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self.may_be_retried = False
        self._caller = weakref.ref(_caller())

    @property
    def is_of_this_caller(self) -> bool:
        """Whether the thread or task is the one that made the call: contexts are copied for new ones."""
        return self._caller() is _caller()


# beside the scope, which is left and entered between calls
_latest: ContextVar[Latest | None] = ContextVar("llmexp_latest_call", default=None)


def failed_just_now() -> str | None:
    """Return the id of the call that this thread or task has made last, if a request like it is a retry."""
    latest = _latest.get()
    return latest.call_id if latest and latest.may_be_retried and latest.is_of_this_caller else None


def note_latest(call_id: str) -> Latest:
    """Make a call the latest one of this thread or task."""
    latest = Latest(call_id)
    _latest.set(latest)
    return latest


def may_be_retried(received: Received | None, error: BaseException | None) -> bool:
    """Say whether a call failed in a way that clients try again: by its status, or without any response.

    A stream that broke off is not: a part of it was read. Nor is what was cancelled, which nobody may want any more.
    """
    if received is None:
        return isinstance(error, Exception)
    return received.status_code in _RETRYABLE or received.status_code >= 500


def _caller() -> Any:
    """Return the running task of asyncio or trio, else the thread."""
    try:
        task: Any = asyncio.current_task()
    except RuntimeError:
        trio = sys.modules.get("trio")
        task = trio.lowlevel.current_task() if trio is not None and trio.lowlevel.in_trio_task() else None
    return task or threading.current_thread()
