"""One item, one run: the recorder around the phases, `async def` bodies, timeouts."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmexp.core.errors import RunTimeoutError
from pytest_llmexp.runtest.async_fixtures import on_the_loop
from pytest_llmexp.runtest.collection import RunPlan, plan_key
from pytest_llmexp.runtest.loop import GRACE_S, wait_for
from pytest_llmexp.runtest.outcomes import (
    INTERRUPTED,
    NOTE,
    RunOutcome,
    make_safe,
    next_outcome,
    refused_outcome,
    show_refusal,
    tolerate,
)
from pytest_llmexp.runtest.private_api import body_arguments
from pytest_llmexp.runtest.session import ExperimentSession
from pytest_llmexp.tracking.barriers import CallsEnded
from pytest_llmexp.tracking.recorder import RunRecorder
from pytest_llmexp.tracking.replay import ReplayMissError
from pytest_llmexp.tracking.scope import RunStopped, current_scope, entered
from pytest_llmexp.tracking.spending import UnpricedModel

if TYPE_CHECKING:
    from pytest_llmexp.runtest.bodies import Body

_STOPPED = RunOutcome("crashed", error=INTERRUPTED)


class RunInProgress:
    """The recorder of an item's run and what its phases said so far."""

    def __init__(self, plan: RunPlan, recorder: RunRecorder, redact: Callable[[str], str]) -> None:
        self.plan = plan
        self.recorder = recorder
        self.body: Body | None = None  # of a run that overlaps with others
        self._redact = redact
        self._outcome: RunOutcome | None = None
        self._judged: RunOutcome | None = None

    def note_phase(self, report: pytest.TestReport, call: pytest.CallInfo[Any], path: Path) -> None:
        """Take in a phase and make its report fit to be shown."""
        self._outcome = self._after(call)
        refusal = refused_call(call) or (self.recorder.refusal if report.when == "call" else None)
        if refusal is not None:
            show_refusal(report, refusal, call.excinfo, path)
        tolerated = (
            report.failed
            and report.when == "call"
            and self._outcome is not None
            and self._outcome.status == "failed"
            and self.plan.mark.tolerates_failures
        )
        if tolerated:
            tolerate(report)
        make_safe(report, self._redact)
        if report.when == "call":
            metrics = {name: metric.value for name, metric in self.recorder.metrics.items()}
            setattr(report, NOTE, {"metrics": metrics, "tolerated": tolerated})

    def _after(self, call: pytest.CallInfo[Any]) -> RunOutcome | None:
        refusal = self.recorder.refusal or refused_call(call)
        return refused_outcome(refusal, call) if refusal else next_outcome(self._outcome, call)

    @property
    def has_ended(self) -> bool:
        """Whether it is known what the run came to."""
        return (self._outcome or self._judged) is not None

    @property
    def has_failed(self) -> bool:
        """Whether the body has ended in a way that may make pytest fail."""
        status = self._judged.status if self._judged else "passed"
        return status == "error" or (status == "failed" and not self.plan.mark.tolerates_failures)

    def judge(self, call: pytest.CallInfo[Any], *, lazily: bool = False) -> None:
        """Hand on what the body came to, before its turn to be reported: it may have been paid for."""
        self._judged = self._after(call)
        if self._judged is not None:
            status, phase, error, duration_s = astuple(self._judged)
            self.recorder.judge(status, phase=phase, error=error, duration_s=duration_s, lazily=lazily)

    def end(self) -> None:
        """Record the outcome; a run that no phase decided was stopped from outside."""
        outcome = self._outcome or self._judged or _STOPPED
        self.recorder.end(outcome.status, phase=outcome.phase, error=outcome.error, duration_s=outcome.duration_s)


def refused_call(call: pytest.CallInfo[Any]) -> RunStopped | None:
    """Return the refusal of a call that ended a phase."""
    error = call.excinfo.value if call.excinfo else None
    return error if isinstance(error, CallsEnded | UnpricedModel | ReplayMissError) else None


run_key = pytest.StashKey[RunInProgress]()


