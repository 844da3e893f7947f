"""Goal g: what recording adds to a call, how long a commit takes, how large the file gets."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measure import LATENCY_MS, Bench, Contender, Sample
from benchmarks.results import Finding, Measurement, Results
from benchmarks.server import model_name

_SIZE = 4096  # bytes of a question, and of an answer
_ROUNDS = 9  # three turns of three ways, see contenders/record_calls.py


def measure(bench: Bench) -> Results:
    """Record calls of 4 kB questions and 4 kB answers: one after another, and in 64 threads."""
    calls, threads, commits = bench.size(500, 20), bench.size(64, 8), bench.size(12_800, 1280)
    one = _recorder("calls, one after another", calls, 1, 0)
    many = _recorder(f"calls, {threads} threads", bench.size(640, 24), threads, LATENCY_MS)
    commit = Contender("commits, 64 threads", "commit_calls.py", runs=commits, note="as fast as they can")
    entrants = [one, many, commit]
    samples = bench.interleave(entrants)
    committed = [sample.figures for sample in samples[commit.name]]
    files = [sample.figures["file"] for sample in samples[one.name]]
    return Results(
        [Measurement("g", entrant.name, samples[entrant.name], entrant.note) for entrant in entrants],
        [
            *_findings(one.name, samples[one.name]),
            *_findings(many.name, samples[many.name]),
            Finding("g", f"commit, 99th percentile: {commit.name}", [f["p99_ms"] for f in committed], 30, "ms"),
            Finding("g", f"commit, median: {commit.name}", [f["p50_ms"] for f in committed], unit="ms"),
            Finding("g", "file / bodies of requests and responses", files, 1.1),
        ],
    )


def _recorder(name: str, calls: int, threads: int, latency_ms: int) -> Contender:
    note = f"{calls} calls a turn"
    model = model_name(latency_ms, _SIZE)
    return Contender(
        name, "record_calls.py", runs=calls * _ROUNDS, asks=True, in_flight=threads, model=model, note=note
    )


def _findings(name: str, samples: Sequence[Sample]) -> list[Finding]:
    figures = [sample.figures for sample in samples]
    return [
        Finding("g", f"CPU added to a call: {name}", [figure["calls"] for figure in figures], 150, "us"),
        Finding("g", f"CPU added to a run of one call: {name}", [figure["runs"] for figure in figures], unit="us"),
        Finding("g", f"CPU of a call, not recorded: {name}", [figure["off_us"] for figure in figures], unit="us"),
    ]
