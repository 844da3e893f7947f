"""`Experiment`: the same recording, summary and gates for a notebook or a script, without pytest."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from pytest_llmexp.core import models
from pytest_llmexp.core.errors import ConfigurationError
from pytest_llmexp.core.gates import parse_gate
from pytest_llmexp.core.redact import Redactor
from pytest_llmexp.lifecycle import DEFAULT_FILE, begin, finish
from pytest_llmexp.recording import Recording
from pytest_llmexp.report.text import render_text
from pytest_llmexp.report.view import load_view
from pytest_llmexp.store import open_store
from pytest_llmexp.tracking.recorder import RunRecorder, entered
from pytest_llmexp.tracking.repeats import Results
from pytest_llmexp.tracking.sources import resolve_source


class Experiment:
    """Executes functions many times and records every run.

        with Experiment("names", num_executions=10) as experiment:
            names = experiment.run(name_generator)
            name_length(names)          # a @metric: once per run
        print(experiment.summary)

    Calling a function decorated with @experiment in the block does what `run` does. `concurrency` runs go on
    at a time, in threads. `db` is the store (default: LLMEXP_DB, else `message_log.db` in the current folder);
    `gates` are judged over every function that was run. When the block ends, `id`, `results`, `summaries`,
    `verdicts` and `summary` (the table as text) are there; exceptions of runs are in `errors`.
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
    ) -> None:
        for label, number in (("num_executions", num_executions), ("concurrency", concurrency)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ConfigurationError(f"{label} is a whole number from 1, not {number!r}")
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"an experiment's name is text that is not empty, not {name!r}")
        if isinstance(gates, str):
            raise ConfigurationError(f"gates is a list of gates, not one text: gates=[{gates!r}]")
        self.name = name
        self.num_executions = num_executions
        self.concurrency = concurrency
        self.results: list[Any] = []
        self.errors: list[BaseException] = []
        self.summaries: list[models.Summary] = []
        self.verdicts: list[models.Verdict] = []
        self.summary = ""
        self._db = str(db or os.environ.get("LLMEXP_DB") or DEFAULT_FILE)
        self._gates = [parse_gate(gate) for gate in gates]
        self._tags = tags
        self._source = resolve_source(
            model or os.environ.get("LLMEXP_MODEL"), base_url or os.environ.get("LLMEXP_BASE_URL"), os.environ
        )
        self._runs: dict[str, list[RunRecorder]] = {}
        self._lock = threading.Lock()
        self._record: models.Experiment | None = None

    @property
    def id(self) -> str:
        """The experiment's id; ConfigurationError before the with statement began."""
        if self._record is None:
            raise ConfigurationError("the experiment has not begun: use it in a with statement")
        return self._record.id

    def __enter__(self) -> Experiment:
        self._store = open_store(self._db, create=True, redact=Redactor(os.environ))
        try:
            self._record = begin(self._store, self.name, source=self._source, folder=Path.cwd(), tags=self._tags)
            self._recording = Recording(self._store.url, self.id, self._source)
            self._recording.recorder.repeat = self.run
            self._recording.open()
        except BaseException:
            self._store.close()
            raise
        return self

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Results:
        """Execute `function(*args, **kwargs)` `num_executions` times; return the results of the runs that passed.

        An AssertionError makes a run failed, any other exception an error; neither stops the others.
        """
        test = f"{function.__module__}.{function.__qualname__}"
        if test in self._runs:
            raise ConfigurationError(
                f"{test} was run in this experiment already; a variant is a function of its own, or a parametrized test"
            )
        params = {**({"args": list(args)} if args else {}), **kwargs}
        begun = [
            self._recording.recorder.begin_run(test, index, params=params)
            for index in range(1, self.num_executions + 1)
        ]
        self._runs[test] = begun
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="llmexp-run") as pool:
            waiting = [pool.submit(self._execute, run, function, args, kwargs) for run in begun]
        passed = [(run, answer[0]) for run, done in zip(begun, waiting, strict=True) if (answer := done.result())]
        results = Results([result for _, result in passed], [run for run, _ in passed])
        self.results.extend(results)
        return results

    def _execute(
        self, run: RunRecorder, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Any] | None:
        started = time.perf_counter()
        with entered(run.scope()):
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                with self._lock:
                    self.errors.append(error)
                status: models.RunStatus = "failed" if isinstance(error, AssertionError) else "error"
                run.end(status, phase="call", error=f"{type(error).__name__}: {error}")
                return None
        if run.run.output is None:
            run.describe(output=result)
        run.judge("passed", duration_s=time.perf_counter() - started)
        return (result,)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for run in (run for runs in self._runs.values() for run in runs):
            run.close()
        problems = self._recording.close()
        try:
            assert self._record is not None
            gates = {test: self._gates for test in self._runs}
            outcome = finish(self._store, self._record, gates, problems=problems, interrupted=kind is not None)
            self._record, self.summaries, self.verdicts = outcome
            self.summary = render_text(load_view(self._store, self._record))
        finally:
            self._store.close()
        for problem in problems:
            warnings.warn(f"not recorded: {problem}", RuntimeWarning, stacklevel=2)
