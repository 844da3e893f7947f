"""The same items from a plain parametrization."""

import os

import pytest

RUNS = range(1, int(os.environ["BENCHMARK_RUNS"]) + 1)


@pytest.mark.parametrize("run", RUNS, ids=[f"run{run}" for run in RUNS])
def test_nothing(run: int) -> None:
    pass
