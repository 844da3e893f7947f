"""Goal h: collecting 100,000 runs, against the same parametrization without the plugin."""

from __future__ import annotations

from benchmarks.measure import Bench, Contender, Sample
from benchmarks.results import Finding, Measurement, Results, ratios

_COLLECT = ("-m", "pytest", "{program}", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")


def cpu(sample: Sample) -> float:
    """User and system time."""
    return sample.cpu_s


def measure(bench: Bench) -> Results:
    """Collect, with the list of all items written to a file; CPU decides, because there is nothing to wait for."""
    runs = bench.size(100_000, 1000)
    ours = Contender("collect, marked", "collect_llmexp.py", _COLLECT, runs=runs)
    plain = Contender("collect, -p no:llmexp", "collect_plain.py", (*_COLLECT, "-p", "no:llmexp"), runs=runs)
    samples = bench.interleave([ours, plain])
    of_ours, of_plain = samples[ours.name], samples[plain.name]
    return Results(
        [Measurement("h", name, values, f"{runs:,} runs") for name, values in samples.items()],
        [
            Finding("h", f"CPU: {ours.name} / {plain.name}", ratios(of_ours, of_plain, cpu), 1.2),
            Finding("h", f"wall: {ours.name} / {plain.name}", ratios(of_ours, of_plain, lambda s: s.wall_s)),
        ],
    )
