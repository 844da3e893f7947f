"""A script for the local server that notes when each request arrives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pytest_llmexp.localmodel import Answer, Request
from pytest_llmexp.tracking.pacing import cap_bucket

Script = Callable[[Request], Answer]


class Arrivals:
    """Answers as `script` does, and keeps the times of the requests in seconds of the monotonic clock."""

    def __init__(self, script: Script | None = None) -> None:
        self.times: list[float] = []
        self._script = script
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            self.times.append(time.monotonic())
        return self._script(request) if self._script else Answer("a name")

    def keep(self, cap: int, late_s: float) -> bool:
        """Say whether no time holds more requests than a cap per minute lets through; some may be `late_s` late."""
        burst, interval = cap_bucket(cap)
        times = sorted(self.times)
        return all(
            place - first + 1 <= burst + (times[place] - times[first] + late_s) / interval + 1
            for first in range(len(times))
            for place in range(first, len(times))
        )


def least_s(count: int, cap: int) -> float:
    """Return how many seconds so many requests take at least."""
    burst, interval = cap_bucket(cap)
    return (count - burst) * interval
