"""`@metric`: a function whose return value is a metric of the run in progress."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, cast, overload

from pytest_llmexp.core.errors import MetricError
from pytest_llmexp.core.models import Better
from pytest_llmexp.tracking.recorder import check_metric
from pytest_llmexp.tracking.repeats import Results
from pytest_llmexp.tracking.scope import current_run, current_scope, entered

P = ParamSpec("P")
R = TypeVar("R")


@overload
def metric(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def metric(
    *, name: str | None = None, better: Better | None = None, bounds: tuple[float, float] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def metric(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    better: Better | None = None,
    bounds: tuple[float, float] | None = None,
) -> Any:
    """Record what the function returns under its name, and return it unchanged.

    Works on functions and coroutine functions. The value is a bool, an int or a finite float (numpy and
    torch scalars count), anything else a MetricError. `better` says which direction is an improvement,
    `bounds` the lowest and highest possible value. Model calls made inside have the role `evaluation`.
    Outside a run the function is just called. Called with the `Results` of an `Experiment` block as its first
    argument, it is called for each of them, in its run, and returns the `Results` of these calls.
    """
    if function is not None and not callable(function):
        raise MetricError(
            f"@metric decorates a function, not {function!r}; a name is given as @metric(name={function!r})"
        )

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        label = function.__name__ if name is None else name
        check_metric(label, better, bounds)

        def record(value: object) -> None:
            if run := current_run():
                run.record_metric(label, value, better=better, bounds=bounds)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def evaluate_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                if (results := _results_in(label, args, kwargs)) is not None:
                    return await asyncio.to_thread(results.evaluate, evaluate_async, *args[1:], **kwargs)
                with _evaluation():
                    value = await function(*args, **kwargs)
                record(value)
                return value

            return cast(Callable[P, R], evaluate_async)

        @functools.wraps(function)
        def evaluate(*args: P.args, **kwargs: P.kwargs) -> R:
            if (results := _results_in(label, args, kwargs)) is not None:
                return cast(R, results.evaluate(evaluate, *args[1:], **kwargs))
            with _evaluation():
                value = function(*args, **kwargs)
            record(value)
            return value

        return evaluate

    return decorate if function is None else decorate(function)


def _results_in(label: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Results | None:
    """Return the `Results` that a metric is called with, if it is."""
    if any(isinstance(value, Results) for value in (*args[1:], *kwargs.values())):
        raise MetricError(
            f"metric {label!r}: the Results of an experiment are its first argument: {label}(results, ...)"
        )
    return args[0] if args and isinstance(args[0], Results) else None


@contextmanager
def _evaluation() -> Iterator[None]:
    scope = current_scope()
    with entered(replace(scope, role="evaluation") if scope else None):
        yield
