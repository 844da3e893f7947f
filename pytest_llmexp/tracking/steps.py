"""`step`: a named part of a run, as a with statement and as a decorator. Knows core and the recorder.

A step's row is handed on when it begins, so that a killed run shows what it was at, and again when it ends; nobody
waits for either. What is made inside belongs to it, also in threads and tasks: it is part of the scope.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast, overload

from pytest_llmexp.core.clock import utc_now
from pytest_llmexp.core.errors import ConfigurationError
from pytest_llmexp.core.ids import new_id
from pytest_llmexp.core.jsonable import kept
from pytest_llmexp.core.models import Json, Step
from pytest_llmexp.tracking.scope import Scope, current_scope, entered
from pytest_llmexp.tracking.tracing import step_of
from pytest_llmexp.tracking.yielding import yielding, yielding_async

P = ParamSpec("P")
R = TypeVar("R")
_MAX_ERROR = 10_000


class StepBlock:
    """One step. `input` is what it was given, `output` what came out: set it in the with statement.

    As a decorator it makes a step of every call of the function.
    """

    def __init__(self, name: str, given: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.input: Any = given or None
        self.output: Any = None
        self._given = given or {}
        self._begun = False
        self._row: Step | None = None  # None where nothing is recorded
        self._inside: Scope | None = None
        self._entered: AbstractContextManager[None] = nullcontext()

    @property
    def is_recorded(self) -> bool:
        """Whether it has begun in an experiment."""
        return self._row is not None

    def begin(self) -> None:
        """Hand on that the step begins; outside of an experiment do nothing."""
        if self._begun:
            raise ConfigurationError(
                f"step {self.name!r} was begun before: a step happens once; write step(...) in each with statement"
            )
        self._begun = True
        if (scope := current_scope()) is None:
            return
        self._row = Step(
            id=new_id("step"),
            experiment_id=scope.experiment.experiment_id,
            run_id=scope.run.run.id if scope.run else None,
            parent_step_id=step_of(scope),
            name=self.name,
            input=kept(self.input),
            started_at=utc_now(),
        )
        spans = scope.experiment.spans
        self._inside = replace(scope, step_id=self._row.id, span=spans.here() if spans else None)
        self._given = self.input
        scope.experiment.put(self._row, lazily=True)
        self._started = time.perf_counter()

    def inside(self) -> AbstractContextManager[None]:
        """Let what is made in the body of the with statement belong to this step."""
        return entered(self._inside) if self._inside else nullcontext()

    def end(self, error: BaseException | None = None, yielded: list[Json] | None = None) -> None:
        """Hand on how the step ended; `yielded` is its output as it is stored."""
        if self._row is None or self._inside is None:
            return
        took = time.perf_counter() - self._started
        self._row = replace(
            self._row,
            input=self._row.input if self.input is self._given else kept(self.input),
            output=kept(self.output) if yielded is None else yielded,
            # whoever closes a generator has had enough of it: no fault of the step
            error=None if error is None or isinstance(error, GeneratorExit) else _describe(error),
            duration_s=took,
        )
        self._inside.experiment.put(self._row, lazily=True)

    def __enter__(self) -> StepBlock:
        self.begin()
        self._entered = self.inside()
        self._entered.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.__exit__(None, None, None)
        self.end(error)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return cast(Callable[P, R], _decorated(function, self.name, self._given))


@overload
def step(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def step(name: str, /, **inputs: Any) -> StepBlock: ...
@overload
def step(*, name: str, **inputs: Any) -> StepBlock: ...


def step(what: Any = None, /, **inputs: Any) -> Any:
    """Record a named part of a run: `with step("retrieve", query=q) as s:`, `@step` or `@step("retrieve")`.

    What is kept: name, input, output, duration in seconds, error, the step around it; calls made inside hang under
    it. In a with statement the keyword arguments are the input and `s.output = ...` sets the output. Of a decorated
    function (also `async def`, and generators, which take until they are exhausted or closed) the arguments are the
    input and what it returns, or the list of what it yields, is the output. Of each, 200,000 characters are kept.
    Outside of an experiment nothing is recorded. Exceptions are recorded and pass. Raises ConfigurationError for a
    name that is no text.
    """
    if callable(what):
        return _decorated(what, _name_of(what), inputs)
    name = inputs.pop("name", None) if what is None else what
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f'a step\'s name is text that is not empty, not {name!r}; write step("retrieve")')
    return StepBlock(name, inputs)


def _decorated(function: Callable[..., Any], name: str, given: Mapping[str, Any]) -> Any:
    if not callable(function) or isinstance(function, type):
        raise ConfigurationError(
            f"@step decorates a function, not {function!r}; put it below @classmethod and the like"
        )
    read = _reader(function)

    def block(args: tuple[Any, ...], kwargs: dict[str, Any]) -> StepBlock:
        return StepBlock(name, {**given, **read(args, kwargs)} if current_scope() else None)

    if inspect.isasyncgenfunction(function):
        return yielding_async(function, block)
    if inspect.isgeneratorfunction(function):
        return yielding(function, block)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            with block(args, kwargs) as running:
                running.output = result = await function(*args, **kwargs)
            return result

        return call_async

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with block(args, kwargs) as running:
            running.output = result = function(*args, **kwargs)
        return result

    return call


def _reader(function: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any]]:
    """Return what gives the arguments of a call by name, without the object or class of a method."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C do not tell
        return lambda args, kwargs: {**({"args": list(args)} if args else {}), **kwargs}
    owner = next(iter(signature.parameters), None)

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            arguments = dict(signature.bind(*args, **kwargs).arguments)
        except TypeError:  # the function itself will say so
            return {}
        if owner in ("self", "cls"):
            arguments.pop(owner, None)
        return arguments

    return read


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


def _describe(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{name}: {text[:_MAX_ERROR]}" if text else name
