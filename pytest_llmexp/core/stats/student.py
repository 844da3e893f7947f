"""Quantiles of Student's t distribution for whole degrees of freedom; the standard library only.

Formulas: Abramowitz and Stegun (1964), "Handbook of Mathematical Functions", 26.7.3 to 26.7.5.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

_EXPANSION_FROM = 200  # degrees of freedom from which the expansion is exact to 1e-10, up to p = 0.9995
_STEPS = 50  # Newton's method needs about five


@cache
def t_quantile(df: int, p: float) -> float:
    """Return the quantile `p` (0.5 < p < 1) of Student's t with `df` >= 1 degrees of freedom, to 1e-10 relative."""
    if df == 1:
        return math.tan(math.pi * (p - 0.5))
    if df == 2:
        return (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    t = _expansion(df, NormalDist().inv_cdf(p))
    if df >= _EXPANSION_FROM:
        return t
    for _ in range(_STEPS):
        step = (within(t, df) - (2 * p - 1)) / (2 * _density(t, df))
        t -= step
        if abs(step) <= 1e-14 * t:
            break
    return t


def within(t: float, df: int) -> float:
    """Return the probability that Student's t with `df` >= 1 degrees of freedom is between -t and t >= 0.

    26.7.3 for odd, 26.7.4 for even degrees: a finite sum of about df / 2 terms.
    """
    angle = math.atan(t / math.sqrt(df))
    cosine2 = math.cos(angle) ** 2
    odd = df % 2
    term = math.cos(angle) if odd else 1.0
    total = term if df > 1 else 0.0
    for k in range(2 + odd, df - 1, 2):
        term *= cosine2 * (k - 1) / k
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def _density(t: float, df: int) -> float:
    scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return math.exp(scale - (df + 1) / 2 * math.log1p(t * t / df))


def _expansion(df: int, z: float) -> float:
    """26.7.5: the quantile from that of the normal distribution, in powers of 1 / df."""
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / df + g2 / df**2 + g3 / df**3 + g4 / df**4
