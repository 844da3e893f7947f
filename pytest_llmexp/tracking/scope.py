"""Where records made now belong, and the one ContextVar that says so.

A `Scope` names experiment, run, step and bot, and whether it is generation or evaluation. Scopes are immutable;
entering one sets the ContextVar, so nested calls, tasks and (with `threads.context_follows_threads`) threads see
their own. Knows core only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_llmexp.core.models import BotSpec, Role

if TYPE_CHECKING:
    from pytest_llmexp.tracking.recorder import ExperimentRecorder, RunRecorder
    from pytest_llmexp.tracking.tracing import SpanId


class RunStopped(BaseException):
    """A call is not made: the session is ending, or the call may not be made at all.

    Not an Exception: a client must not try again, and a test's `except Exception` must not take it for the provider's.
    """


@dataclass(frozen=True, slots=True)
class Asking:
    """One question to a bot: its calls (tool rounds, repairs) hang under the first."""

    bot: BotSpec
    call_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where records made now belong."""

    experiment: ExperimentRecorder
    run: RunRecorder | None = None
    asking: Asking | None = None
    role: Role = "generation"
    sending: str | None = None  # the key of the request that this context is sending: libraries build on each other
    step_id: str | None = None
    span: SpanId | None = None  # the tracing framework's that was current where the step began


_scope: ContextVar[Scope | None] = ContextVar("llmexp_scope", default=None)


def current_scope() -> Scope | None:
    """Return the scope of this context; its run, with what is in it, is left out once it has ended."""
    scope = _scope.get()
    if scope and scope.run and scope.run.ended:
        return replace(scope, run=None, asking=None, step_id=None, span=None)
    return scope


def ensure_calls_go_on() -> None:
    """Raise RunStopped if the experiment of this context makes no calls any more."""
    scope = _scope.get()
    if scope and scope.experiment.stopped:
        raise RunStopped("the session is ending: no call is made any more")


def current_run() -> RunRecorder | None:
    """Return the run in progress in this context."""
    scope = current_scope()
    return scope.run if scope else None


@contextmanager
def entered(scope: Scope | None) -> Iterator[None]:
    """Make `scope` the current one for the body of the with statement."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        try:
            _scope.reset(token)
        except ValueError:  # left in another context than entered: the parts of an async fixture are tasks of their own
            _scope.set(None if token.old_value is Token.MISSING else token.old_value)
