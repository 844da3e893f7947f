"""The statistics of gates in exact decimal arithmetic.

Floats would fail `sum(cost_usd) <= 0.3` at three times 0.1, and binary fractions `max(x) <= 0.1` at 0.1. Here a
float stands for the shortest decimal number that denotes it, and numbers within one part in 10**14 are equal.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from decimal import Context, Decimal, localcontext

from pytest_llmexp.core.gates.language import Comparison

OF_THE_MEAN = ("mean", "pass_rate", "rate")
"""The statistics that are the mean of a metric, or of a boolean made from it."""

# holds any sum of squares of floats (1e616 down to 1e-648) without rounding
_EXACT = Context(prec=1400)
# as parts of the threshold: beyond it lies the noise of computed floats, such as 1/3 + 2/3 being a little less than 1
_NOISE = Decimal("1e-14")
_COMPARE: dict[Comparison, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}


def exact(value: float) -> Decimal:
    """Return the shortest decimal number that denotes this float: the one people write and read."""
    return Decimal(repr(float(value)))


def side(value: Decimal, number: float) -> int:
    """Return -1, 0 or 1 as `value`, infinite perhaps, is less than, equal to (up to noise) or greater than `number`."""
    threshold = exact(number)
    difference = _EXACT.subtract(value, threshold)
    if abs(difference) <= _EXACT.multiply(abs(threshold), _NOISE):
        return 0
    return 1 if difference > 0 else -1


def holds(comparison: Comparison, value: Decimal, number: float) -> bool:
    """Tell whether `value` compares so with `number`."""
    return _COMPARE[comparison](side(value, number), 0)


def statistic(name: str, cases: Sequence[Sequence[Decimal]]) -> Decimal:
    """Return a statistic of the gate language; no case is empty, and infinite values all have the same sign.

    The mean is that of case means; sum, sd and quantiles are of all values together.
    """
    values = [value for case in cases for value in case]
    with localcontext(_EXACT):
        if name in OF_THE_MEAN:
            return sum((sum(case, Decimal(0)) / len(case) for case in cases), Decimal(0)) / len(cases)
        if name == "sum":
            return sum(values, Decimal(0))
        if name == "sd":
            n, total = len(values), sum(values, Decimal(0))
            squares = sum((value * value for value in values), Decimal(0))
            return ((n * squares - total * total) / (n * (n - 1))).sqrt()
        return _quantile(values, _share(name))


def _share(name: str) -> Decimal:
    """Return the q of a quantile, 0 to 1: of min, median, max, or p90 and its like."""
    named = {"min": Decimal(0), "median": Decimal("0.5"), "max": Decimal(1)}
    return named[name] if name in named else Decimal(name[1:]) / 100


def _quantile(values: Sequence[Decimal], q: Decimal) -> Decimal:
    """As `stats.quantile`, of decimals, some of them infinite perhaps."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * q
    below = int(position)
    share = position - below
    low = ordered[below]
    if not share or low.is_infinite():
        return low
    high = ordered[below + 1]
    return high if high.is_infinite() else low + share * (high - low)
