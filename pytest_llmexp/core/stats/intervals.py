"""Two-sided 95 % intervals of a mean, each with the name of its method; none rather than one of width 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from pytest_llmexp.core.stats.describe import Description, describe, mean, sd
from pytest_llmexp.core.stats.student import t_quantile

_UPPER = 0.975  # the quantile that leaves 2.5 % on either side
_Z = NormalDist().inv_cdf(_UPPER)


class Interval(NamedTuple):
    """Bounds of a mean with 95 % confidence, both None where `method` says why there are none."""

    low: float | None
    high: float | None
    method: str


TOO_FEW = Interval(None, None, "none: n < 2")
CONSTANT = Interval(None, None, "none: constant sample")


def mean_interval(cases: Sequence[Sequence[float]], *, boolean: bool) -> Interval:
    """Return the interval of the mean over cases that weigh the same; `cases` holds the values of each."""
    return interval_over([describe(values) for values in cases], boolean=boolean)


def interval_over(cases: Sequence[Description | None], *, boolean: bool) -> Interval:
    """Return the interval of the mean over cases that weigh the same.

    One case: Wilson for booleans, Student's t for the rest. Several: see `cluster_interval`.
    A case without values (None) tells nothing, but keeps the others from passing for the whole.
    """
    if len(cases) > 1:
        return _over_clusters([case for case in cases if case], boolean=boolean)
    case = cases[0] if cases else None
    if case is None or case.sd is None:
        return TOO_FEW
    if boolean:
        return Interval(*wilson(case.mean, case.n), "Wilson")
    return _t_interval(case.n, case.mean, case.sd, "t")


def wilson(share: float, n: float) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion: `share` of `n` > 0 observations, n not always whole.

    Wilson (1927), "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    z2 = _Z * _Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def t_interval(values: Sequence[float]) -> Interval:
    """Return Student's t interval of the mean; none for fewer than two values or a constant sample."""
    return mean_interval([values], boolean=False)


def cluster_interval(cases: Sequence[Sequence[float]], *, boolean: bool) -> Interval:
    """Return the interval of the mean of case means; each case holds at least one value.

    Not boolean: t on the case means, with one degree of freedom less than there are cases.
    Boolean: Wilson with the effective n of Korn and Graubard (1998), "Confidence Intervals for Proportions With
    Small Expected Number of Positive Counts Estimated From Survey Data": min(n, p(1-p)/v * (z/t)^2), where v is
    the variance of the mean of case means; the number of cases where p is 0 or 1.
    """
    return _over_clusters([case for values in cases if (case := describe(values))], boolean=boolean)


def _over_clusters(cases: Sequence[Description], *, boolean: bool) -> Interval:
    if len(cases) < 2:
        return Interval(None, None, f"none: values from {len(cases)} case{'' if cases else 's'} only")
    means = [case.mean for case in cases]
    if not boolean:
        middle = mean(means)
        return _t_interval(len(means), middle, sd(means, middle), f"t on {len(means)} case means")
    n = sum(case.n for case in cases)
    share = mean(means)
    effective = _effective_n(means, share, n)
    return Interval(*wilson(share, effective), f"Wilson, effective n {effective:.1f} of {n}")


def _effective_n(means: Sequence[float], share: float, n: int) -> float:
    cases = len(means)
    if share in {0.0, 1.0}:
        return float(cases)
    spread = sd(means)
    if spread == 0.0:
        return float(n)
    variance = spread * spread / cases
    return min(float(n), share * (1 - share) / variance * (_Z / t_quantile(cases - 1, _UPPER)) ** 2)


def _t_interval(n: int, middle: float, spread: float, method: str) -> Interval:
    if spread == 0.0:
        return CONSTANT
    half = t_quantile(n - 1, _UPPER) * spread / math.sqrt(n)
    low, high = middle - half, middle + half
    if not low < high:
        return CONSTANT
    if not (math.isfinite(low) and math.isfinite(high)):
        return Interval(None, None, "none: beyond the range of a float")
    return Interval(low, high, method)
