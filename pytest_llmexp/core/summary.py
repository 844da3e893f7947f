"""From the records of an experiment to samples, and from samples to summaries. Pure functions.

A run that errored, crashed, was skipped or never finished says nothing: it counts as missing, never as a zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pytest_llmexp.core.models import Better, Metric, MetricKind, Run, RunStatus, RunTotals, Summary
from pytest_llmexp.core.stats import Interval, mean, mean_interval, quantile, sd

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
        return tuple(value for case in self.cases for value in case.values)

    @property
    def n(self) -> int:
        """How many runs have a value."""
        return sum(len(case.values) for case in self.cases)

    @property
    def missing(self) -> int:
        """How many runs have none."""
        return sum(case.missing for case in self.cases)


def distinct_runs(runs: Iterable[Run]) -> list[Run]:
    """Return one run per (test, case_id, run_index), in the order in which these first appear.

    A run executed several times (requeued after a crash, `--dist each`, a rerun plugin) counts once, with its
    first finished result: the earliest by id among passed and failed, else among error, skipped, crashed, running.
    """
    kept: dict[tuple[str, str, int], Run] = {}
    for run in runs:
        key = (run.test, run.case_id, run.run_index)
        kept[key] = min(kept.get(key, run), run, key=lambda one: (_PREFERENCE[one.status], one.id))
    return list(kept.values())


def collect_samples(runs: Sequence[Run], metrics: Sequence[Metric], totals: Sequence[RunTotals]) -> list[Sample]:
    """Return every metric of every test: recorded ones as they first appear, then IMPLICIT_METRICS.

    A case whose runs were all skipped is left out. The totals are those of a test that made at least one call;
    a finished run that made none counts as 0, an unknown total as missing.
    """
    by_run: dict[str, list[Metric]] = {}
    for metric in metrics:
        by_run.setdefault(metric.run_id, []).append(metric)
    totals_by_run = {total.run_id: total for total in totals}
    tests: dict[str, dict[str, list[Run]]] = {}
    for run in distinct_runs(runs):
        tests.setdefault(run.test, {}).setdefault(run.case_id, []).append(run)
    samples: list[Sample] = []
    for test, cases in tests.items():
        present = {
            case_id: sorted(group, key=lambda run: run.run_index)
            for case_id, group in cases.items()
            if any(run.status != "skipped" or run.phase == "call" for run in group)
        }
        if present:
            samples += _recorded(test, present, by_run)
            samples += _implicit(test, present, totals_by_run)
    return samples


def summarise(experiment_id: str, samples: Iterable[Sample]) -> list[Summary]:
    """Return one summary per case and, after these, one per test (`case_id` None) of each sample.

    Over several cases the mean is the mean of case means, so that every case weighs the same, and the interval is
    that of `stats.cluster_interval`; n, missing, sd, min, median and max are over all values.
    A case without values is no part of the mean.
    """
    summaries: list[Summary] = []
    for sample in samples:
        rows = [_summary(experiment_id, sample, case.case_id, [case]) for case in sample.cases]
        alone = len(rows) == 1
        whole = replace(rows[0], case_id=None) if alone else _summary(experiment_id, sample, None, sample.cases)
        summaries += [*rows, whole]
    return summaries


def interval_of(cases: Sequence[CaseValues], kind: MetricKind) -> Interval:
    """Return the 95 % interval of the mean over `cases`, which weigh the same."""
    return mean_interval([case.values for case in cases], boolean=kind == "boolean")


def _summary(experiment_id: str, sample: Sample, case_id: str | None, cases: Sequence[CaseValues]) -> Summary:
    values = [value for case in cases for value in case.values]
    spread = sd(values) if len(values) > 1 else None
    low, high, method = _within(interval_of(cases, sample.kind), sample.bounds)
    return Summary(
        experiment_id=experiment_id,
        test=sample.test,
        case_id=case_id,
        metric=sample.metric,
        n=len(values),
        missing=sum(case.missing for case in cases),
        mean=mean([mean(case.values) for case in cases if case.values]) if values else None,
        sd=None if spread is None or math.isinf(spread) else spread,
        min=min(values, default=None),
        median=quantile(values, 0.5) if values else None,
        max=max(values, default=None),
        low=low,
        high=high,
        method=method,
    )


def _within(interval: Interval, bounds: Bounds | None) -> Interval:
    """Cut an interval to the values that are possible: a mean cannot lie beyond the metric's bounds."""
    if bounds is None or interval.low is None or interval.high is None:
        return interval
    return interval._replace(low=max(interval.low, bounds[0]), high=min(interval.high, bounds[1]))


def _recorded(test: str, cases: Mapping[str, Sequence[Run]], by_run: Mapping[str, Sequence[Metric]]) -> list[Sample]:
    found: dict[str, dict[str, Metric]] = {}
    for run in (run for group in cases.values() for run in group if run.status in _FINISHED):
        for metric in by_run.get(run.id, ()):
            if metric.name not in IMPLICIT_METRICS:
                found.setdefault(metric.name, {})[run.id] = metric
    return [_of_recorded(test, name, cases, of_run) for name, of_run in found.items()]


def _of_recorded(test: str, name: str, cases: Mapping[str, Sequence[Run]], by_run: Mapping[str, Metric]) -> Sample:
    kinds = {metric.kind for metric in by_run.values()}
    kind: MetricKind = kinds.pop() if len(kinds) == 1 else "float"
    return Sample(
        test=test,
        metric=name,
        kind=kind,
        better=next((metric.better for metric in by_run.values() if metric.better), None),
        bounds=(0.0, 1.0) if kind == "boolean" else _widest_bounds(by_run.values()),
        cases=_case_values(cases, {run_id: metric.value for run_id, metric in by_run.items()}),
    )


def _implicit(test: str, cases: Mapping[str, Sequence[Run]], totals: Mapping[str, RunTotals]) -> list[Sample]:
    runs = [run for group in cases.values() for run in group]
    passed = _case_values(cases, {run.id: float(run.status == "passed") for run in runs})
    samples = [Sample(test=test, metric="pass_rate", kind="boolean", better="higher", bounds=(0.0, 1.0), cases=passed)]
    calling = {run.id: totals[run.id] for run in runs if run.id in totals and totals[run.id].calls}
    for name, total_of in _TOTALS.items() if calling else ():
        spent = {run.id: total_of(calling[run.id]) if run.id in calling else 0.0 for run in runs}
        values = _case_values(cases, spent)
        samples.append(
            Sample(test=test, metric=name, kind="float", better="lower", bounds=(0.0, math.inf), cases=values)
        )
    return samples


def _case_values(cases: Mapping[str, Sequence[Run]], by_run: Mapping[str, float | None]) -> tuple[CaseValues, ...]:
    """Gather the values of the finished runs; a run without one, or that did not finish, is missing."""
    gathered = []
    for case_id, group in cases.items():
        found = [by_run.get(run.id) if run.status in _FINISHED else None for run in group]
        values = tuple(float(value) for value in found if value is not None)
        gathered.append(CaseValues(case_id, values, len(found) - len(values)))
    return tuple(gathered)


def _widest_bounds(metrics: Iterable[Metric]) -> Bounds | None:
    """Return the widest `detail["bounds"]`; a run that declared none leaves the metric unbounded."""
    declared = [metric.detail.get("bounds") for metric in metrics]
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in declared):
        return None
    return min(float(pair[0]) for pair in declared if pair), max(float(pair[1]) for pair in declared if pair)
