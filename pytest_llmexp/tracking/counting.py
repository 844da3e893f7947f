"""Numbers calls, and tells a client's retry from a new call. Knows core only."""

from __future__ import annotations

import threading

from pytest_llmexp.core.models import Call


class CallCounter:
    """Numbers the calls of a run and knows which of them failed and may be tried again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._failed: dict[str, list[Call]] = {}

    def next(self) -> int:
        """Return the number of the next call, from 1."""
        with self._lock:
            self._count += 1
            return self._count

    @property
    def made(self) -> bool:
        """Whether there was a call."""
        return self._count > 0

    def failed(self, call: Call) -> None:
        """Remember a call whose attempt failed; identical requests are interchangeable."""
        with self._lock:
            self._failed.setdefault(call.request_key or "", []).append(call)

    def take_failed(self, request_key: str) -> Call | None:
        """Return a failed call with this request, which the client is now trying again."""
        with self._lock:
            waiting = self._failed.get(request_key)
            return waiting.pop() if waiting else None
