"""`@experiment`: a function that an `Experiment` block executes many times, and the results of all its runs."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar, cast

from pytest_llmexp.core.models import RunStatus
from pytest_llmexp.tracking.barriers import CallsEnded
from pytest_llmexp.tracking.recorder import RunRecorder
from pytest_llmexp.tracking.scope import current_scope, entered

P = ParamSpec("P")
R = TypeVar("R")


class Results(list[Any]):
    """What the runs of one function returned, in the order of the runs; runs that failed are left out.

    A @metric function called with it as its first argument is called once per run, with that run's result,
    and records there. `runs` are the recorders of the runs, `errors` takes what evaluations raise,
    `concurrency` of them go on at a time.
    """

    def __init__(
        self, results: Iterable[Any], runs: Sequence[RunRecorder], *, errors: list[BaseException], concurrency: int
    ) -> None:
        super().__init__(results)
        self.runs, self.errors, self.concurrency = list(runs), errors, concurrency

    def evaluate(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Results:
        """Call `function(result, ...)` for every result, in the scope of its run; return what the calls returned.

        An exception makes its run failed or an error, and stops no other; if every call raised, the first
        exception is raised. SpendingLimitError if a limit let a call of a model not start.
        """

        def evaluate_one(result: Any, run: RunRecorder) -> tuple[Any] | None:
            return attempt(run, self.errors, function, result, *args, **kwargs)

        before = len(self.errors)
        jobs = [functools.partial(evaluate_one, *pair) for pair in zip(self, self.runs, strict=True)]
        answers = call_together(jobs, self.concurrency)
        if refusals := [run.refusal for run in self.runs if isinstance(run.refusal, CallsEnded)]:
            raise refusals[0].error(str(refusals[0]))
        done = [(answer[0], run) for answer, run in zip(answers, self.runs, strict=True) if answer]
        if jobs and not done:
            raise self.errors[before]
        return Results(
            [value for value, _ in done], [run for _, run in done], errors=self.errors, concurrency=self.concurrency
        )


def attempt(
    run: RunRecorder, errors: list[BaseException], function: Callable[..., Any], *args: Any, **kwargs: Any
) -> tuple[Any] | None:
    """Call a function in the scope of a run and return its result, awaited if it is a coroutine.

    An AssertionError makes the run failed, any other exception an error; it goes to `errors`, and the answer
    is None. A run of which a spending limit refused a call says nothing.
    """
    with entered(run.scope()):
        try:
            result = function(*args, **kwargs)
            answer = (asyncio.run(result) if inspect.iscoroutine(result) else result,)
            if run.refusal is not None:  # and the function went on without the answer
                raise run.refusal
            return answer
        except KeyboardInterrupt:
            raise
        except CallsEnded as stop:
            run.judge("crashed", phase="call", error=str(stop), duration_s=run.run.duration_s)
            run.wait_until_stored()
            return None
        except BaseException as error:  # SystemExit too: one run must not end the others
            errors.append(error)
            if run.run.status in ("running", "passed"):  # the first exception is what the run came to
                status: RunStatus = "failed" if isinstance(error, AssertionError) else "error"
                run.judge(status, phase="call", error=f"{type(error).__name__}: {error}", duration_s=run.run.duration_s)
                run.wait_until_stored()
            return None


def call_together(jobs: Sequence[Callable[[], R]], concurrency: int) -> list[R]:
    """Call all of them in threads and return their results, in order; an interrupt lets no further one begin."""
    with ThreadPoolExecutor(concurrency, thread_name_prefix="llmexp-run") as pool:
        waiting = [pool.submit(job) for job in jobs]
        try:
            return [done.result() for done in waiting]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # those in flight are paid for: the pool waits for them
            raise


def experiment(function: Callable[P, R]) -> Callable[P, R]:
    """Let the function be executed `num_executions` times where it is called in a `with Experiment(...)` block.

    There it returns `Results`; a coroutine function is awaited for them. In a run (so in a test), and outside
    of any experiment, it is called once, as ever.
    """

    @functools.wraps(function)
    def repeat(*args: P.args, **kwargs: P.kwargs) -> R:
        execute = _repeater()
        return function(*args, **kwargs) if execute is None else cast(R, execute(function, *args, **kwargs))

    @functools.wraps(function)
    async def repeat_async(*args: P.args, **kwargs: P.kwargs) -> Any:
        execute = _repeater()
        if execute is None:
            return await cast(Coroutine[Any, Any, Any], function(*args, **kwargs))
        return await asyncio.to_thread(execute, function, *args, **kwargs)

    return cast(Callable[P, R], repeat_async) if inspect.iscoroutinefunction(function) else repeat


def _repeater() -> Callable[..., Results] | None:
    """How the `Experiment` block around executes a function; None in a run and outside of any block."""
    scope = current_scope()
    return None if scope is None or scope.run is not None else scope.experiment.repeat
