"""What one process records of an experiment, and of a run in progress. Knows core and the scope only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from pytest_llmexp.core.clock import utc_now
from pytest_llmexp.core.errors import MetricError, RecordingError
from pytest_llmexp.core.forks import renew_lock_in_children
from pytest_llmexp.core.ids import new_id
from pytest_llmexp.core.jsonable import jsonable
from pytest_llmexp.core.models import (
    Better,
    BotSpec,
    Json,
    Metric,
    Phase,
    PromptUse,
    PromptVersion,
    Record,
    Run,
    RunStatus,
)
from pytest_llmexp.core.scalars import check_bounds, scalar
from pytest_llmexp.core.summary import IMPLICIT_METRICS
from pytest_llmexp.tracking.counting import CallCounter
from pytest_llmexp.tracking.scope import RunStopped, Scope

if TYPE_CHECKING:
    from pytest_llmexp.tracking.barriers import Barrier
    from pytest_llmexp.tracking.clients import Clients
    from pytest_llmexp.tracking.outages import Outages
    from pytest_llmexp.tracking.pacer import Pacer
    from pytest_llmexp.tracking.replay import Replay
    from pytest_llmexp.tracking.spending import Ledger
    from pytest_llmexp.tracking.store_trouble import StoreTrouble
    from pytest_llmexp.tracking.tracing import Spans

COMMIT_TIMEOUT_S = 60.0
PROBLEMS_KEPT = 100


class Sink(Protocol):
    """Whoever stores records: resolves the future when they are safe. For those put `lazily` nobody waits."""

    def put(self, *records: Record, lazily: bool = False) -> Future[None]: ...


class OpenStream(Protocol):
    """A streamed answer that did not end yet, of this run."""

    @property
    def run_id(self) -> str | None: ...

    def end(self) -> Future[None] | None:
        """Hand on what came so far."""


class ExperimentRecorder:
    """What one process records of one experiment."""

    def __init__(
        self, experiment_id: str, sink: Sink, clients: Clients | None = None, ledger: Ledger | None = None
    ) -> None:
        self.experiment_id = experiment_id
        self.clients = clients
        self.ledger = ledger  # of an experiment whose spending is limited
        self.pacer: Pacer | None = None
        self.outages: Outages | None = None
        self.store_trouble: StoreTrouble | None = None
        self.problems: list[str] = []
        self.repeat: Callable[..., Any] | None = None  # how an `Experiment` block executes a function
        self.spans: Spans | None = None
        self._sink = sink
        self._lock = threading.Lock()
        renew_lock_in_children(self)
        self._known: set[str] = set()
        self._knowing = threading.Lock()
        renew_lock_in_children(self, "_knowing")
        self.loose = CallCounter()
        self.replay: Replay | None = None
        self.open_streams: set[OpenStream] = set()
        self.stopped = False  # whether calls are refused

    @property
    def barriers(self) -> list[Barrier]:
        """What may end the calls."""
        return [barrier for barrier in (self.ledger, self.outages, self.store_trouble) if barrier is not None]

    def begin_run(
        self,
        test: str,
        run_index: int,
        *,
        case_id: str = "",
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        worker: str = "",
    ) -> RunRecorder:
        """Record that a run starts and return its recorder.

        Wait until it is stored before the body: a run that kills its process at once must have a row.
        """
        run = Run(
            id=new_id("run"),
            experiment_id=self.experiment_id,
            test=test,
            case_id=case_id,
            params=jsonable(params or {}),
            run_index=run_index,
            started_at=utc_now(),
            worker=worker,
            tags=dict(tags or {}),
        )
        return RunRecorder(self, run, self.put(run))

    def put(self, *records: Record, lazily: bool = False) -> Future[None] | None:
        """Hand records on. A failure is kept in `problems`, never raised: recording must not decide a test."""
        try:
            if self.spans is not None:
                for record in records:
                    self.spans.note(record)
            waiting = self._sink.put(*records, lazily=lazily)
        except Exception as error:
            self.note_problem(error)
            return None
        waiting.add_done_callback(self._note_failure)
        return waiting

    def settle(self, waiting: Future[None] | None, timeout_s: float = COMMIT_TIMEOUT_S) -> None:
        """Wait until what was handed on is safe or known to be lost; too long a wait is noted as a problem."""
        if waiting is None:
            return
        try:
            waiting.exception(timeout_s)  # `put` sees to it that a failure is noted
        except TimeoutError:
            self.note_problem(RecordingError("the store did not take a record in time; it may still arrive"))

    def note_problem(self, error: BaseException) -> None:
        """Keep a recording failure for the summary: the first hundred."""
        with self._lock:
            if len(self.problems) < PROBLEMS_KEPT:
                self.problems.append(f"{type(error).__name__}: {error}")

    def _note_failure(self, done: Future[None]) -> None:
        if (error := done.exception()) is not None:
            self.note_problem(error)
            if self.store_trouble is not None:
                self.store_trouble.note(error)

    def put_once(self, key: str, record: Record) -> None:
        """Hand on a record that many runs share, unless one of this key was handed on in this process before."""
        with self._knowing:  # until it is handed on: another thread's records that refer to it must come after it
            if key in self._known:
                return
            self._known.add(key)
            waiting = self.put(record, lazily=True)
        if waiting is None:
            self._forget(key)
        else:
            waiting.add_done_callback(lambda done: self._forget(key) if done.exception() else None)

    def _forget(self, key: str) -> None:
        """Let the next run that needs the record try again: what refers to it cannot be stored without it."""
        with self._knowing:
            self._known.discard(key)

    def see_bot(self, spec: BotSpec) -> None:
        """Record a bot, once."""
        self.put_once(spec.id, spec)

    def see_prompt(self, version: PromptVersion) -> None:
        """Record a prompt version, once."""
        self.put_once(f"{version.name} {version.hash}", version)


def check_metric(name: object, better: object, bounds: tuple[float, float] | None) -> None:
    """Raise MetricError for a name, direction or bounds that no metric can have."""
    if not isinstance(name, str) or not name.strip():
        raise MetricError(f"a metric's name is text that is not empty, not {name!r}")
    if better not in (None, "higher", "lower"):
        raise MetricError(f"metric {name!r}: better={better!r} is not known; allowed: 'higher', 'lower'")
    if bounds is not None:
        low = bounds[0] if isinstance(bounds, tuple | list) and bounds else 0.0
        check_bounds(name, low, bounds)  # any value will do to find bounds that are none


class RunRecorder:
    """Collects what happens in one run and hands it on as it happens."""

    def __init__(self, experiment: ExperimentRecorder, run: Run, begun: Future[None] | None) -> None:
        self.experiment = experiment
        self.run = run
        self._stored = begun  # resolved when the row, as it was last handed on, is safe
        self._safe: Run | None = None  # as it was last committed, if nothing was recorded since
        self.calls = CallCounter()
        self.refusal: RunStopped | None = None  # of a call: whatever the body made of it, the run says nothing
        self.ended = False
        self.metrics: dict[str, Metric] = {}
        self._started = time.perf_counter()
        self._lock = threading.Lock()
        self._used: set[str] = set()

    def wait_until_stored(self) -> None:
        """Return when the run's row, as it was last handed on, is safe or known to be lost."""
        self.experiment.settle(self._stored)

    def scope(self) -> Scope:
        """Return the scope of this run's body."""
        return Scope(self.experiment, self)

    def record_metric(
        self,
        name: str,
        value: object,
        *,
        better: Better | None = None,
        bounds: tuple[float, float] | None = None,
    ) -> None:
        """Record a scalar under a name; a second value under one name, or one after the end, is a MetricError."""
        if not isinstance(name, str) or not name.strip():
            raise MetricError(f"a metric's name is text that is not empty, not {name!r}")
        if name in IMPLICIT_METRICS:
            raise MetricError(
                f"metric {name!r} is recorded by itself; use another name (also taken: {', '.join(IMPLICIT_METRICS)})"
            )
        if better not in (None, "higher", "lower"):
            raise MetricError(f"metric {name!r}: better={better!r} is not known; allowed: 'higher', 'lower'")
        kind, number = scalar(name, value)
        check_bounds(name, number, bounds)
        detail = {"bounds": [float(bounds[0]), float(bounds[1])]} if bounds else {}
        metric = Metric(run_id=self.run.id, name=name, kind=kind, value=number, better=better, detail=detail)
        with self._lock:
            if self.ended:
                raise MetricError(f"metric {name!r}: its run has ended; record it before the test or function returns")
            if (earlier := self.metrics.get(name)) is not None:
                raise MetricError(
                    f"metric {name!r} has a value in this run already: {earlier.value:g} (the new one: {number:g}); "
                    "one name gets one value per run: use another name, or combine the values first"
                )
            self.metrics[name] = metric
            self._safe = None
        self.experiment.put(metric, lazily=True)

    def use_prompt(self, use_id: str, version: PromptVersion, variables: Mapping[str, Json]) -> None:
        """Record that a rendered prompt is part of this run, once per rendered message."""
        self.experiment.see_prompt(version)
        with self._lock:
            if use_id in self._used:
                return
            self._used.add(use_id)
            self._safe = None
        self.experiment.put(
            PromptUse(id=use_id, run_id=self.run.id, hash=version.hash, name=version.name, variables=variables),
            lazily=True,
        )

    def tag(self, **tags: str) -> None:
        """Add tags to the run."""
        with self._lock:
            self.run = replace(self.run, tags={**self.run.tags, **{key: str(tag) for key, tag in tags.items()}})

    def describe(self, **parts: Any) -> None:
        """Keep the run's input, output or expected value."""
        with self._lock:
            self.run = replace(self.run, **{name: jsonable(part) for name, part in parts.items()})

    def end(
        self,
        status: RunStatus,
        *,
        phase: Phase | None = None,
        error: str | None = None,
        duration_s: float | None = None,
    ) -> None:
        """Record how the run ended and return when everything of it is safe. A second call does nothing."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
        self.judge(status, phase=phase, error=error, duration_s=duration_s)
        self.wait_until_stored()

    def close(self) -> None:
        """Take no more records; how the run went is recorded already."""
        with self._lock:
            self.ended = True

    def end_streams(self) -> None:
        """Hand on what came of answers that the body neither read to their end nor closed."""
        for stream in [*self.experiment.open_streams]:
            if stream.run_id == self.run.id:
                stream.end()

    def judge(
        self,
        status: RunStatus,
        *,
        phase: Phase | None = None,
        error: str | None = None,
        duration_s: float | None = None,
        lazily: bool = False,
    ) -> None:
        """Hand on how the run went so far, and leave it open for what may be recorded yet."""
        with self._lock:
            took = time.perf_counter() - self._started if duration_s is None else duration_s
            self.run = run = replace(self.run, status=status, phase=phase, error=error, duration_s=took)
            if run == self._safe:
                return
            self._safe = run
        self.end_streams()
        self._stored = self.experiment.put(run, lazily=lazily)
        if status == "error":
            self._blame_provider()

    def _blame_provider(self) -> None:
        """Note, once, that the run ended as an error after its provider had failed its last call."""
        failure, self.calls.failure = self.calls.failure, None
        if failure is not None and self.experiment.outages is not None:
            self.experiment.outages.failed(failure)
