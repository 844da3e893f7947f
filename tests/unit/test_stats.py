"""The estimators agree with scipy.stats and statsmodels, and never give an interval of width 0."""

import math
import statistics
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint  # type: ignore[import-untyped]

from pytest_llmexp.core.stats import cluster_interval, mean, mean_interval, quantile, sd, t_interval, wilson

_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_MODEST = st.floats(-1e6, 1e6)
_CASES_OF_BOOLEANS = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=8), min_size=2, max_size=12)


def _bounds(interval: tuple[float | None, float | None, str]) -> tuple[float, float]:
    low, high, _ = interval
    assert low is not None
    assert high is not None
    return low, high


@pytest.mark.parametrize("n", [1, 2, 5, 10, 37, 1000])
def test_wilson_agrees_with_scipy_and_statsmodels(n: int) -> None:
    for k in {0, 1, n // 3, n - 1, n}:
        ours = wilson(k / n, n)
        oracle = scipy.stats.binomtest(k, n).proportion_ci(0.95, "wilson")
        assert ours == pytest.approx((oracle.low, oracle.high), abs=1e-12)
        assert ours == pytest.approx(tuple(map(float, proportion_confint(k, n, 0.05, "wilson"))), abs=1e-12)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_never_of_width_zero_and_holds_the_share(counts: tuple[int, int]) -> None:
    k, n = counts
    low, high = wilson(k / n, n)
    assert 0 <= low < high <= 1
    assert low - 1e-12 <= k / n <= high + 1e-12


@pytest.mark.parametrize("values", [[1.0, 2.0], [7.0, 7.0, 8.0, 6.0, 9.0], [0.1, 0.2, 0.35] * 20, [-3.0, 1e6, 4.5]])
def test_t_interval_agrees_with_scipy(values: list[float]) -> None:
    interval = t_interval(values)
    oracle = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert _bounds(interval) == pytest.approx((oracle.low, oracle.high), rel=1e-12)
    assert interval.method == "t"


@pytest.mark.parametrize("values", [[], [3.0]])
def test_below_two_values_there_is_no_interval(values: list[float]) -> None:
    assert t_interval(values) == (None, None, "none: n < 2")
    assert mean_interval([values], boolean=True) == (None, None, "none: n < 2")
    assert mean_interval([], boolean=False) == (None, None, "none: n < 2")


@given(_FINITE, st.integers(2, 30))
def test_a_constant_sample_has_no_interval(value: float, n: int) -> None:
    assert t_interval([value] * n) == (None, None, "none: constant sample")
    assert mean_interval([[value] * n, [value]], boolean=False) == (None, None, "none: constant sample")


@given(st.lists(st.lists(_FINITE, max_size=6), max_size=5), st.booleans())
def test_no_interval_has_width_zero_or_leaves_out_the_mean(cases: list[list[float]], boolean: bool) -> None:
    if boolean:
        cases = [[float(value > 0) for value in case] for case in cases]
    low, high, method = mean_interval(cases, boolean=boolean)
    assert (low is None) == (high is None) == method.startswith("none")
    if low is not None and high is not None:
        middle = mean([mean(case) for case in cases if case])
        assert low < high
        assert math.isfinite(low)
        assert math.isfinite(high)
        assert low - 1e-12 <= middle <= high + 1e-12


def test_booleans_of_one_case_get_a_wilson_interval_also_when_constant() -> None:
    interval = mean_interval([[1.0] * 10], boolean=True)
    oracle = scipy.stats.binomtest(10, 10).proportion_ci(0.95, "wilson")
    assert _bounds(interval) == pytest.approx((oracle.low, oracle.high))
    assert interval.method == "Wilson"


def test_several_cases_get_t_on_case_means() -> None:
    cases = [[1.0, 2.0, 3.0], [4.0], [5.0, 7.0]]
    interval = mean_interval(cases, boolean=False)
    oracle = scipy.stats.ttest_1samp([2.0, 4.0, 6.0], 0).confidence_interval(0.95)
    assert _bounds(interval) == pytest.approx((oracle.low, oracle.high))
    assert interval.method == "t on 3 case means"


def _korn_graubard(cases: Sequence[Sequence[float]]) -> float:
    """The effective n of statistics by scipy and numpy alone."""
    means = np.array([np.mean(case) for case in cases])
    n, p = sum(map(len, cases)), float(means.mean())
    variance = float(means.var(ddof=1)) / len(means)
    if p in {0.0, 1.0}:
        return len(means)
    ratio = (scipy.stats.norm.ppf(0.975) / scipy.stats.t.ppf(0.975, len(means) - 1)) ** 2
    return float(min(n, p * (1 - p) / variance * ratio)) if variance > 1e-20 else n


@given(_CASES_OF_BOOLEANS)
def test_clustered_booleans_get_wilson_at_the_effective_n(cases: list[list[float]]) -> None:
    interval = cluster_interval(cases, boolean=True)
    effective = _korn_graubard(cases)
    p = statistics.mean(map(statistics.mean, cases))
    oracle = proportion_confint(p * effective, effective, 0.05, "wilson")
    expected = (max(0.0, float(oracle[0])), min(1.0, float(oracle[1])))
    assert _bounds(interval) == pytest.approx(expected, abs=1e-9)
    assert interval.method == f"Wilson, effective n {effective:.1f} of {sum(map(len, cases))}"


def test_cases_that_all_pass_count_as_one_run_each() -> None:
    assert cluster_interval([[1.0] * 20] * 5, boolean=True).method == "Wilson, effective n 5.0 of 100"


def test_cases_that_differ_widen_the_interval() -> None:
    alike = _bounds(cluster_interval([[1.0, 0.0] * 3] * 6, boolean=True))
    apart = _bounds(cluster_interval([[1.0] * 6, [0.0] * 6] * 3, boolean=True))
    assert apart[1] - apart[0] > 1.5 * (alike[1] - alike[0])


def test_one_case_with_values_among_several_does_not_speak_for_all() -> None:
    assert mean_interval([[1.0, 2.0], []], boolean=False) == (None, None, "none: values from 1 case only")
    assert mean_interval([[], []], boolean=True) == (None, None, "none: values from 0 cases only")


@given(st.lists(_FINITE, min_size=1))
def test_the_mean_lies_between_the_extremes(values: list[float]) -> None:
    assert min(values) <= mean(values) <= max(values)


@given(st.lists(_MODEST, min_size=2))
def test_mean_and_sd_agree_with_the_standard_library(values: list[float]) -> None:
    assert mean(values) == pytest.approx(statistics.mean(values), rel=1e-12, abs=1e-9)
    assert sd(values) == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-9)


