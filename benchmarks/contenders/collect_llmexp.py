"""One marked test to be collected as so many runs."""

import os

import pytest


@pytest.mark.experiment(n=int(os.environ["BENCHMARK_RUNS"]))
def test_nothing() -> None:
    pass
