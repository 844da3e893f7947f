"""Spans of agents, tools and models (OpenTelemetry) become steps, and model calls that no HTTP hook saw become calls.

Never imports OpenTelemetry: it waits until the code under test does, and attaches one passive processor to its
TracerProviders. Where nobody makes a TracerProvider there are no spans. Nothing here raises into the code under test.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any
from weakref import WeakSet

import wrapt

from pytest_llmexp.core.forks import renew_lock_in_children
from pytest_llmexp.core.ids import new_id
from pytest_llmexp.core.jsonable import kept
from pytest_llmexp.core.models import Call, Record, Run, Step
from pytest_llmexp.tracking import spans
from pytest_llmexp.tracking.patching import SharedPatch
from pytest_llmexp.tracking.recorder import ExperimentRecorder
from pytest_llmexp.tracking.scope import Scope, current_scope
from pytest_llmexp.tracking.tracing import SpanId

_RUNS_KEPT = 1000
_patch = SharedPatch()  # of the process, as what it patches


@dataclass(eq=False)
class _OpenSpan:
    """A span that began in a run, and what is known of it. Its row is handed on once it is of interest."""

    scope: Scope
    row: Step
    above: _OpenSpan | None
    known: bool = False  # its row was handed on
    called: bool = False  # a call was recorded inside


class SpanSteps:
    """The span processor: turns spans into steps of the run in which they begin.

    A span about models becomes a step at once; any other one as soon as a step or call turns out to lie in it, since
    some frameworks say only at its end what a span was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renew_lock_in_children(self)
        self._open: dict[SpanId, _OpenSpan] = {}
        self._by_step: dict[str, _OpenSpan] = {}
        self._calls: dict[str, dict[str, tuple[Call, set[str]]]] = {}  # of runs in progress, and who claims them
        self._providers: WeakSet[Any] = WeakSet()
        self._current_span: Callable[..., Any] | None = None

    def attach(self, provider: Any) -> None:
        """Process the spans of a TracerProvider of the SDK, from now on; at most once."""
        if not hasattr(provider, "add_span_processor"):
            return
        with self._lock:
            known = provider in self._providers
            self._providers.add(provider)
        if not known:
            provider.add_span_processor(self)

    def here(self, context: Any = None) -> SpanId | None:
        """Return the span that is current in this context."""
        if self._current_span is None:
            return None
        found = self._current_span(context).get_span_context()
        return (found.trace_id, found.span_id) if found.is_valid else None

    def step_in(self, scope: Scope, span: SpanId | None) -> str | None:
        """Return the innermost step where `span` is current: the scope's, or that of a span that began inside it."""
        inside = self._inside(scope, span)
        return scope.step_id if inside is None else self._make_known(inside).id

    def note(self, record: Record) -> None:
        """Take notice of what is recorded while there are spans: which calls are told of already."""
        if self._current_span is None:
            return
        if isinstance(record, Call) and record.run_id is not None:
            with self._lock:
                claims = self._calls.setdefault(record.run_id, {}).get(record.id, (record, set()))[1]
                self._calls[record.run_id][record.id] = (record, claims)
                if len(self._calls) > _RUNS_KEPT:  # calls made after their run was judged
                    del self._calls[next(iter(self._calls))]
                around = self._by_step.get(record.step_id or "")
            self._mark_called(around)
        elif isinstance(record, Run) and record.status != "running":
            with self._lock:
                self._calls.pop(record.id, None)

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Take in a span that begins; called by the SDK."""
        if (scope := current_scope()) is None or scope.run is None or scope.experiment.spans is not self:
            return
        try:
            self._begin(scope, span, parent_context)
        except Exception as error:
            scope.experiment.note_problem(error)

    def on_end(self, span: Any) -> None:
        """Take in a span that ends; called by the SDK."""
        with self._lock:
            ended = self._open.pop((span.context.trace_id, span.context.span_id), None)
            if ended is None:
                return
            del self._by_step[ended.row.id]
        try:
            self._end(ended, span)
        except Exception as error:
            ended.scope.experiment.note_problem(error)

    def _on_ending(self, span: Any) -> None:
        """Do nothing; called by the SDK."""

    def shutdown(self) -> None:
        """Do nothing; called by the SDK."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: rows are handed on at once; called by the SDK."""
        return True

    def _inside(self, scope: Scope, span: SpanId | None) -> _OpenSpan | None:
        if span is None or span == scope.span:
            return None
        found = self._open.get(span)
        return found if found is not None and found.scope.run is scope.run else None

    def _begin(self, scope: Scope, span: Any, parent_context: Any) -> None:
        identity = (span.context.trace_id, span.context.span_id)
        if identity in self._open:  # a provider may have been given the processor twice
            return
        self._current_span = sys.modules["opentelemetry.trace"].get_current_span
        above = self._inside(scope, self.here(parent_context))
        row = Step(
            id=new_id("step"),
            experiment_id=scope.experiment.experiment_id,
            run_id=scope.run.run.id if scope.run else None,
            parent_step_id=above.row.id if above else scope.step_id,
            name=span.name,
            kind=spans.kind_of(span.attributes or {}),
            source="otel",
            started_at=spans.iso_of(span.start_time),
        )
        begun = _OpenSpan(scope, row, above)
        with self._lock:
            self._open[identity] = self._by_step[row.id] = begun
        if spans.tells_of_models(span.attributes or {}):
            self._make_known(begun)

    def _make_known(self, found: _OpenSpan) -> Step:
        """Hand on the row of a span and of those around it."""
        if not found.known:
            found.known = True
            if found.above:
                self._make_known(found.above)
            found.scope.experiment.put(found.row, lazily=True)
        return found.row

    def _mark_called(self, found: _OpenSpan | None) -> None:
        while found is not None:
            found.called = True
            found = found.above

    def _end(self, ended: _OpenSpan, span: Any) -> None:
        attributes = span.attributes or {}
        if not ended.known and not spans.tells_of_models(attributes):
            return
        self._make_known(ended)
        row = replace(
            ended.row,
            name=span.name,
            kind=spans.kind_of(attributes),
            input=kept(spans.input_of(attributes)),
            output=kept(spans.output_of(attributes)),
            attributes=kept(spans.rest_of(attributes)) or {},
            error=spans.error_of(span),
            duration_s=max(span.end_time - span.start_time, 0) / 1e9,
        )
        ended.scope.experiment.put(row, lazily=True)
        if spans.is_model_call(attributes) and not ended.called:
            self._mark_called(ended)
            told = self._claim(row, span)
            if told is None:
                counter = ended.scope.run.calls if ended.scope.run else ended.scope.experiment.loose
                call = spans.call_of(row, attributes, counter.next(), ended.scope.role)
                ended.scope.experiment.put(call, lazily=True)
            elif told.step_id == ended.scope.step_id:
                ended.scope.experiment.put(replace(told, step_id=row.id), lazily=True)

    def _claim(self, row: Step, span: Any) -> Call | None:
        """Return a call that this span tells of though it was made outside of the span's context.

        Some frameworks (LangChain) make their spans without entering them. Two spans of one instrumentation are
        two calls; those of two instrumentations may tell of the same.
        """
        teller = span.instrumentation_scope.name if span.instrumentation_scope else ""
        asked, answered = spans.models_of(span.attributes or {})
        end = spans.iso_of(span.end_time)
        with self._lock:
            for call, claims in self._calls.get(row.run_id or "", {}).values():
                fits = call.client != "otel" and call.status != "running" and teller not in claims
                same = asked in (None, call.model_requested) or (answered or "") == call.model_returned
                if fits and same and row.started_at <= call.started_at <= end:
                    claims.add(teller)
                    return call
        return None


# Of the process, for every experiment: a processor cannot be taken off a provider again.
_steps = SpanSteps()


def span_processor() -> SpanSteps:
    """Return the processor, for a TracerProvider that was made before the session and is not the global one."""
    return _steps


@contextmanager
def watching_spans(experiment: ExperimentRecorder) -> Iterator[None]:
    """Turn spans into steps for the body: of the global TracerProvider, and of each that is made meanwhile."""
    experiment.spans = _steps
    try:
        with _patch.held():
            wrapt.when_imported("opentelemetry.sdk.trace")(_watch)
            yield
    finally:
        experiment.spans = None


def _watch(sdk: ModuleType) -> None:
    _patch.replace(sdk.TracerProvider, "__init__", partial(_make_provider))
    _steps.attach(sys.modules["opentelemetry.trace"].get_tracer_provider())


def _make_provider(init: Callable[..., None], provider: Any, *args: Any, **options: Any) -> None:
    init(provider, *args, **options)
    _steps.attach(provider)
