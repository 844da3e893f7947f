"""Bodies that have nothing to wait for, executed one after the other in one thread, many in one go.

With --experiment-replay=only no call is made: threads would only take turns. A test that waits for something else
(a service, a clock, another run) goes back to threads as soon as that shows; a body that holds up those behind it
keeps the thread, and they get threads of their own.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import NamedTuple

import pytest

from pytest_llmexp.runtest.bodies import Body, BodyThreads

_WAITED_S = 0.25  # by one run; or by all runs of a test but its first, which imports what it needs,
_WAITED_EACH_S = 0.002  # and this on average: more than what other processes keep a run from the CPU
_LOOK_S = 0.05
_INTERRUPTS = (KeyboardInterrupt, pytest.exit.Exception)

Work = Callable[[], None]


class _Due(NamedTuple):
    body: Body
    work: Work


class OneThread:
    """The bodies that are due in the one thread. `applies` says whether there may be any."""

    def __init__(self, applies: bool) -> None:
        self._applies = applies
        self._due: deque[_Due] = deque()
        self._executed: Counter[str] = Counter()  # test -> number of bodies
        self._waited: defaultdict[str, float] = defaultdict(float)  # test -> seconds

    def takes(self, test: str, timeout: float | None) -> bool:
        """Say whether a test's bodies are executed here; one with a timeout must be left behind when it is over."""
        return self._applies and timeout is None and not self._waits(test)

    def add(self, body: Body, work: Work) -> None:
        """Keep a body until `execute`; `work` is its execution."""
        self._due.append(_Due(body, work))

    def execute(self, threads: BodyThreads, begin: Callable[[Body], None]) -> list[tuple[Body, Work]]:
        """Execute what is due in one thread, each after `begin`; return what is to have threads of its own.

        Raises KeyboardInterrupt or pytest.exit at once if that is how a body ended.
        """
        if not self._due:
            return []
        convoy = _Convoy(self, self._due, begin)
        self._due = deque()
        try:
            threads.execute(convoy.go)
            while not convoy.has_ended.wait(_LOOK_S):
                if convoy.is_held_up():
                    break
            rest = convoy.take_rest()
        except BaseException:
            convoy.take_rest()  # nothing is begun any more
            raise
        if convoy.interrupt is not None:
            raise convoy.interrupt
        return rest

    def note(self, test: str, waited: float) -> None:
        """Take in how long a body of a test has waited, in seconds."""
        if test in self._executed:
            self._waited[test] += waited
        self._executed[test] += 1

    def send_away(self, test: str) -> None:
        """Take no more bodies of a test, which may wait for each other."""
        self._waited[test] = math.inf

    def _waits(self, test: str) -> bool:
        waited = self._waited[test]
        return waited > _WAITED_S and waited > _WAITED_EACH_S * self._executed[test]


class _Convoy:
    """Some bodies on their way through a thread. All but `go` is called by another."""

    def __init__(self, owner: OneThread, due: deque[_Due], begin: Callable[[Body], None]) -> None:
        self.has_ended = threading.Event()
        self.interrupt: BaseException | None = None
        self._owner = owner
        self._due = due
        self._begin = begin
        self._lock = threading.Lock()
        self._current: tuple[str, Callable[[], float]] | None = None  # a test, and how long its body has waited

    def go(self) -> None:
        """Execute the bodies until none is left, or one belongs to a test that waits."""
        body: Body | None = None
        try:
            while (due := self._next()) is not None:
                body, work = due
                body.run.recorder.wait_until_stored()  # of all that were begun together, the first one waits
                self._begin(body)
                self._measure(body.run.plan.test, work)
                error = body.call.excinfo.value if body.call is not None and body.call.excinfo else None
                if isinstance(error, _INTERRUPTS):
                    self.interrupt = error
                    break
        finally:
            if body is not None:
                body.run.recorder.experiment.put()  # their turns come: what was handed on lazily is waited for
            self.has_ended.set()

    def _next(self) -> _Due | None:
        with self._lock:
            if not self._due or not self._owner.takes(self._due[0].body.run.plan.test, self._due[0].body.timeout):
                return None
            return self._due.popleft()

    def _measure(self, test: str, work: Work) -> None:
        cpu = _cpu_clock()
        wall_before, cpu_before = time.perf_counter(), cpu()

        def waited() -> float:
            return time.perf_counter() - wall_before - (cpu() - cpu_before)

        self._current = (test, waited)
        work()
        self._current = None
        self._owner.note(test, waited())

    def is_held_up(self) -> bool:
        """Say whether the body that is being executed waits for so long that the ones behind it must not."""
        current = self._current
        if current is None:
            return False
        test, waited = current
        held_up = waited() > _WAITED_S
        if held_up:
            self._owner.send_away(test)
        return held_up

    def take_rest(self) -> list[tuple[Body, Work]]:
        """Return the bodies that were not begun; they are not begun here any more."""
        with self._lock:
            rest = [(due.body, due.work) for due in self._due]
            self._due.clear()
        return rest


def _cpu_clock() -> Callable[[], float]:
    """Return what tells this thread's CPU time, in seconds, to any thread; nothing where that is not to be had."""
    if not hasattr(time, "pthread_getcpuclockid"):  # Windows, macOS: all time counts as waiting
        return lambda: 0.0
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)