def test_the_mean_of_a_constant_is_the_constant() -> None:
    assert mean([0.1] * 3) == 0.1


def test_extreme_values_neither_overflow_nor_vanish() -> None:
    assert mean([1.7e308, 1.7e308]) == 1.7e308
    assert sd([1e200, -1e200]) == pytest.approx(math.sqrt(2) * 1e200)
    assert sd([1e154, -1e154] * 8) == pytest.approx(math.sqrt(16 / 15) * 1e154)
    assert sd([1e-300, -1e-300]) == pytest.approx(math.sqrt(2) * 1e-300)
    assert t_interval([1.7e308, -1.7e308]).method == "none: beyond the range of a float"


@given(st.lists(_MODEST, min_size=1, max_size=40), st.floats(0, 1))
def test_quantiles_agree_with_numpy_linear(values: list[float], q: float) -> None:
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q, method="linear")), rel=1e-9, abs=1e-6)


@given(st.lists(_FINITE, min_size=1, max_size=20), st.floats(0, 1))
def test_quantiles_lie_between_the_extremes(values: list[float], q: float) -> None:
    assert min(values) <= quantile(values, q) <= max(values)
    assert (quantile(values, 0), quantile(values, 1)) == (min(values), max(values))


def test_the_t_interval_holds_its_error_rate() -> None:
    drawn = np.random.default_rng(7).normal(7.0, 1.0, size=(4000, 10))
    missed = 0
    for row in drawn:
        low, high = _bounds(t_interval(cast("list[float]", row.tolist())))
        missed += not low <= 7.0 <= high
    assert 0.04 < missed / 4000 < 0.06
