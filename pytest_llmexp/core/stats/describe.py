"""Mean, standard deviation and quantiles of finite floats, in the standard library alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import repeat
from operator import mul, sub


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean of at least one value; it lies between the least and the greatest."""
    try:
        middle = math.fsum(values) / len(values)
    except OverflowError:
        middle = float(sum(map(Fraction, values)) / len(values))
    # three times 0.1 add up to a little more than 0.3: without the clamp a constant is not its own mean
    return min(max(middle, min(values)), max(values))


def sd(values: Sequence[float], middle: float | None = None) -> float:
    """Return the sample standard deviation (divisor n - 1) of at least two values; inf beyond a float's range.

    `middle` is their mean, where it is known already.
    """
    middle = mean(values) if middle is None else middle
    deviations: list[float] = list(map(sub, values, repeat(middle)))
    largest = max(max(deviations), -min(deviations))
    if largest == 0.0 or math.isinf(largest):
        return largest
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
    ordered = sorted(values)
    position = (len(ordered) - 1) * q
    below = math.floor(position)
    share = position - below
    if share == 0.0:
        return ordered[below]
    low, high = ordered[below], ordered[below + 1]
    # as a weighted sum, because high - low may exceed a float's range
    return min(max(low * (1 - share) + high * share, low), high)
