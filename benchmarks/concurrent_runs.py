"""Goals a and b: many runs of 200 ms each, many of them in flight, everything recorded; against other ways to do it."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.measure import LATENCY_MS, Bench, Contender, Sample
from benchmarks.processes import ContenderError
from benchmarks.results import Finding, Measurement, Results, ratios

_LATENCY_S = LATENCY_MS / 1000
_PYTEST = ("-m", "pytest", "{program}", "-q", "-p", "no:cacheprovider")
_WITHOUT_US = ("-p", "no:llmexp")
_ONE_PROCESS = ("-p", "no:xdist")
_OURS, _OURS_2 = "pytest-llmexp", "pytest-llmexp -n 2"
_POOL, _PYDANTIC, _PLAIN_32, _FLOOR = (
    "thread pool by hand",
    "pydantic-evals",
    "plain pytest -n 32",
    "one call in pytest",
)


def check_recorded(runs: int, folder: Path, file: str = "message_log.db") -> None:
    """Raise ContenderError unless a store holds so many passed runs, and as many answered calls."""
    with closing(sqlite3.connect(folder / file)) as connection:
        passed = connection.execute("SELECT count(*) FROM experiment_runs WHERE status = 'passed'").fetchone()[0]
        answered = connection.execute("SELECT count(*) FROM calls WHERE status = 'ok'").fetchone()[0]
    if (passed, answered) != (runs, runs):
        raise ContenderError(f"{passed} passed runs and {answered} answered calls were recorded instead of {runs}")


def wall(sample: Sample) -> float:
    """The wall time of a sample."""
    return sample.wall_s


def measure_a(bench: Bench) -> Results:
    """500 runs, 64 in flight: what pytest-llmexp adds to the time that nobody can avoid, and what others take."""
    runs, in_flight = bench.size(500, 64), bench.size(64, 16)
    entrants = [
        _llmexp(_OURS, runs, in_flight, *_ONE_PROCESS),
        _llmexp(_OURS_2, runs, in_flight, "-n", "2", workers=True),
        Contender(_POOL, "thread_pool.py", runs=runs, asks=True, in_flight=in_flight, note="records nothing"),
        Contender(_PYDANTIC, "pydantic_dataset.py", runs=runs, asks=True, in_flight=in_flight),
        *_plain(bench, runs),
        _plain_pytest(_FLOOR, 1, *_ONE_PROCESS, note="floor"),
    ]
    samples = bench.interleave(entrants)
    ideal = math.ceil(runs / in_flight) * _LATENCY_S
    return Results(_measurements("a", entrants, samples), _findings_a(samples, ideal))


def measure_b(bench: Bench) -> Results:
    """10,000 runs, 256 in flight, in one process, against a script by hand."""
    runs, in_flight = bench.size(10_000, 128), bench.size(256, 32)
    entrants = [
        _llmexp(_OURS, runs, in_flight, *_ONE_PROCESS),
        Contender(_POOL, "thread_pool.py", runs=runs, asks=True, in_flight=in_flight, note="records nothing"),
    ]
    samples = bench.interleave(entrants)
    ours, pool = samples[_OURS], samples[_POOL]
    return Results(
        _measurements("b", entrants, samples),
        [
            Finding("b", f"wall: {_OURS} / {_POOL}", ratios(ours, pool, wall), 1.35),
            Finding("b", f"CPU: {_OURS} / {_POOL}", ratios(ours, pool, lambda sample: sample.cpu_s), 1.35),
            Finding("b", f"memory of {_OURS}", [sample.rss_mb or math.nan for sample in ours], 200, "MB"),
        ],
    )


def _llmexp(name: str, runs: int, in_flight: int, *options: str, workers: bool = False) -> Contender:
    given = (
        f"--experiment-runs={runs}",
        f"--experiment-concurrency={in_flight}",
        f"--experiment-model={Contender.model}",
    )
    check: Callable[[Path], None] = partial(check_recorded, runs)
    return Contender(
        name,
        "suite_llmexp.py",
        (*_PYTEST, *options, *given),
        runs=runs,
        asks=True,
        in_flight=in_flight,
        workers=workers,
        note="records everything",
        check=check,
    )


def _plain(bench: Bench, runs: int) -> list[Contender]:
    """Plain pytest; the slowest ways make a tenth of the runs, and their rows say so. Nothing is extrapolated."""
    tenth = bench.size(runs // 10, 4)
    note = f"{tenth} runs only, not {runs}"
    return [
        _plain_pytest("plain pytest", tenth, *_ONE_PROCESS, note=note),
        _plain_pytest("plain pytest -n 2", tenth, "-n", "2", note=note),
        _plain_pytest(_PLAIN_32, runs, "-n", str(bench.size(32, 4))),
    ]


def _plain_pytest(name: str, runs: int, *options: str, note: str = "") -> Contender:
    arguments = (*_PYTEST, *_WITHOUT_US, *options)
    return Contender(name, "suite_plain.py", arguments, runs=runs, asks=True, workers="-n" in options, note=note)


def _measurements(goal: str, entrants: list[Contender], samples: dict[str, list[Sample]]) -> list[Measurement]:
    return [Measurement(goal, entrant.name, samples[entrant.name], entrant.note) for entrant in entrants]


def _findings_a(samples: dict[str, list[Sample]], ideal: float) -> list[Finding]:
    ours, floor = samples[_OURS], samples[_FLOOR]
    possible = [base.wall_s - _LATENCY_S + ideal for base in floor]
    added = [sample.wall_s / best for sample, best in zip(ours, possible, strict=True)]
    spans = {name: [(sample.span_s or math.nan) / ideal for sample in samples[name]] for name in (_OURS, _OURS_2)}
    return [
        Finding("a", f"wall: {_OURS} / (floor - {_LATENCY_S:g} s + {ideal:g} s)", added, 1.15, stretch=1.08),
        Finding("a", f"span of the calls / {ideal:g} s: {_OURS}", spans[_OURS], 1.25),
        Finding("a", f"span of the calls / {ideal:g} s: {_OURS_2}", spans[_OURS_2]),
        Finding("a", f"wall: {_OURS} / {_PYDANTIC}", ratios(ours, samples[_PYDANTIC], wall), 1.0),
        Finding("a", f"wall: {_PLAIN_32} / {_OURS}", ratios(samples[_PLAIN_32], ours, wall), 8.0, least=True),
        Finding("a", f"wall: {_OURS} / {_POOL}", ratios(ours, samples[_POOL], wall)),
        Finding("a", f"memory of {_OURS}", [sample.rss_mb or math.nan for sample in ours], 110, "MB"),
    ]
