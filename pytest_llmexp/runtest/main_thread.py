"""Bodies that have nothing to wait for, executed one after the other in the main thread, many in one go.

With --experiment-replay=only no call is made: threads would only take turns. A test that waits for something else
(a service, a clock) goes back to threads as soon as that shows.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import NamedTuple

from pytest_llmexp.runtest.bodies import Body

_WAITED_S = 0.25  # by all runs of a test but its first, which imports what it needs
_WAITED_EACH_S = 0.002  # on average: more than what other processes keep a run from the CPU

Work = Callable[[], None]


class _Due(NamedTuple):
    body: Body
    work: Work


class MainThread:
    """The bodies that are due in the main thread. `applies` says whether there may be any."""

    def __init__(self, applies: bool) -> None:
        self._applies = applies
        self._due: list[_Due] = []
        self._executed: Counter[str] = Counter()  # test -> number of bodies
        self._waited: defaultdict[str, float] = defaultdict(float)  # test -> seconds

    def takes(self, test: str, timeout: float | None) -> bool:
        """Say whether a test's bodies are executed here; one with a timeout must be left behind when it is over."""
        return self._applies and timeout is None and not self._waits(test)

    def add(self, body: Body, work: Work) -> None:
        """Keep a body until `execute`; `work` is its execution."""
        self._due.append(_Due(body, work))

    def execute(self, start: Callable[[Body, Work], None], begin: Callable[[Body], None]) -> None:
        """Execute what is due: here, after `begin`, or handed over to `start` where its test turned out to wait.

        Raises KeyboardInterrupt at once if a body was interrupted.
        """
        while self._due:
            body, work = self._due.pop(0)
            if not self.takes(body.run.plan.test, body.timeout):
                start(body, work)
                continue
            body.run.recorder.wait_until_stored()  # of all that were begun together, the first one waits
            begin(body)
            self._measure(body.run.plan.test, work)
            if not self._due:
                body.run.recorder.experiment.put()  # their turns come: what was handed on lazily is waited for
            if body.call is not None and body.call.excinfo and isinstance(body.call.excinfo.value, KeyboardInterrupt):
                raise body.call.excinfo.value

    def _measure(self, test: str, work: Work) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        work()
        waited = time.perf_counter() - wall - (time.thread_time() - cpu)
        if test in self._executed:
            self._waited[test] += waited
        self._executed[test] += 1

    def _waits(self, test: str) -> bool:
        waited = self._waited[test]
        return waited > _WAITED_S and waited > _WAITED_EACH_S * self._executed[test]
