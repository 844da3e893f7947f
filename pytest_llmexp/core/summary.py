"""From the records of an experiment to samples, and from samples to summaries. Pure functions.

A run that errored, crashed, was skipped or never finished says nothing: it counts as missing, never as a zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter, itemgetter
from typing import NamedTuple, Protocol, TypeVar

from pytest_llmexp.core.models import Better, Json, MetricKind, Phase, RunStatus, RunTotals, Summary
from pytest_llmexp.core.stats import Description, Interval, describe, interval_over, mean, mean_interval

IMPLICIT_METRICS = ("pass_rate", "latency_s", "input_tokens", "output_tokens", "cost_usd")
"""Metrics every experiment has without recording them; a recorded metric of such a name is left out."""

Bounds = tuple[float, float]
_FINISHED: tuple[RunStatus, ...] = ("passed", "failed")
_PREFERENCE: dict[RunStatus, int] = {"passed": 0, "failed": 0, "error": 1, "skipped": 2, "crashed": 3, "running": 4}
_TOTALS: dict[str, Callable[[RunTotals], float | None]] = {
    "latency_s": lambda total: total.latency_s,
    "input_tokens": lambda total: total.input_tokens,
    "output_tokens": lambda total: total.output_tokens,
    "cost_usd": lambda total: total.cost_usd,
}


class AnyRun(Protocol):
    """What is asked of a run here: a `Run`, or a `RunOutcome`."""

    @property
    def id(self) -> str: ...
    @property
    def test(self) -> str: ...
    @property
    def case_id(self) -> str: ...
    @property
    def run_index(self) -> int: ...
    @property
    def status(self) -> RunStatus: ...
    @property
    def phase(self) -> Phase | None: ...


R = TypeVar("R", bound=AnyRun)


class RunOutcome(NamedTuple):
    """What a summary needs of a run."""

    id: str
    test: str
    case_id: str
    run_index: int
    status: RunStatus
    phase: Phase | None = None


class MetricValue(NamedTuple):
    """A metric of one run, for people."""

    name: str
    value: float


class Recorded(NamedTuple):
    """The values of a metric in runs that agree on the rest of it, by the runs' places in their list.

    `values` is a list where all runs have one. A metric of which runs differ has several of these.
    """

    name: str
    kind: MetricKind
    better: Better | None
    detail: Mapping[str, Json]
    values: Mapping[int, float] | Sequence[float]


class Evidence(NamedTuple):
    """The runs of an experiment and what they recorded, metrics in the order of their names."""

    runs: list[RunOutcome]
    metrics: list[Recorded]


class CaseValues(NamedTuple):
    """The values of a metric in one case, in the order of run_index, and how many runs have none."""

    case_id: str
    values: tuple[float, ...]
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A metric over the cases of a test. `bounds` are the least and greatest value possible, None if unknown."""

    test: str
    metric: str
    kind: MetricKind
    better: Better | None
    bounds: Bounds | None
    cases: tuple[CaseValues, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """The values of all cases, case after case."""
        return tuple(chain.from_iterable(case.values for case in self.cases))

    @property
    def n(self) -> int:
        """How many runs have a value."""
        return sum(len(case.values) for case in self.cases)

    @property
    def missing(self) -> int:
        """How many runs have none."""
        return sum(case.missing for case in self.cases)


def distinct_runs(runs: Iterable[R]) -> list[R]:
    """Return one run per (test, case_id, run_index), in the order in which these first appear.

    A run executed several times (requeued after a crash, `--dist each`, a rerun plugin) counts once, with its
    first finished result: the earliest by id among passed and failed, else among error, skipped, crashed, running.
    """
    kept: dict[tuple[str, str, int], R] = {}
    for run in runs:
        key = (run.test, run.case_id, run.run_index)
        known = kept.setdefault(key, run)
        if known is not run and (_PREFERENCE[run.status], run.id) < (_PREFERENCE[known.status], known.id):
            kept[key] = run
    return list(kept.values())


class _Case(NamedTuple):
    """The distinct runs of a case in the order of run_index; of the finished ones also the places in the list."""

    case_id: str
    runs: list[AnyRun]
    finished: list[AnyRun]
    places: list[int]


def collect_samples(runs: Sequence[AnyRun], metrics: Iterable[Recorded], totals: Iterable[RunTotals]) -> list[Sample]:
    """Return every metric of every test: recorded ones as they first appear, then IMPLICIT_METRICS.

    A case whose runs were all skipped is left out. The totals are those of a test that made at least one call;
    a finished run that made none counts as 0, an unknown total as missing.
    """
    totals_by_run = {total.run_id: total for total in totals}
    by_test = _by_test(metrics, [run.test for run in runs])
    samples: list[Sample] = []
    for test, cases in _cases_by_test(runs).items():
        places = [place for case in cases for place in case.places]
        found = [_first(parts, places) for parts in by_test.get(test, {}).values()]
        for _, parts in sorted((each for each in found if each is not None), key=itemgetter(0)):
            samples.append(_recorded(test, cases, parts))
        if cases:
            samples += _implicit(test, cases, totals_by_run)
    return samples


def summarise(experiment_id: str, samples: Iterable[Sample]) -> list[Summary]:
    """Return one summary per case and, after these, one per test (`case_id` None) of each sample.

    Over several cases the mean is the mean of case means, so that every case weighs the same, and the interval is
    that of `stats.cluster_interval`; n, missing, sd, min, median and max are over all values.
    A case without values is no part of the mean.
    """
    summaries: list[Summary] = []
    for sample in samples:
        cases = [describe(case.values) for case in sample.cases]
        rows = [
            _summary(experiment_id, sample, case.case_id, [described], described, case.missing)
            for case, described in zip(sample.cases, cases, strict=True)
        ]
        if len(rows) == 1:
            rows.append(replace(rows[0], case_id=None))
        else:
            rows.append(_summary(experiment_id, sample, None, cases, describe(sample.values), sample.missing))
        summaries += rows
    return summaries


def interval_of(cases: Sequence[CaseValues], kind: MetricKind) -> Interval:
    """Return the 95 % interval of the mean over `cases`, which weigh the same; see `mean_interval`."""
    return mean_interval([case.values for case in cases], boolean=kind == "boolean")


def _summary(
    experiment_id: str,
    sample: Sample,
    case_id: str | None,
    cases: Sequence[Description | None],
    whole: Description | None,
    missing: int,
) -> Summary:
    """Return what a sample came to over cases, each described, and so are all values of the cases together."""
    low, high, method = _within(interval_over(cases, boolean=sample.kind == "boolean"), sample.bounds)
    means = [case.mean for case in cases if case]
    return Summary(
        experiment_id=experiment_id,
        test=sample.test,
        case_id=case_id,
        metric=sample.metric,
        n=whole.n if whole else 0,
        missing=missing,
        mean=mean(means) if means else None,
        sd=None if whole is None or whole.sd is None or math.isinf(whole.sd) else whole.sd,
        min=whole and whole.min,
        median=whole and whole.median,
        max=whole and whole.max,
        low=low,
        high=high,
        method=method,
    )


def _within(interval: Interval, bounds: Bounds | None) -> Interval:
    """Cut an interval to the values that are possible: a mean cannot lie beyond the metric's bounds."""
    if bounds is None or interval.low is None or interval.high is None:
        return interval
    return interval._replace(low=max(interval.low, bounds[0]), high=min(interval.high, bounds[1]))


def _cases_by_test(runs: Sequence[AnyRun]) -> dict[str, list[_Case]]:
    places = {id(run): place for place, run in enumerate(runs)}
    tests: dict[str, dict[str, list[AnyRun]]] = {}
    for run in distinct_runs(runs):
        tests.setdefault(run.test, {}).setdefault(run.case_id, []).append(run)
    found: dict[str, list[_Case]] = {test: [] for test in tests}
    for test, cases in tests.items():
        for case_id, group in cases.items():
            if any(run.status != "skipped" or run.phase == "call" for run in group):
                group.sort(key=attrgetter("run_index"))
                finished = [run for run in group if run.status in _FINISHED]
                found[test].append(_Case(case_id, group, finished, [places[id(run)] for run in finished]))
    return found


def _by_test(metrics: Iterable[Recorded], tests: Sequence[str]) -> dict[str, dict[str, list[Recorded]]]:
    """Say which metrics each test has, so that no test looks through those of all others."""
    found: dict[str, dict[str, list[Recorded]]] = {}
    for part in metrics:
        if part.name not in IMPLICIT_METRICS:
            places = part.values if isinstance(part.values, Mapping) else range(len(part.values))
            for test in {tests[place] for place in places}:
                found.setdefault(test, {}).setdefault(part.name, []).append(part)
    return found


def _first(parts: Sequence[Recorded], places: Sequence[int]) -> tuple[int, list[Recorded]] | None:
    """Return when the metric first appears, and its parts in that order; None if no finished run has it."""
    seen = []
    for part in parts:
        known = part.values if isinstance(part.values, Mapping) else range(len(part.values))
        if (first := next((turn for turn, place in enumerate(places) if place in known), None)) is not None:
            seen.append((first, part))
    seen.sort(key=itemgetter(0))
    return (seen[0][0], [part for _, part in seen]) if seen else None


def _recorded(test: str, cases: Sequence[_Case], parts: Sequence[Recorded]) -> Sample:
    kinds = {part.kind for part in parts}
    kind: MetricKind = kinds.pop() if len(kinds) == 1 else "float"
    return Sample(
        test=test,
        metric=parts[0].name,
        kind=kind,
        better=next((part.better for part in parts if part.better), None),
        bounds=(0.0, 1.0) if kind == "boolean" else _widest_bounds(parts),
        cases=tuple(_case_values(case, _values(case.places, parts)) for case in cases),
    )


def _values(places: Sequence[int], parts: Sequence[Recorded]) -> list[float | None]:
    values = parts[0].values
    if not isinstance(values, Mapping):
        return [values[place] for place in places]
    if len(parts) > 1:
        values = {place: value for part in parts for place, value in _items(part)}
    return [values.get(place) for place in places]


def _items(part: Recorded) -> Iterable[tuple[int, float]]:
    return part.values.items() if isinstance(part.values, Mapping) else enumerate(part.values)


def _implicit(test: str, cases: Sequence[_Case], totals: Mapping[str, RunTotals]) -> list[Sample]:
    passed = tuple(_case_values(case, [float(run.status == "passed") for run in case.finished]) for case in cases)
    samples = [Sample(test=test, metric="pass_rate", kind="boolean", better="higher", bounds=(0.0, 1.0), cases=passed)]
    calling = {run.id for case in cases for run in case.runs if run.id in totals and totals[run.id].calls}
    for name, total_of in _TOTALS.items() if calling else ():
        values = tuple(
            _case_values(case, [total_of(totals[run.id]) if run.id in calling else 0.0 for run in case.finished])
            for case in cases
        )
        samples.append(
            Sample(test=test, metric=name, kind="float", better="lower", bounds=(0.0, math.inf), cases=values)
        )
    return samples


def _case_values(case: _Case, found: Sequence[float | None]) -> CaseValues:
    """Keep the values of the finished runs; a run without one, or that did not finish, is missing."""
    values = tuple([float(value) for value in found if value is not None])
    return CaseValues(case.case_id, values, len(case.runs) - len(values))


def _widest_bounds(parts: Iterable[Recorded]) -> Bounds | None:
    """Return the widest `detail["bounds"]`; a run that declared none leaves the metric unbounded."""
    declared = [part.detail.get("bounds") for part in parts]
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in declared):
        return None
    return min(float(pair[0]) for pair in declared if pair), max(float(pair[1]) for pair in declared if pair)
