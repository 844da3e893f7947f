"""`@experiment`: a function that an `Experiment` block executes many times, and the results of all its runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from pytest_llmexp.tracking.recorder import RunRecorder, current_scope

P = ParamSpec("P")
R = TypeVar("R")


class Results(list[Any]):
    """What the runs of one function returned, in run order; runs that failed are left out.

    A @metric function called with it is called once per run, with that run's result, and records there.
    """

    def __init__(self, results: Iterable[Any], runs: Sequence[RunRecorder]) -> None:
        super().__init__(results)
        self.runs = list(runs)


def experiment(function: Callable[P, R]) -> Callable[P, R]:
    """Let the function be executed `num_executions` times where it is called in a `with Experiment(...)` block.

    There it returns `Results`. In a run (so in a test), and outside of any experiment, it is called once, as ever.
    """

    @functools.wraps(function)
    def repeat(*args: P.args, **kwargs: P.kwargs) -> R:
        scope = current_scope()
        if scope is None or scope.run is not None or scope.experiment.repeat is None:
            return function(*args, **kwargs)
        return cast(R, scope.experiment.repeat(function, *args, **kwargs))

    return repeat
