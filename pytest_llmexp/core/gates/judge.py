"""What the samples of an experiment say of its gates.

A missing run is evidence for nothing: a gate passes only if it would with every missing value at its worst, and
fails only if it would with every one at its best.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from pytest_llmexp.core.gates.exact import OF_THE_MEAN, exact, holds, side, statistic
from pytest_llmexp.core.gates.language import Condition, Gate
from pytest_llmexp.core.models import Verdict, VerdictWord
from pytest_llmexp.core.stats import Interval
from pytest_llmexp.core.summary import CaseValues, Sample, interval_of

_NO_INTERVAL = Interval(None, None, "")


class _Finding(NamedTuple):
    """A verdict, and between which numbers the statistic lies whatever the missing runs would have given."""

    word: VerdictWord
    least: Decimal | None = None
    greatest: Decimal | None = None


def judge(experiment_id: str, gates_by_test: Mapping[str, Sequence[Gate]], samples: Iterable[Sample]) -> list[Verdict]:
    """Return a verdict for each gate of each test, over all cases of the test, which weigh the same.

    `estimate` is the statistic of the values there are, None without any or beyond a float's range; `low` and
    `high` are its 95 % interval where it is a mean (mean, pass_rate, rate). A verdict is undecided where no
    finished run recorded the metric, where too few values are there, or where the missing ones could tip it.
    A statistic within one part in 10**14 of the threshold equals it.
    """
    by_test: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        by_test.setdefault(sample.test, {})[sample.metric] = sample
    return [
        _judge(experiment_id, test, gate, by_test.get(test, {}))
        for test, gates in gates_by_test.items()
        for gate in gates
    ]


def _judge(experiment_id: str, test: str, gate: Gate, samples: Mapping[str, Sample]) -> Verdict:
    sample = samples.get(gate.metric)
    if sample is None:
        runs = samples.get("pass_rate")
        lost = runs.n + runs.missing if runs else 0
        # where every run passed, nothing else can have kept the metric away: the gate asks for what is not there
        word: VerdictWord = "failed" if runs and not runs.missing and all(runs.values) else "undecided"
        return _verdict(experiment_id, test, gate, word=word, detail=_absent(gate.metric, samples), missing=lost)
    if gate.condition is not None:
        sample = _indicator(sample, gate.condition)
    if (why := _unanswerable(gate, sample)) is not None:
        return _verdict(experiment_id, test, gate, detail=why, n=sample.n, missing=sample.missing)
    estimate = statistic(gate.statistic, _exact_cases(sample.cases))
    finding = _decide(gate, sample, estimate)
    interval = interval_of(sample.cases, sample.kind) if gate.statistic in OF_THE_MEAN else _NO_INTERVAL
    return _verdict(
        experiment_id,
        test,
        gate,
        word=finding.word,
        estimate=_float(estimate),
        interval=interval,
        n=sample.n,
        missing=sample.missing,
        detail=_detail(gate, sample, estimate, interval, finding),
    )


def _verdict(
    experiment_id: str,
    test: str,
    gate: Gate,
    *,
    word: VerdictWord = "undecided",
    estimate: float | None = None,
    interval: Interval = _NO_INTERVAL,
    n: int = 0,
    missing: int = 0,
    detail: str,
) -> Verdict:
    return Verdict(
        experiment_id=experiment_id,
        test=test,
        case_id=None,
        gate=gate.text,
        verdict=word,
        estimate=estimate,
        low=interval.low,
        high=interval.high,
        n=n,
        missing=missing,
        detail=detail,
    )


def _unanswerable(gate: Gate, sample: Sample) -> str | None:
    """Say why the statistic does not exist for the sample; None if it does."""
    if gate.statistic == "pass_rate" and sample.kind != "boolean":
        name = _ascii(gate.metric)
        return f"'{name}' is no boolean: write mean({name}), or rate({name} >= NUMBER)"
    if not sample.n:
        return f"none of {_runs(sample.missing)} has a value"
    if gate.statistic == "sd" and sample.n < 2:
        return f"sd needs two values, n={sample.n}" + (f", {_runs(sample.missing)} missing" if sample.missing else "")
    return None


def _decide(gate: Gate, sample: Sample, estimate: Decimal) -> _Finding:
    if not sample.missing:
        return _Finding("passed" if holds(gate.comparison, estimate, gate.threshold) else "failed")
    if gate.statistic == "sd":
        return _Finding("undecided")
    low, high = sample.bounds or (-math.inf, math.inf)
    # every other statistic grows with each of its values
    least = statistic(gate.statistic, _exact_cases(sample.cases, fill=low))
    greatest = statistic(gate.statistic, _exact_cases(sample.cases, fill=high))
    worst, best = (least, greatest) if gate.wants_more else (greatest, least)
    if holds(gate.comparison, worst, gate.threshold):
        return _Finding("passed", least, greatest)
    return _Finding("undecided" if holds(gate.comparison, best, gate.threshold) else "failed", least, greatest)


def _exact_cases(cases: Sequence[CaseValues], fill: float | None = None) -> list[list[Decimal]]:
    """Return the values of each case, with `fill` (infinite perhaps) for each missing run unless it is None."""
    filled = [[*map(exact, case.values), *([] if fill is None else [exact(fill)] * case.missing)] for case in cases]
    return [values for values in filled if values]


def _indicator(sample: Sample, condition: Condition) -> Sample:
    """Return the sample of booleans that says in which runs the condition holds."""
    cases = tuple(
        case._replace(
            values=tuple(float(holds(condition.comparison, exact(value), condition.number)) for value in case.values)
        )
        for case in sample.cases
    )
    return replace(sample, kind="boolean", bounds=(0.0, 1.0), cases=cases)


def _float(value: Decimal) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _detail(gate: Gate, sample: Sample, estimate: Decimal, interval: Interval, finding: _Finding) -> str:
    """Say in one ASCII line what was found."""
    text = f"got {_shown(estimate, gate.threshold)}"
    if interval.low is not None and interval.high is not None:
        text += f" [{_short(interval.low)} {_short(interval.high)}]"
    text += f", n={sample.n}"
    if sample.missing:
        text += f", {_runs(sample.missing)} missing"
    if finding.word == "undecided":
        if finding.least is None or finding.greatest is None:
            text += f", {gate.statistic} needs every value"
        else:
            reach = [_shown(end, gate.threshold) for end in (finding.least, finding.greatest)]
            text += f", with them it could be {reach[0]} to {reach[1]}"
    if len(sample.cases) > 1 and gate.statistic != "sd":
        case_id, value = _worst_case(gate, sample)
        text += f"; worst case: {_ascii(case_id)} {_shown(value, gate.threshold)}"
    return text


def _worst_case(gate: Gate, sample: Sample) -> tuple[str, Decimal]:
    found = [(case.case_id, statistic(gate.statistic, _exact_cases([case]))) for case in sample.cases if case.values]
    return (min if gate.wants_more else max)(found, key=lambda case: case[1])


def _absent(metric: str, samples: Mapping[str, Sample]) -> str:
    if not samples:
        return "no run of this test says anything: all were skipped, or none was recorded"
    close = difflib.get_close_matches(metric, samples, n=1)
    meant = f"; did you mean '{_ascii(close[0])}'?" if close else ""
    return f"no finished run recorded '{_ascii(metric)}'; recorded are: {', '.join(map(_ascii, samples))}{meant}"


def _shown(value: Decimal, threshold: float) -> str:
    """Return a short number on the same side of the threshold as the exact one."""
    number = float(value)
    true_side = side(value, threshold)
    candidates = [_short(number), *(f"{number:.{digits}g}" for digits in range(4, 16))]
    return next((text for text in candidates if side(Decimal(text), threshold) == true_side), str(number))


def _short(number: float) -> str:
    size = abs(number)
    if 1 <= size < 1e15:
        return f"{number:.{2 if size < 10 else 1 if size < 1000 else 0}f}"
    return f"{number:.3g}"


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _ascii(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")
