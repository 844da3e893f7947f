"""Goal d: what a session without experiments pays for the plugin being installed."""

from __future__ import annotations

from benchmarks.measure import Bench, Contender
from benchmarks.results import Finding, Measurement, Results

_PAIRS_PER_REPETITION = 8  # a session takes 0.3 s of CPU and varies by more than the plugin costs
_PYTEST = ("-m", "pytest", "{program}", "-q", "-p", "no:cacheprovider")


def measure(bench: Bench) -> Results:
    """Measure pairs of sessions over one trivial test, with the plugin and with `-p no:llmexp`."""
    entrants = [
        Contender("plugin unused", "suite_trivial.py", _PYTEST),
        Contender("-p no:llmexp", "suite_trivial.py", (*_PYTEST, "-p", "no:llmexp")),
    ]
    for entrant in entrants:
        bench.sample(entrant)  # warms the byte code
    pairs = bench.repetitions * bench.size(_PAIRS_PER_REPETITION, 1)
    samples = bench.interleave(entrants, pairs)
    loaded, blocked = samples.values()
    more = [(one.cpu_s - other.cpu_s) * 1000 for one, other in zip(loaded, blocked, strict=True)]
    return Results(
        [Measurement("d", name, values) for name, values in samples.items()],
        [Finding("d", "CPU of a session: unused plugin - none", more, 5.0, "ms")],
    )
