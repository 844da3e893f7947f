"""`Experiment`: the same recording, summary and gates for a notebook or a script, without pytest.

Not named `experiment`: as an attribute of the package, the module would hide the decorator of that name.
"""

from __future__ import annotations

import inspect
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeGuard

from pytest_llmexp.core import models
from pytest_llmexp.core.errors import ConfigurationError
from pytest_llmexp.core.gates import parse_gate
from pytest_llmexp.core.redact import Redactor
from pytest_llmexp.core.spending import Limits
from pytest_llmexp.lifecycle import DEFAULT_FILE, begin, finish, read_stop
from pytest_llmexp.ratelimits import Pacing
from pytest_llmexp.recording import Recording
from pytest_llmexp.replaying import ReplayFrom
from pytest_llmexp.report.text import render_text
from pytest_llmexp.report.view import load_view
from pytest_llmexp.store import open_store
from pytest_llmexp.tracking.legacy_httpx import import_httpx_with_openai
from pytest_llmexp.tracking.pacing import Caps
from pytest_llmexp.tracking.recorder import RunRecorder
from pytest_llmexp.tracking.repeats import Results, attempt, call_together
from pytest_llmexp.tracking.sources import check_address, resolve_source

REPLAY = ("off", "auto", "only")


class Experiment:
    """Executes functions many times and records every run.

        with Experiment("names", num_executions=10) as experiment:
            names = experiment.run(name_generator)
            name_length(names)          # a @metric: once per run
        print(experiment.summary)

    Calling a function decorated with @experiment in the block does what `run` does. `concurrency` runs go on
    at a time, in threads. `db` is the store (default: LLMEXP_DB, else `message_log.db` in the current folder);
    `model` and `base_url` are for bots that name none (default: LLMEXP_MODEL; LLMEXP_BASE_URL, OPENAI_BASE_URL);
    `gates` are judged over every function that was run. When the block ends, `id`, `results`, `summaries`,
    `verdicts` and `summary` (the table as text) are there; exceptions of runs and metrics are in `errors`,
    what could not be recorded in `problems`. Once its calls cost `max_cost` USD, or sent and received `max_tokens`,
    no further call starts, and `run` raises SpendingLimitError; `prices` maps models to USD for a million input
    and a million output tokens, and wins over the known prices. At most `rpm` requests and about `tpm` tokens per
    minute are sent. With `replay="auto"` answers that the store has from an earlier run with this index of the same
    function are served again, with "only" no call is made. A block that is left by an exception is stored as
    interrupted.
    """

    def __init__(
        self,
        name: str,
        num_executions: int = 10,
        *,
        concurrency: int = 8,
        db: str | Path | None = None,
        model: str | None = None,
        base_url: str | None = None,
        gates: Iterable[str] = (),
        tags: Mapping[str, str] | None = None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        rpm: int | None = None,
        tpm: int | None = None,
        replay: Literal["off", "auto", "only"] = "off",
        prices: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        _check_arguments(name, num_executions, concurrency, gates, tags)
        _check_limits(max_cost, max_tokens, rpm, tpm)
        if replay not in REPLAY:
            raise ConfigurationError(f"replay is {replay!r}; allowed: {', '.join(REPLAY)}")
        check_address(base_url, "base_url")
        if not base_url:
            check_address(os.environ.get("LLMEXP_BASE_URL"), "LLMEXP_BASE_URL")
        self.name = name
        self.num_executions = num_executions
        self.concurrency = concurrency
        self.results: list[Any] = []
        self.errors: list[BaseException] = []
        self.problems: list[str] = []
        self.summaries: list[models.Summary] = []
        self.verdicts: list[models.Verdict] = []
        self.summary = ""
        self._db = str(db or os.environ.get("LLMEXP_DB") or DEFAULT_FILE)
        self._gates = [parse_gate(gate) for gate in gates]
        self._tags = tags
        self._limits = Limits(max_cost, max_tokens)
        self._pacing = Pacing(Caps(rpm, tpm))
        self._replay = None if replay == "off" else ReplayFrom(replay)
        self._prices = dict(prices or {})
        self._source = resolve_source(
            model or os.environ.get("LLMEXP_MODEL"),
            base_url or os.environ.get("LLMEXP_BASE_URL"),
            os.environ,
            answered=replay == "only",
        )
        self._runs: dict[str, list[RunRecorder]] = {}
        self._record: models.Experiment | None = None
        self._recording: Recording | None = None

    @property
    def id(self) -> str:
        """The experiment's id; ConfigurationError before the with statement began."""
        if self._record is None:
            raise ConfigurationError("the experiment has not begun: use it in a with statement")
        return self._record.id

    def __enter__(self) -> Experiment:
        if self._record is not None:
            raise ConfigurationError(f"experiment {self.name!r} was used before; make a new Experiment for each block")
        self._store = open_store(self._db, create=True, redact=Redactor(os.environ))
        try:
            self._record = begin(self._store, self.name, source=self._source, folder=Path.cwd(), tags=self._tags)
            recording = Recording(
                self._store.url,
                self.id,
                self._source,
                replay=self._replay,
                limits=self._limits,
                prices=self._prices,
                pacing=self._pacing,
            )
            recording.recorder.repeat = self.run
            recording.open()
        except BaseException:
            self._store.close()
            raise
        self._recording = recording
        return self

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Results:
        """Execute `function(*args, **kwargs)` `num_executions` times; return the results of the runs that passed.

        A coroutine function is run to its end each time, in an event loop of the run's own. An AssertionError
        makes a run failed, any other exception an error; neither stops the others. ConfigurationError, before
        anything is executed: outside of the block, for arguments that do not fit, and for a function that was
        run in this experiment before. SpendingLimitError where a limit left runs out, ProviderDownError where a
        provider did: what the others returned is in `results`.
        """
        if self._recording is None:
            raise ConfigurationError("run() executes within the block: `with Experiment(...) as experiment:`")
        params = _params(function, args, kwargs)
        test = f"{function.__module__}.{function.__qualname__}"
        if test in self._runs:
            raise ConfigurationError(
                f"{test} was run in this experiment already; a variant is a function of its own, or a parametrized test"
            )
        self._runs[test] = []
        if self.concurrency > 1:
            import_httpx_with_openai()
        jobs = [
            partial(self._execute, self._recording, test, index, params, partial(function, *args, **kwargs))
            for index in range(1, self.num_executions + 1)
        ]
        passed = [answer for answer in call_together(jobs, self.concurrency) if answer]
        results = Results(
            [result for result, _ in passed],
            [run for _, run in passed],
            errors=self.errors,
            concurrency=self.concurrency,
        )
        self.results.extend(results)
        for barrier in self._recording.recorder.barriers:
            if barrier.refused:
                left = self.num_executions - sum(_has_ended(run) for run in self._runs[test])
                raise barrier.refusal.error(
                    f"{barrier.why}; {left} of {self.num_executions} runs of {test} were not made"
                )
        return results

    def _execute(
        self, recording: Recording, test: str, index: int, params: Mapping[str, Any], function: Callable[[], Any]
    ) -> tuple[Any, RunRecorder] | None:
        if any(barrier.leaves_out() for barrier in recording.recorder.barriers):
            return None
        run = recording.recorder.begin_run(test, index, params=params)
        run.wait_until_stored()
        self._runs[test].append(run)
        started = time.perf_counter()
        answer = attempt(run, self.errors, function)
        if answer is None:
            run.close()
            return None
        if run.run.output is None:
            run.describe(output=answer[0])
        run.judge("passed", duration_s=time.perf_counter() - started)
        run.wait_until_stored()
        return answer[0], run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        recording, self._recording = self._recording, None
        assert recording is not None
        assert self._record is not None
        try:
            for run in (run for runs in self._runs.values() for run in runs):
                run.close()
            self.problems = recording.close()
            recorder = recording.recorder
            outcome = finish(
                self._store,
                self._record,
                dict.fromkeys(self._runs, self._gates),
                planned={(test, ""): self.num_executions for test in self._runs},
                problems=self.problems,
                prices=self._prices,
                stop=read_stop([each.told() for each in recorder.barriers if each.refused], self._limits),
                limited=recorder.pacer.limited if recorder.pacer else 0,
                interrupted=kind is not None,
            )
            self._record, self.summaries, self.verdicts = outcome
            self.summary = render_text(load_view(self._store, self._record))
        finally:
            self._store.close()
        for problem in self.problems:
            warnings.warn(f"not recorded: {problem}", RuntimeWarning, stacklevel=2)


def _has_ended(run: RunRecorder) -> bool:
    return run.run.status in ("passed", "failed", "error")


def _check_limits(max_cost: object, max_tokens: object, rpm: object, tpm: object) -> None:
    if max_cost is not None and not (_is_number(max_cost) and 0 < max_cost < float("inf")):
        raise ConfigurationError(f"max_cost is an amount of USD above 0, not {max_cost!r}")
    for label, what, number in (("max_tokens", "tokens", max_tokens), ("rpm", "requests", rpm), ("tpm", "tokens", tpm)):
        if number is not None and not (_is_number(number) and isinstance(number, int) and number >= 1):
            raise ConfigurationError(f"{label} is a whole number of {what} from 1, not {number!r}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_arguments(name: object, num_executions: object, concurrency: object, gates: object, tags: object) -> None:
    for label, number in (("num_executions", num_executions), ("concurrency", concurrency)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ConfigurationError(f"{label} is a whole number from 1, not {number!r}")
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"an experiment's name is text that is not empty, not {name!r}")
    if isinstance(gates, str):
        raise ConfigurationError(f"gates is a list of gates, not one text: gates=[{gates!r}]")
    if tags is not None and not isinstance(tags, Mapping):
        raise ConfigurationError(f"tags is a mapping of names to texts, not {tags!r}")


def _params(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by name; ConfigurationError if the function cannot be called with them."""
    if not callable(function) or not hasattr(function, "__qualname__"):
        hint = "call it in run(): experiment.run(function), not experiment.run(function())"
        raise ConfigurationError(f"run() executes a function, not {function!r:.200}; {hint}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C do not tell
        return {"args": list(args), **kwargs}
    try:
        return dict(signature.bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise ConfigurationError(f"{function.__qualname__}{signature} does not take these arguments: {error}") from None
