"""Statistics: pure functions of sequences of floats, checked in the tests against scipy.stats and statsmodels.

Imports the standard library only: to import scipy takes longer than a small session, and 40 MB.
"""

from pytest_llmexp.core.stats.describe import Description, describe, mean, quantile, sd
from pytest_llmexp.core.stats.intervals import (
    Interval,
    cluster_interval,
    interval_over,
    mean_interval,
    t_interval,
    wilson,
)

__all__ = [
    "Description",
    "Interval",
    "cluster_interval",
    "describe",
    "interval_over",
    "mean",
    "mean_interval",
    "quantile",
    "sd",
    "t_interval",
    "wilson",
]
