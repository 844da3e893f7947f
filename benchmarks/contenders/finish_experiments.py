"""Ends of experiments: `make FILE EXPERIMENTS RUNS` records them, `measure FILE` finishes and shows them.

Each run has ten metrics and no call; the runs are spread over ten cases. CPU time is the process's, all threads.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_llmexp.core.clock import utc_now
from pytest_llmexp.core.ids import new_id
from pytest_llmexp.core.models import Experiment, Metric, Record, Run
from pytest_llmexp.lifecycle import begin, finish
from pytest_llmexp.report.view import load_view
from pytest_llmexp.store import Store, open_store
from pytest_llmexp.tracking.sources import ModelSource

CASES, METRICS = 10, 10


def make(file: Path, experiments: int, runs: int) -> None:
    """Record experiments with their runs and metrics; the first is a small one, to warm up with."""
    rng = random.Random(1)
    with open_store(file, create=True) as store:
        for number in range(experiments + 1):
            source = ModelSource("model", "http://127.0.0.1")
            experiment = begin(store, f"experiment {number}", source=source, folder=file.parent)
            for first in range(0, runs if number else CASES, 1000):
                part = range(first, min(first + 1000, runs if number else CASES))
                store.write([record for index in part for record in one_run(experiment, index, rng)])


def one_run(experiment: Experiment, index: int, rng: random.Random) -> list[Record]:
    """Return a run and its metrics, half of them booleans."""
    run = Run(
        id=new_id("run"),
        experiment_id=experiment.id,
        test="test_summary.py::test_answer",
        case_id=f"case{index % CASES}",
        run_index=index // CASES + 1,
        status="passed",
        started_at=utc_now(),
        duration_s=0.2,
    )
    metrics = [
        Metric(run_id=run.id, name=f"right_{number}", kind="boolean", value=float(rng.random() < 0.8))
        if number % 2
        else Metric(run_id=run.id, name=f"score_{number}", kind="float", value=rng.random())
        for number in range(METRICS)
    ]
    return [run, *metrics]


def cpu_s(action: Callable[..., Any], *arguments: Any) -> float:
    """Return the CPU seconds of a call."""
    before = time.process_time()
    action(*arguments)
    return time.process_time() - before


def measure(store: Store) -> dict[str, float]:
    """Finish every experiment and load what would be shown of it; seconds in all, and of the median experiment."""
    warm_up, *experiments = reversed(store.experiments())
    finish(store, warm_up, {})  # what is imported on first use is not the summary's
    load_view(store, warm_up)
    ends = [cpu_s(finish, store, experiment, {}) for experiment in experiments]
    views = [cpu_s(load_view, store, experiment) for experiment in experiments]
    one = sorted(ends)[len(ends) // 2]
    return {"all_s": sum(ends), "one_s": one, "views_s": sum(views)}


if sys.argv[1] == "make":
    make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
else:
    with open_store(Path(sys.argv[2])) as opened:
        print(json.dumps(measure(opened)))
