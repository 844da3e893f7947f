"""Mean, standard deviation and quantiles of finite floats, in the standard library alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import repeat
from operator import mul, sub
from typing import NamedTuple


class Description(NamedTuple):
    """What `n` >= 1 values are like; `sd` is None for a single one, inf beyond a float's range."""

    n: int
    mean: float
    sd: float | None
    min: float
    median: float
    max: float


def describe(values: Sequence[float]) -> Description | None:
    """Return all of it in one pass over the sorted values; None where there are none."""
    if not values:
        return None
    ordered = sorted(values)
    least, greatest = ordered[0], ordered[-1]
    middle = _mean(ordered, least, greatest)
    spread = _sd(ordered, middle, max(greatest - middle, middle - least)) if len(ordered) > 1 else None
    return Description(len(ordered), middle, spread, least, _quantile(ordered, 0.5), greatest)


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean of at least one value; it lies between the least and the greatest."""
    return _mean(values, min(values), max(values))


def _mean(values: Sequence[float], least: float, greatest: float) -> float:
    try:
        middle = math.fsum(values) / len(values)
    except OverflowError:
        middle = float(sum(map(Fraction, values)) / len(values))
    # three times 0.1 add up to a little more than 0.3: without the clamp a constant is not its own mean
    return min(max(middle, least), greatest)


def sd(values: Sequence[float], middle: float | None = None) -> float:
    """Return the sample standard deviation (divisor n - 1) of at least two values; inf beyond a float's range.

    `middle` is their mean, where it is known already.
    """
    middle = mean(values) if middle is None else middle
    return _sd(values, middle, max(max(values) - middle, middle - min(values)))


def _sd(values: Sequence[float], middle: float, largest: float) -> float:
    if largest == 0.0 or math.isinf(largest):
        return largest
    deviations: list[float] = list(map(sub, values, repeat(middle)))
    # squares of very large or very small deviations would leave the range in which floats are precise
    scale = 1.0 if 1e-140 < largest < 1e140 else largest
    if scale != 1.0:
        deviations = [d / scale for d in deviations]
    return scale * math.sqrt(math.fsum(list(map(mul, deviations, deviations))) / (len(values) - 1))


def quantile(values: Sequence[float], q: float) -> float:
    """Return the q-quantile, 0 <= q <= 1, of at least one value, by linear interpolation.

    Definition 7 of Hyndman and Fan (1996), "Sample Quantiles in Statistical Packages": the value at position
    (n - 1) * q of the sorted values, counted from 0. numpy's default, R's type 7, Excel's PERCENTILE.INC.
    """
    return _quantile(sorted(values), q)


def _quantile(ordered: Sequence[float], q: float) -> float:
    position = (len(ordered) - 1) * q
    below = math.floor(position)
    share = position - below
    if share == 0.0:
        return ordered[below]
    low, high = ordered[below], ordered[below + 1]
    # as a weighted sum, because high - low may exceed a float's range
    return min(max(low * (1 - share) + high * share, low), high)
