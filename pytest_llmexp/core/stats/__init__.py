"""Statistics: pure functions of sequences of floats, checked in the tests against scipy.stats and statsmodels.

Imports the standard library only: to import scipy takes longer than a small session, and 40 MB.
"""

from pytest_llmexp.core.stats.describe import mean, quantile, sd
from pytest_llmexp.core.stats.intervals import (
    Interval,
    Moments,
    cluster_interval,
    mean_interval,
    t_interval,
    wilson,
)

__all__ = [
    "Interval",
    "Moments",
    "cluster_interval",
    "mean",
    "mean_interval",
    "quantile",
    "sd",
    "t_interval",
    "wilson",
]
