"""Statistics: pure functions of sequences of floats, checked in the tests against scipy.stats and statsmodels.

Imports the standard library; `scipy.special` only inside the functions that need it, never `scipy.stats`.
"""

from pytest_llmexp.core.stats.describe import mean, quantile, sd
from pytest_llmexp.core.stats.intervals import (
    Interval,
    Moments,
    cluster_interval,
    load_special_functions,
    mean_interval,
    t_interval,
    wilson,
)

__all__ = [
    "Interval",
    "Moments",
    "cluster_interval",
    "load_special_functions",
    "mean",
    "mean_interval",
    "quantile",
    "sd",
    "t_interval",
    "wilson",
]
