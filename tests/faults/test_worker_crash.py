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


@pytest.mark.parametrize("mode", ["load", "worksteal", "loadfile", "loadscope", "loadgroup"])
def test_a_crashing_run_is_recorded_and_ends_the_session_red(suite: Suite, mode: str) -> None:
    suite.write(SUITE)
    result = suite.run("-n", "2", "--dist", mode)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    store = suite.store()
    experiment = store.experiments()[0]
    runs = store.runs(experiment.id)
    assert len(runs) == len({run.run_index for run in runs})
    assert {run.run_index: run.status for run in runs}[4] == "crashed"
    assert all(run.status == "passed" for run in runs if run.run_index != 4)
    absent = 8 - len(runs)
    assert ("not run" in result.stdout.str()) == (absent > 0)
    (verdict,) = store.verdicts(experiment.id)
    assert verdict.missing == 1 + absent
