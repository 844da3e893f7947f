"""Goal c: replaying an experiment, against as many items that do nothing; and what the hook adds to a call."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.concurrent_runs import check_recorded
from benchmarks.measure import Bench, Contender, Sample
from benchmarks.processes import ContenderError
from benchmarks.results import Finding, Measurement, Results
from benchmarks.server import model_name

_FILE = "message_log.db"
_MODEL = model_name(0, 40)
_PYTEST = ("-m", "pytest", "{program}", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
_HOOK = {"outside": "installed, outside of an experiment", "recorded": "recorded", "replayed": "replayed"}


def measure(bench: Bench) -> Results:
    """Record runs once; in every repetition replay all, and the first one only: its session is start-up and end."""
    runs = bench.size(2000, 50)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        recorded = Path(folder) / _FILE
        bench.tell(f"  recording {runs:,} runs")
        bench.sample(_recording(runs, recorded))
        entrants = [
            *(_replay(name, count, recorded) for name, count in (("replay", runs), ("replay, 1 run", 1))),
            *(_plain(name, count) for name, count in (("items that do nothing", runs), ("1 item", 1))),
            Contender("calls, hook", "hook_calls.py", runs=bench.size(500, 20), note="client without a network"),
        ]
        samples = bench.interleave(entrants)
    replayed, one, items, one_item, hook = (samples[entrant.name] for entrant in entrants)
    of_replay, of_items = _seconds(replayed, one, runs), _seconds(items, one_item, runs)
    figures = [sample.figures for sample in hook]
    return Results(
        [Measurement("c", entrant.name, samples[entrant.name], entrant.note) for entrant in entrants],
        [
            Finding("c", "replayed runs per CPU second", [1 / s for s in of_replay], 1200, "runs", least=True),
            Finding("c", "items that do nothing per CPU second", [1 / s for s in of_items], unit="items"),
            Finding("c", "CPU: replayed run / item that does nothing", _ratios(of_replay, of_items)),
            *(
                Finding("c", f"CPU added to a call by the hook: {said}", [figure[way] for figure in figures], unit="us")
                for way, said in _HOOK.items()
            ),
            Finding("c", "CPU of a call without the hook", [figure["off"] for figure in figures], unit="us"),
        ],
    )


def _recording(runs: int, file: Path) -> Contender:
    options = (f"--experiment-runs={runs}", f"--experiment-model={_MODEL}", f"--experiment-db={file}")
    return Contender(
        "record", "suite_replay.py", (*_PYTEST, *options), runs=runs, asks=True, check=partial(_check_file, runs, file)
    )


def _check_file(runs: int, file: Path, _: Path) -> None:
    check_recorded(runs, file.parent, file.name)


def _replay(name: str, runs: int, recorded: Path) -> Contender:
    options = ("--experiment-replay=only", f"--experiment-runs={runs}", f"--experiment-model={_MODEL}")
    check = partial(_check_replayed, runs)
    arguments = (*_PYTEST, *options)
    return Contender(name, "suite_replay.py", arguments, runs=runs, files=[recorded], note="with start-up", check=check)


def _check_replayed(runs: int, folder: Path) -> None:
    """Raise ContenderError unless the latest experiment holds so many replayed answers, and two metrics of each run."""
    latest = "SELECT max(experiment_id) FROM experiment_runs"
    with closing(sqlite3.connect(folder / _FILE)) as connection:
        count = f"SELECT count(replayed_from) FROM calls WHERE experiment_id = ({latest})"
        calls = connection.execute(count).fetchone()[0]
        count = f"SELECT count(*) FROM run_metrics WHERE experiment_id = ({latest}) AND status = 'passed'"
        metrics = connection.execute(count).fetchone()[0]
    if (calls, metrics) != (runs, 2 * runs):
        raise ContenderError(f"{calls} replayed calls and {metrics} metrics were recorded of {runs} runs")


def _plain(name: str, runs: int) -> Contender:
    arguments = (*_PYTEST, "-p", "no:llmexp")
    return Contender(name, "collect_plain.py", arguments, runs=runs, note="floor, with start-up")


def _seconds(many: Sequence[Sample], one: Sequence[Sample], runs: int) -> list[float]:
    """Return the CPU seconds of a run in each repetition, start-up and end of the session left out."""
    pairs = zip(many, one, strict=True)
    return [(all_runs.cpu_s - single.cpu_s) / (runs - 1) for all_runs, single in pairs]


def _ratios(values: Sequence[float], bases: Sequence[float]) -> list[float]:
    return [value / base for value, base in zip(values, bases, strict=True)]
