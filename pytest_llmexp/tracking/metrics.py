"""`@metric`: a function whose return value is a metric of the run in progress."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, cast, overload

from pytest_llmexp.core.models import Better
from pytest_llmexp.tracking.recorder import RunRecorder, current_run, current_scope, entered
from pytest_llmexp.tracking.repeats import Results

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
    argument, it is called for each of them, in its run, and returns the list of values.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        label = name or function.__name__

        def record(value: object) -> None:
            if run := current_run():
                run.record_metric(label, value, better=better, bounds=bounds)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def evaluate_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with _evaluation():
                    value = await function(*args, **kwargs)
                record(value)
                return value

            return cast(Callable[P, R], evaluate_async)

        @functools.wraps(function)
        def evaluate(*args: P.args, **kwargs: P.kwargs) -> R:
            if args and isinstance(args[0], Results):
                return cast(R, _evaluate_each(evaluate, args[0], *args[1:], **kwargs))
            with _evaluation():
                value = function(*args, **kwargs)
            record(value)
            return value

        return evaluate

    return decorate if function is None else decorate(function)


def _evaluate_each(evaluate: Callable[..., Any], results: Results, *args: Any, **kwargs: Any) -> list[Any]:
    """Call a metric for every result in the scope of its run, eight at a time; raise the first error at the end."""

    def evaluate_one(result: Any, run: RunRecorder) -> Any:
        with entered(run.scope()):
            return evaluate(result, *args, **kwargs)

    with ThreadPoolExecutor(8, thread_name_prefix="llmexp-metric") as pool:
        waiting = [pool.submit(evaluate_one, result, run) for result, run in zip(results, results.runs, strict=True)]
    return [done.result() for done in waiting]


@contextmanager
def _evaluation() -> Iterator[None]:
    scope = current_scope()
    with entered(replace(scope, role="evaluation") if scope else None):
        yield
