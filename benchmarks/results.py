"""What was found: measurements of contenders, findings about goals, and their tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tabulate import tabulate

from benchmarks.measure import Sample


@dataclass(frozen=True)
class Measurement:
    """All samples of one contender of a goal."""

    goal: str
    contender: str
    samples: Sequence[Sample]
    note: str = ""

    def median(self, name: str) -> float | None:
        """Return the median of `wall_s`, `cpu_s`, `rss_mb`, `span_s` or `in_flight`; None if it was not measured."""
        values = [value for sample in self.samples if (value := getattr(sample, name)) is not None]
        return statistics.median(values) if values else None

    def to_plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        medians = {name: self.median(name) for name in ("wall_s", "cpu_s", "rss_mb", "span_s", "in_flight")}
        plain = {"goal": self.goal, "contender": self.contender, "note": self.note, "medians": medians}
        return {**plain, "samples": [asdict(sample) for sample in self.samples]}


@dataclass(frozen=True)
class Finding:
    """One figure, a value per repetition; what the goal wants of their median, if anything.

    `least` means that the median is to be at least `wanted`, else at most; `stretch` is what would be better still.
    """

    goal: str
    claim: str
    values: Sequence[float]
    wanted: float | None = None
    unit: str = "x"
    least: bool = False
    stretch: float | None = None

    @property
    def median(self) -> float:
        """The median over the repetitions."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None for a figure without one."""
        if self.wanted is None:
            return None
        return self.median >= self.wanted if self.least else self.median <= self.wanted

    def to_plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "median": self.median, "met": self.met}

    def row(self) -> list[str]:
        """Return the row of the table."""
        spread = f" [{_short(min(self.values))} {_short(max(self.values))}]" if len(self.values) > 1 else ""
        wanted = "" if self.wanted is None else f"{'>=' if self.least else '<='} {self.wanted:g} {self.unit}"
        stretch = "" if self.stretch is None else f" (better {self.stretch:g})"
        met = {None: "", True: "yes", False: "NO"}[self.met]
        return [self.goal, self.claim, f"{_short(self.median)}{spread} {self.unit}", wanted + stretch, met]


@dataclass(frozen=True)
class Results:
    """What one goal's module found."""

    measurements: Sequence[Measurement]
    findings: Sequence[Finding]


def ratios(samples: Sequence[Sample], bases: Sequence[Sample], figure: Callable[[Sample], float | None]) -> list[float]:
    """Return the ratio of a figure in each repetition: pairs that were measured one soon after the other."""
    pairs = ((figure(sample), figure(base)) for sample, base in zip(samples, bases, strict=True))
    return [value / base for value, base in pairs if value is not None and base]


def tables(results: Iterable[Results]) -> str:
    """Return the table of the contenders and that of the goals."""
    results = list(results)
    measured = [_measured_row(measurement) for result in results for measurement in result.measurements]
    found = [finding.row() for result in results for finding in result.findings]
    head = ["", "contender", "wall s", "CPU s", "RSS MB", "span s", "in flight", "times", "note"]
    notes = "Medians. RSS: the highest; of several processes their sum. Span: first request to last answer."
    ratio = "Median [lowest highest] over the repetitions; each ratio is of two runs of the same repetition."
    return "\n".join(
        [
            tabulate(measured, head, disable_numparse=True, colalign=("left", "left", *["right"] * 6, "left")),
            f"{notes}\n",
            tabulate(found, ["goal", "what", "measured", "wanted", "met"], disable_numparse=True),
            ratio,
        ]
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _measured_row(measurement: Measurement) -> list[str]:
    shown = [("wall_s", ".2f"), ("cpu_s", ".2f"), ("rss_mb", ".0f"), ("span_s", ".2f"), ("in_flight", ".0f")]
    cells = ["-" if (value := measurement.median(name)) is None else format(value, style) for name, style in shown]
    return [measurement.goal, measurement.contender, *cells, str(len(measurement.samples)), measurement.note]
