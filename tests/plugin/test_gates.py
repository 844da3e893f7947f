"""Gates are test results: in the counts, in -ra, in JUnit XML, in the exit status, the same with workers."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pytest_llmexp.core.models import Verdict
from tests.conftest import Suite

SCORES = """
    import pytest
    @pytest.mark.experiment(n=4, gates=["mean(score) >= 3", "max(score) <= 3", "mean(depth) >= 1"])
    def test_x(experiment_run, record_metric):
        record_metric("score", experiment_run.index)
        if experiment_run.index == 1: record_metric("depth", 1)
"""


def verdicts(suite: Suite) -> list[Verdict]:
    store = suite.store()
    return store.verdicts(store.experiments()[0].id)


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_exit_status_terminal_junit_and_store_agree(suite: Suite, workers: tuple[str, ...]) -> None:
    suite.write(SCORES.replace(">= 3", ">= 2.5"))
    result = suite.run("-ra", "--junitxml=junit.xml", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=5, failed=1, skipped=1)
    words = {verdict.gate: verdict.verdict for verdict in verdicts(suite)}
    assert words == {"mean(score) >= 2.5": "passed", "max(score) <= 3": "failed", "mean(depth) >= 1": "undecided"}
    result.stdout.fnmatch_lines(
        [
            "SKIPPED*mean(depth) >= 1*",
            "FAILED test_suite.py::test_x::gate[[]max(score) <= 3[]]*got 4*",
        ]
    )
    root = ElementTree.parse(suite.path / "junit.xml").getroot()
    cases = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert len(cases) == 7
    assert cases["gate[mean(score) >= 2.5]"] == []
    assert cases["gate[max(score) <= 3]"] == ["failure"]
    assert cases["gate[mean(depth) >= 1]"] == ["skipped"]


def test_one_failed_gate_is_one_line_with_expression_value_interval_and_n(suite: Suite) -> None:
    suite.write(SCORES)
    result = suite.run()
    result.stdout.fnmatch_lines(["GATE FAILED test_x: mean(score) >= 3, got 2.50 [[]*[]], n=4*"])


def test_passed_gates_leave_the_exit_status_alone(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=3, gates=["pass_rate >= 1", "rate(score >= 1) >= 1", "p50(score) <= 2"])
        def test_x(record_metric): record_metric("score", 1.5)
    """)
    result = suite.run()
    assert result.ret == 0
    result.assert_outcomes(passed=6)


def test_errors_and_missing_metrics_never_let_a_gate_pass(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=4, gates=["mean(good) >= 0.5"])
        def test_missing(experiment_run, record_metric):
            if experiment_run.index == 1: record_metric("good", True)
        @pytest.mark.experiment(n=4, gates=["pass_rate >= 0.9"])
        def test_error(experiment_run):
            if experiment_run.index > 1: raise OSError("down")
    """)
    assert suite.run().ret == pytest.ExitCode.TESTS_FAILED
    assert [verdict.verdict for verdict in verdicts(suite)] == ["undecided", "undecided"]
    assert [verdict.missing for verdict in verdicts(suite)] == [3, 3]


def test_runs_that_never_began_count_as_missing(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=4, gates=["pass_rate >= 0.5"])
        def test_x(experiment_run):
            if experiment_run.index == 3: pytest.exit("enough")
    """)
    result = suite.run("--experiment-concurrency=1")
    assert result.ret != 0
    assert verdicts(suite) == []
    result.stdout.fnmatch_lines(["interrupted 2/4: gates were not judged"])


def test_a_gate_over_cases_weighs_them_the_same(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=2, gates=["mean(ok) >= 0.5"])
        @pytest.mark.parametrize("label", ["a", "b"])
        def test_x(label, record_metric): record_metric("ok", label == "a")
    """)
    assert suite.run().ret == 0
    (verdict,) = verdicts(suite)
    assert (verdict.verdict, verdict.estimate, verdict.n, verdict.case_id) == ("passed", 0.5, 4, None)


def test_last_failed_runs_the_file_of_a_failed_gate_again(suite: Suite) -> None:
    suite.write(SCORES)
    suite.write("def test_other(): pass", "test_other.py")
    suite.pytester.runpytest_inprocess("-p", "no:asyncio")
    result = suite.pytester.runpytest_inprocess("-p", "no:asyncio", "--lf", "--collect-only", "-q")
    assert "test_x[run1]" in result.stdout.str()
    assert "test_other" not in result.stdout.str()


def test_a_session_gate_applies_to_every_test(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=1)
        def test_a(): pass
        @pytest.mark.experiment(n=1)
        def test_b(): assert False
    """)
    result = suite.run("--experiment-gate=pass_rate >= 1")
    assert [verdict.verdict for verdict in verdicts(suite)] == ["passed", "failed"]
    assert result.ret == pytest.ExitCode.TESTS_FAILED
