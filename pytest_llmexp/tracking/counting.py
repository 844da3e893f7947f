"""Numbers calls, and tells a client's retry from a new call. Knows core only."""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple

from pytest_llmexp.core.models import Call


class Failure(NamedTuple):
    """A call that its provider did not answer: when its last attempt started, what went wrong."""

    address: str
    started: float
    what: str
    denied: bool  # for its key


class CallCounter:
    """Numbers the calls of a run and knows which of them failed and may be tried again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self.made = False  # whether any call was made, or answered by a recorded one
        self.failure: Failure | None = None  # of the last call, if it failed for its provider
        self._failed: dict[str, list[Call]] = {}
        self._asked: Counter[str] = Counter()

    def next(self) -> int:
        """Return the number of the next call, from 1."""
        with self._lock:
            self._count += 1
            return self._count

    def ask(self, request_key: str) -> int:
        """Return how many times this request was made, with this one."""
        with self._lock:
            self._asked[request_key] += 1
            return self._asked[request_key]

    def unask(self, request_key: str) -> None:
        """Take back one `ask`: the request is not made yet."""
        with self._lock:
            self._asked[request_key] -= 1

    def failed(self, call: Call) -> None:
        """Remember a call whose attempt failed; identical requests are interchangeable."""
        with self._lock:
            self._failed.setdefault(call.request_key or "", []).append(call)

    def take_failed(self, request_key: str, call_id: str | None = None) -> Call | None:
        """Return a failed call with this request, the one of this id if any, which is now tried again."""
        with self._lock:
            waiting = self._failed.get(request_key, [])
            at = next((at for at in range(len(waiting) - 1, -1, -1) if call_id in (None, waiting[at].id)), None)
            return None if at is None else waiting.pop(at)
