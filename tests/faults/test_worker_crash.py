"""R12: a run that kills its process is `crashed`, the session ends red, and no other run is lost or doubled."""

from __future__ import annotations

import pytest

from tests.conftest import Suite

pytestmark = pytest.mark.xdist

SUITE = """
    import os, pytest
    @pytest.mark.experiment(n=8, gates=["pass_rate >= 0.1"])
    def test_x(experiment_run, record_metric):
        record_metric("index", experiment_run.index)
        if experiment_run.index == 4: os._exit(1)
"""


@pytest.mark.parametrize("concurrency", ["1", "32"])
@pytest.mark.parametrize("mode", ["load", "loadfile"])  # others differ in their groups, and there is one test
def test_a_crashing_run_alone_is_blamed_and_ends_the_session_red(suite: Suite, mode: str, concurrency: str) -> None:
    suite.write(SUITE)
    result = suite.run("-n", "2", "--dist", mode, f"--experiment-concurrency={concurrency}", "-v")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    store = suite.store()
    experiment = store.experiments()[0]
    runs = store.runs(experiment.id)
    assert {run.run_index for run in runs if run.status == "passed"} == {1, 2, 3, 5, 6, 7, 8}
    assert {run.status for run in runs if run.run_index == 4} == {"crashed"}
    blamed = [line for line in result.outlines if line.startswith("worker ")]
    assert len(blamed) == 1
    assert "run4" in blamed[0]
    result.assert_outcomes(passed=8, failed=1)  # the gate among them
    result.stdout.fnmatch_lines(["8 runs (7 passed, 1 crashed), *"])
    (verdict,) = store.verdicts(experiment.id)
    assert (verdict.n, verdict.missing) == (7, 1)
