"""Quantiles of Student's t agree with scipy.stats, and lead back to their probability."""

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp.core.stats.student import t_quantile, within

_DEGREES = [*range(1, 260), 1_000, 10_000, 1_000_000]


@pytest.mark.parametrize("p", [0.6, 0.95, 0.975, 0.995, 0.9995])
def test_quantiles_agree_with_scipy(p: float) -> None:
    ours = [t_quantile(df, p) for df in _DEGREES]
    assert ours == pytest.approx([float(scipy.stats.t.ppf(p, df)) for df in _DEGREES], rel=1e-10)


@given(st.integers(1, 500), st.floats(0, 50))
def test_probabilities_agree_with_scipy(df: int, t: float) -> None:
    assert within(t, df) == pytest.approx(2 * float(scipy.stats.t.cdf(t, df)) - 1, rel=1e-10, abs=1e-13)


@given(st.integers(1, 400), st.floats(0.501, 0.9995))
def test_a_quantile_leads_back_to_its_probability(df: int, p: float) -> None:
    assert within(t_quantile(df, p), df) == pytest.approx(2 * p - 1, rel=1e-9)
