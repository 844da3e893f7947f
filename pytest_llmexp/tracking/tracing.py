"""What recording asks of a tracing framework's spans: in which step something lies. Knows none; see otel.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_llmexp.core.models import Record
    from pytest_llmexp.tracking.scope import Scope

SpanId = tuple[int, int]


class Spans(Protocol):
    """The spans of a tracing framework, as steps."""

    def here(self) -> SpanId | None:
        """Return the span that is current."""

    def step_in(self, scope: Scope, span: SpanId | None) -> str | None:
        """Return the innermost step where `span` is current."""

    def note(self, record: Record) -> None:
        """Take notice of what is recorded."""


def step_of(scope: Scope) -> str | None:
    """Return the step that what is made now lies in: the scope's, or that of a span that began inside it."""
    spans = scope.experiment.spans
    return scope.step_id if spans is None else spans.step_in(scope, spans.here())
