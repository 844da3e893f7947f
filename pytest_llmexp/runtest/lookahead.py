"""Look-ahead: while one run is current, the runs after it are set up and their bodies executed.

pytest's loop, or that of pytest-xdist, is left alone: it hands over items one at a time, in order. In a run's turn
the runs of its lane after it are set up and begun, up to the limit; then its own body is awaited and its three
reports are made. Setup and teardown happen in the main thread, one at a time; only bodies overlap.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from pytest_llmexp.runtest.bodies import Body, BodyThreads
from pytest_llmexp.runtest.collection import plan_key
from pytest_llmexp.runtest.execution import begin_run, run_key, run_timeout
from pytest_llmexp.runtest.lanes import Lanes, test_limit
from pytest_llmexp.runtest.one_thread import OneThread
from pytest_llmexp.runtest.private_api import interactive_exception, plugin_timeout, plugin_timer
from pytest_llmexp.runtest.private_api.output import (
    CallHooks,
    RunOutput,
    captured_together,
    output_per_run,
    suspended,
)
from pytest_llmexp.runtest.private_api.parking import ParkingSetupState, forget_fixtures, give_own_fixtures
from pytest_llmexp.runtest.run_warnings import WarningsPerRun
from pytest_llmexp.runtest.session import ExperimentSession
from pytest_llmexp.runtest.upcoming import Upcoming
from pytest_llmexp.tracking.scope import current_run, entered

GRACE_S = 1.0  # for bodies in flight when the session stops
AHEAD = 8  # times as many runs may be set up as may be in flight: a slow run holds up the turns of the others
_WAKE_S = 0.2


class LookAhead:
    """Executes the runs of one process, up to `limit` bodies at once."""

    def __init__(
        self,
        session: pytest.Session,
        experiment: ExperimentSession,
        limit: int,
        upcoming: Upcoming,
        setup_state: ParkingSetupState,
    ) -> None:
        self.dropped = self.unreported = 0
        self.lanes = Lanes(session.config, experiment.settings, experiment.suspects)
        self._session = session
        self._experiment = experiment
        self._limit = limit
        self._upcoming = upcoming
        self._setup_state = setup_state
        option = session.config.getoption
        self._failures = 1 if option("stepwise", False) else option("maxfail")  # that end the session; 0: none do
        self._threads = BodyThreads()
        self._one_thread = OneThread(experiment.settings.replay == "only" and not self._failures)
        self._not_started: deque[tuple[Body, Callable[[], None]]] = deque()  # set up, and waiting for a thread
        self._changed = threading.Condition()
        self._begun: dict[pytest.Item, Body] = {}  # set up and not torn down, oldest first
        self._of_run: dict[str, Body] = {}
        self._in_flight: Counter[str] = Counter()  # test -> number of bodies
        self._running = 0  # the sum of these
        self._limited: set[Body] = set()  # those of them that have a timeout
        self._warnings = WarningsPerRun(self._warned)
        self._fixtures = threading.RLock()
        self._hooks = CallHooks(session.config)

    def takes(self, item: pytest.Item) -> bool:
        """Say whether an item's body may overlap with others."""
        return self.lanes.lane(item) is not None

    def leaves_out(self, item: pytest.Item) -> bool:
        """Say whether an item's run is not begun, because the experiment ends early."""
        return item not in self._begun and self._experiment.ends_early()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Sort output by run in the body of the with statement; drop what is in flight when it is left."""
        try:
            with output_per_run(self._session.config, self._current_output), self._warnings.sorted():
                yield
        finally:
            self._drop(keep=None)
            self._threads.close()
            os.environ.pop("PYTEST_CURRENT_TEST", None)

    def _current_output(self) -> RunOutput | None:
        run = current_run()
        body = self._of_run.get(run.run.id) if run else None
        return body.output if body and body.in_flight else None

    def _warned(self) -> pytest.Item | None:
        """Return the item that a warning is kept for: one whose turn has not come."""
        run = current_run()
        body = self._of_run.get(run.run.id) if run else None
        return body.item if body and not body.done else None

    # an item's turn

    def turn(self, item: pytest.Function, nextitem: pytest.Item | None) -> None:
        """Report an item's run as pytest's own protocol does, its body having been executed by now or here."""
        ihook = item.ihook
        ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        with self._warnings.sorted():
            body = self._finished(item)
            self._report_setup(body)
            if body.call is not None:
                self._report_call(body, body.call)
            if self._session.shouldfail or self._session.shouldstop:
                nextitem = None
            if nextitem is None:
                self._drop(keep=item)
            self._report_teardown(body, nextitem)
        ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _report_setup(self, body: Body) -> None:
        assert body.setup is not None
        self._warnings.show(body.item)
        if body.setup_report is not None:
            self._log(body.item, body.setup, body.setup_report)

    def _report_call(self, body: Body, call: pytest.CallInfo[Any]) -> None:
        if call.excinfo and isinstance(call.excinfo.value, KeyboardInterrupt | pytest.exit.Exception):
            raise call.excinfo.value
        body.run.recorder.wait_until_stored()  # who hears of the run finds it recorded, should this process die now
        for name, text in body.output.sections():
            body.item.add_report_section("call", name, text)
        self._log(body.item, call, body.item.ihook.pytest_runtest_makereport(item=body.item, call=call))

    def _log(self, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
        item.ihook.pytest_runtest_logreport(report=report)
        if interactive_exception(call, report):
            item.ihook.pytest_exception_interact(node=item, call=call, report=report)

    def _report_teardown(self, body: Body, nextitem: pytest.Item | None) -> None:
        item = body.item
        try:
            with captured_together(self._session.config):
                call = self._tear_down(body, nextitem)
                report = item.ihook.pytest_runtest_makereport(item=item, call=call)
                if nextitem is not None:
                    self._fill(item)
            self._log(item, call, report)
        finally:
            self._end(body)

    def _tear_down(self, body: Body, nextitem: pytest.Item | None) -> pytest.CallInfo[Any]:
        item = body.item
        del self._begun[item]
        self._setup_state.unpark(item)
        tear_down = partial(item.ihook.pytest_runtest_teardown, item=item, nextitem=nextitem)
        try:
            with entered(body.run.recorder.scope()), plugin_timer(item):
                return pytest.CallInfo.from_call(tear_down, "teardown", _STOPPING)
        finally:
            self._name_current()

    def _name_current(self) -> None:
        """Say that a test is being executed, which pytest takes back after each teardown."""
        if self._running:
            current = next((item for item, body in list(self._begun.items()) if body.in_flight), None)
            if current is not None:
                os.environ["PYTEST_CURRENT_TEST"] = f"{current.nodeid} (call)"

    def _end(self, body: Body) -> None:
        body.run.end()
        item = body.item
        del item.stash[run_key]
        forget_fixtures(item)
        self._of_run.pop(body.run.recorder.run.id, None)
        self.lanes.forget(item)

    # looking ahead

    def _finished(self, item: pytest.Function) -> Body:
        """Wait for an item's body, beginning the ones after it as there is room."""
        body = self._begun.get(item)
        if body is None or not body.done:
            with captured_together(self._session.config):  # what child processes write, too
                body = body or self._begin(item)
                self._fill(item)
                self._not_started.extend(self._one_thread.execute(self._threads, self._note_start))
                self._fill(item)
                self._experiment.prepare_end()
                self._await(body)
        return body

    def _await(self, body: Body) -> None:
        line = self._experiment.line
        while not body.done:
            with self._changed:
                if not body.done:
                    self._changed.wait(self._until_deadline())
            self._expire()
            self._fill(body.item)
            if line is not None and line.is_due:
                with suspended(self._session.config):
                    line.show(self._running, self._experiment.waiting)

    def _fill(self, current: pytest.Function) -> None:
        """Begin runs of the current one's lane while there is room."""
        while self._not_started and self._running < self._limit:
            self._start_thread(*self._not_started.popleft())
        lane = self.lanes.lane(current)
        while not (self._session.shouldfail or self._session.shouldstop or self._may_stop()):
            if self._experiment.ends_early():
                break
            if self._running >= self._limit or len(self._begun) >= self._limit * AHEAD:
                break
            item = self._upcoming.after(current, self._begun)
            if item is None or self.lanes.lane(item) != lane or not self._has_room(item) or self._gathers(item):
                break
            self._upcoming.claim(item)
            assert isinstance(item, pytest.Function)
            self._begin(item)

    def _may_stop(self) -> bool:
        """Say whether the runs that have ended may stop the session when their turn comes, as -x has it."""
        if not self._failures:
            return False
        return self._session.testsfailed + sum(body.has_failed for body in self._begun.values()) >= self._failures

    def _has_room(self, item: pytest.Item) -> bool:
        plan = item.stash[plan_key]
        limit = test_limit(plan, self._limit, self._experiment.workers)
        return self._in_flight[plan.test] < limit

    def _gathers(self, item: pytest.Item) -> bool:
        """Say whether a run waits to be begun with many others: their rows then share a commit."""
        oldest = next(iter(self._begun.values()), None)
        here = self._one_thread.takes(item.stash[plan_key].test, None)
        return here and oldest is not None and oldest.done

    def _begin(self, item: pytest.Function) -> Body:
        """Set an item up in the main thread and start its body in another."""
        run = begin_run(item, self._experiment)
        body = Body(item, run, run_timeout(item, self._experiment) or plugin_timeout(item))
        self._begun[item] = self._of_run[run.recorder.run.id] = body
        give_own_fixtures(item, self.lanes.refusal, self._fixtures)
        with entered(run.recorder.scope()):
            set_up = partial(item.ihook.pytest_runtest_setup, item=item)
            with plugin_timer(item):
                body.setup = pytest.CallInfo.from_call(set_up, "setup", _STOPPING)
            self._setup_state.park(item)
            body.setup_report = item.ihook.pytest_runtest_makereport(item=item, call=body.setup)
            if body.setup_report.passed:
                self._start(body)
            else:
                body.done = True
        return body

    def _start(self, body: Body) -> None:
        body.run.body = body
        work = body.prepare(partial(self._hooks.of(body.item), item=body.item), self._ended)
        if self._one_thread.takes(body.run.plan.test, body.timeout):
            self._one_thread.add(body, work)
        else:
            self._start_thread(body, work)

    def _start_thread(self, body: Body, work: Callable[[], None]) -> None:
        self._note_start(body, alone=True)
        self._threads.execute(work)

    def _note_start(self, body: Body, *, alone: bool = False) -> None:
        body.begin(alone=alone)
        with self._changed:
            self._in_flight[body.run.plan.test] += 1
            self._running += 1
            if body.timeout is not None:
                self._limited.add(body)

    def _ended(self, body: Body) -> None:
        """Called in the body's thread."""
        with self._changed:
            self._settle(body)
            self._changed.notify_all()

    def _settle(self, body: Body) -> None:
        body.done = True
        self._in_flight[body.run.plan.test] -= 1
        self._running -= 1
        self._limited.discard(body)

    def _until_deadline(self) -> float:
        ends = [remaining for body in self._limited if (remaining := body.remaining()) is not None]
        return max(0.0, min([_WAKE_S, *ends]))

    def _expire(self) -> None:
        with self._changed:
            limited = list(self._limited)
        for body in limited:
            if body.expire():
                with self._changed:
                    self._settle(body)

    # stopping early

    def _drop(self, keep: pytest.Item | None) -> None:
        """Let go of the runs that will not be reported: after -x, Ctrl-C, pytest.exit(), or with no item left.

        Without `keep`, the oldest one's entry is left to pytest, which tears down what is on its stack.
        """
        bodies = [body for item, body in self._begun.items() if item is not keep]
        if not bodies:
            return
        self._not_started.clear()
        self._experiment.stop_calls()
        for body in bodies:
            body.drop()
        with suppress(KeyboardInterrupt):  # a second Ctrl-C, or xdist's: then there is no time to wait
            end = time.monotonic() + GRACE_S
            for body in bodies:
                body.join(max(0.0, end - time.monotonic()))
        left_to_pytest = bodies.pop(0) if keep is None else None
        sibling = keep if left_to_pytest is None else left_to_pytest.item
        for body in bodies:
            with suppress(*_STOPPING):  # each has fixtures of its own to be torn down
                self._tear_down(body, sibling)
            self._let_go(body)
        if left_to_pytest is not None:
            del self._begun[left_to_pytest.item]
            self._setup_state.unpark(left_to_pytest.item)
            self._let_go(left_to_pytest)

    def _let_go(self, body: Body) -> None:
        """End a run that will not be reported, and count it as what it is recorded as."""
        self._end(body)
        if body.run.has_ended:
            self.unreported += 1
        else:
            self.dropped += 1


_STOPPING = (KeyboardInterrupt, pytest.exit.Exception)
