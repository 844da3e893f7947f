"""Holds calls back: their turn, one after the other at each address, and what answers say of the next ones.

As long as no cap is set and no provider objects, a call asks nobody. Who waits sleeps in short steps and holds no lock,
so that a session that ends, and what another process is told, are noticed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator

from pytest_llmexp.core.forks import renew_lock_in_children
from pytest_llmexp.tracking.board import Board
from pytest_llmexp.tracking.pacing import Caps, settle, start

STEP_S = 0.1
_LEAST_STEP_S = 0.001
_SEEN = 32  # calls that a rate is measured by
_LEAST_SPAN_S = 0.5  # and the least time
_WEIGHT = 0.2  # of the latest call in the mean of its model's tokens
_BYTES_A_TOKEN = 4
LIMITED = 429
_OVERLOADED = (503, 529)  # a limit only where it says when to come again

_Lines = dict[str, list[object]]


class Pacer:
    """What one process does about rates. `workers` processes share the board; `limited` counts answers that say 429."""

    def __init__(
        self, caps: Caps, board: Board, *, workers: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limited = 0
        self._caps = caps
        self._capped = any(caps)
        self._board = board
        self._workers = workers
        self._clock = clock
        self._sent: dict[str, deque[float]] = {}
        self._tokens: dict[str, float] = {}  # by model: the mean of its calls
        self._answered: set[str] = set()
        self._lines: _Lines = {}
        self._hint = STEP_S
        self._lock = threading.Lock()
        renew_lock_in_children(self)
        renew_lock_in_children(self, "_lines", _Lines)  # those who wait are not in the child

    @property
    def holds_back(self) -> bool:
        """Whether calls must ask."""
        return self._capped or not self._board.is_calm

    @property
    def waiting(self) -> int:
        """How many calls of this process wait for their turn."""
        return sum(map(len, [*self._lines.values()]))

    def expected(self, model: str, size: int) -> float:
        """Return how many tokens a call is going to use, as far as can be known; `size` is that of its request."""
        return max(self._tokens.get(model, 0.0), size / _BYTES_A_TOKEN, 1.0) if self._caps.tokens else 0.0

    def turn(self, address: str, tokens: float) -> Generator[float]:
        """Yield seconds to sleep until the call may start."""
        ticket = object()
        with self._lock:
            line = self._lines.setdefault(address, [])
            line.append(ticket)
        try:
            while True:
                with self._lock:
                    place = line.index(ticket)
                if place == 0:
                    with self._board.held() as traffic:
                        wait = start(traffic, self._caps, address, tokens, self._clock())
                    if not wait:
                        return
                    self._hint = wait
                else:
                    wait = place * self._hint
                yield min(max(wait, _LEAST_STEP_S), STEP_S)
        finally:
            with self._lock:
                line.remove(ticket)

    def sent(self, address: str) -> float:
        """Note that a request is sent, and return the time."""
        now = self._clock()
        seen = self._sent.get(address)
        if seen is None:
            seen = self._sent.setdefault(address, deque(maxlen=_SEEN))
        seen.append(now)
        return now

    def used(self, model: str, expected: float, tokens: int | None) -> None:
        """Correct what a call was expected to use; None where it did not say, and is taken for what was expected."""
        if self._caps.tokens and tokens is not None:
            if tokens:
                mean = self._tokens.get(model, float(tokens))
                self._tokens[model] = mean + _WEIGHT * (tokens - mean)
            with self._board.held() as traffic:
                settle(traffic, self._caps, expected, tokens)

    def answered(self, address: str, status: int, retry_after_s: float | None, started: float) -> None:
        """Take in what a response says of the rate; a request that got it `started` then."""
        if status == LIMITED or (status in _OVERLOADED and retry_after_s is not None):
            self.limited += status == LIMITED
            with self._board.held() as traffic:
                pace = traffic.pace(address)
                pace.limited(self._clock(), started, self._seen_rate(address), retry_after_s)

    def succeeded(self, address: str) -> None:
        """Note that a provider gave an answer."""
        if address in self._answered and self._board.is_calm:
            return
        self._answered.add(address)
        with self._board.held() as traffic:
            traffic.answered(address)

    def _seen_rate(self, address: str) -> float:
        """Return the calls per second that all processes sent, taking the others for as busy as this one."""
        seen = list(self._sent.get(address, ()))
        span = self._clock() - seen[0] if seen else 0.0
        return self._workers * len(seen) / max(span, _LEAST_SPAN_S)
