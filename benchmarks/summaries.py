"""Goal e: the end of an experiment with many stored metrics: `lifecycle.finish`, and what is then shown."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.measure import FOLDER, Bench, Contender
from benchmarks.processes import clean_environment, run_process
from benchmarks.results import Finding, Measurement, Results

_METRICS = 10  # per run, see contenders/finish_experiments.py


def measure(bench: Bench) -> Results:
    """Make a store of 20 experiments of 50,000 metric rows once; finish all of them in every repetition."""
    experiments, runs = bench.size(20, 3), bench.size(5000, 100)
    rows = runs * _METRICS
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        file = Path(folder) / "message_log.db"
        bench.tell(f"  making a store of {experiments} experiments of {rows:,} metric rows")
        program = str(FOLDER / "finish_experiments.py")
        run_process([program, "make", str(file), str(experiments), str(runs)], Path(folder), clean_environment())
        entrant = Contender("finish", "finish_experiments.py", ("{program}", "measure", str(file)))
        samples = bench.interleave([entrant])[entrant.name]
    figures = [sample.figures for sample in samples]
    finished = f"CPU of finish: {experiments} experiments of {rows:,} metric rows"
    return Results(
        [Measurement("e", entrant.name, samples, f"{experiments} x {rows:,} rows; with imports")],
        [
            Finding("e", finished, [figure["all_s"] for figure in figures], 0.5, "s"),
            Finding("e", f"CPU of finish: one of {rows:,}", [figure["one_s"] * 1000 for figure in figures], 50, "ms"),
            Finding("e", "CPU of load_view, all of them", [figure["views_s"] for figure in figures], unit="s"),
        ],
    )