@contextmanager
def run_in_progress(item: pytest.Item, session: ExperimentSession) -> Iterator[None]:
    """Record what happens in the body of the with statement as the item's run, if the item is one and not ahead."""
    session.open_recording()  # any test may use the clients
    if plan_key not in item.stash or session.looks_ahead(item) or session.ends_early():
        yield
        return
    run = begin_run(item, session)
    run.recorder.wait_until_stored()
    session.prepare_end()
    try:
        with entered(run.recorder.scope()):
            yield
    finally:
        run.end()
        del item.stash[run_key]


def begin_run(item: pytest.Item, session: ExperimentSession) -> RunInProgress:
    """Record that an item's run begins; the row is handed on, not yet safe."""
    plan = item.stash[plan_key]
    recording = session.open_recording()
    recorder = recording.recorder.begin_run(
        plan.test,
        plan.run_index,
        case_id=plan.case_id,
        params=plan.params,
        tags=plan.mark.tags,
        worker=session.worker,
    )
    item.stash[run_key] = run = RunInProgress(plan, recorder, recording.redact)
    return run


def run_timeout(item: pytest.Item, session: ExperimentSession) -> float | None:
    """Return the seconds that a run's body may take: what its mark says, else the ini file; none with --pdb."""
    own: float | None = item.stash[plan_key].mark.timeout or session.settings.timeout
    return None if item.config.getoption("usepdb", False) else own


@contextmanager
def outside_runs() -> Iterator[None]:
    """Leave the run for the body of the with statement: what a shared fixture does belongs to no single run."""
    scope = current_scope()
    with entered(replace(scope, run=None, asking=None, step_id=None, span=None) if scope else None):
        yield


@contextmanager
def fixture_in_place(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest, session: ExperimentSession
) -> Iterator[None]:
    """Set a fixture up where it belongs: a shared one outside of runs, an async one on the session's loop."""
    place = nullcontext() if fixturedef.scope == "function" else outside_runs()
    with place, on_the_loop(fixturedef, request, session.loop):
        yield


def note_phase(
    item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[Any], session: ExperimentSession
) -> None:
    """Take a phase of an item into its run, if it has one."""
    if (run := item.stash.get(run_key, None)) is not None:
        run.note_phase(report, call, item.path)
        if call.excinfo is not None and isinstance(call.excinfo.value, RunTimeoutError):
            session.left_behind = True


def call_body(item: pytest.Function, session: ExperimentSession) -> bool | None:
    """Execute a run's body that needs more than a plain call; None leaves it to pytest or another plugin."""
    run = item.stash.get(run_key, None)
    if run is None:
        return None
    timeout = run_timeout(item, session)
    if inspect.iscoroutinefunction(item.obj):
        if "anyio_backend" in item.fixturenames:
            return None
        future = session.loop.submit(_within(item.obj(**body_arguments(item)), timeout))
        if run.body is not None:
            run.body.keep(future)
            wait_for(future)
        else:
            _wait_in_turn(future, timeout)
        return True
    if timeout is None or run.body is not None:  # a body that overlaps has a thread of its own, and is watched
        return None
    arguments = body_arguments(item)
    _call_in_thread(lambda: item.obj(**arguments), timeout)
    return True


def _wait_in_turn(future: Future[Any], timeout: float | None) -> None:
    """Wait for a coroutine whose timeout is its own affair, unless it blocks the loop that would tell it."""
    try:
        wait_for(future, None if timeout is None else timeout + GRACE_S)
    except TimeoutError:
        if future.done() and not future.cancelled():
            raise
        why = "it went on when it was cancelled, or blocks the event loop"
        raise RunTimeoutError(f"run timed out after {timeout:g} s; {why}") from None


async def _within(body: Coroutine[Any, Any, Any], timeout: float | None) -> None:
    try:
        async with asyncio.timeout(timeout) as limit:
            await body
    except TimeoutError:
        if limit.expired():
            raise RunTimeoutError(f"run timed out after {timeout:g} s") from None
        raise


def _call_in_thread(body: Callable[[], Any], timeout: float) -> None:
    """Call `body` in a daemon thread, so that one that hangs holds up neither the session nor the exit."""
    raised: list[BaseException] = []
    context = copy_context()

    def call() -> None:
        try:
            context.run(body)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, name="llmexp-run", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise RunTimeoutError(f"run timed out after {timeout:g} s; its thread was left behind and may still make calls")
    if raised:
        raise raised[0]
