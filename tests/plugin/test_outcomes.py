"""How a run ended: failed is evidence, an error is infrastructure, and a gate on the pass rate tolerates failures."""

from __future__ import annotations

import pytest

from pytest_llmexp.core.models import Run
from tests.conftest import Suite


def recorded(suite: Suite) -> list[Run]:
    store = suite.store()
    return store.runs(store.experiments()[0].id)


@pytest.mark.parametrize(
    ("body", "status", "phase"),
    [
        ("assert True", "passed", None),
        ("assert 1 == 2", "failed", "call"),
        ("pytest.fail('no')", "failed", "call"),
        ("raise ValueError('boom')", "error", "call"),
        ("pytest.skip('not now')", "skipped", "call"),
        ("pytest.xfail('known')", "failed", "call"),
    ],
)
def test_the_body_decides_the_status(suite: Suite, body: str, status: str, phase: str | None) -> None:
    suite.write(f"import pytest\n@pytest.mark.experiment(n=1)\ndef test_x(): {body}")
    suite.run()
    (run,) = recorded(suite)
    assert (run.status, run.phase) == (status, phase)
    assert run.duration_s is not None


def test_setup_and_teardown_failures_are_errors(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.fixture
        def broken(): assert False, "no database"
        @pytest.fixture
        def leaking():
            yield
            assert False, "still open"
        @pytest.mark.experiment(n=1)
        def test_setup(broken): pass
        @pytest.mark.experiment(n=1)
        def test_teardown(leaking): pass
    """)
    assert suite.run().ret == pytest.ExitCode.TESTS_FAILED
    assert [(run.status, run.phase) for run in recorded(suite)] == [("error", "setup"), ("error", "teardown")]
    assert "no database" in str(recorded(suite)[0].error)


def test_a_failed_run_fails_pytest(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=4)
        def test_x(experiment_run): assert experiment_run.index != 2
    """)
    result = suite.run()
    result.assert_outcomes(passed=3, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_with_a_pass_rate_gate_a_failed_run_is_tolerated(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=4, gates=["pass_rate >= 0.75"])
        def test_x(experiment_run): assert experiment_run.index != 2
    """)
    result = suite.run("-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*run2* TOLERATED*", "*4 passed, 1 tolerated*"])
    assert [run.status for run in recorded(suite)] == ["passed", "failed", "passed", "passed"]


def test_an_error_is_never_tolerated(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=4, gates=["pass_rate >= 0.5"])
        def test_x(experiment_run):
            if experiment_run.index == 2: raise OSError("network")
    """)
    result = suite.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=4, failed=1)  # three runs and the gate


def test_a_timeout_makes_a_run_an_error(suite: Suite) -> None:
    suite.write("""
        import asyncio, pytest, threading
        @pytest.mark.experiment(n=1, timeout=0.2)
        def test_sync(): threading.Event().wait()
        @pytest.mark.experiment(n=1, timeout=0.2)
        async def test_async(): await asyncio.Event().wait()
    """)
    suite.run().assert_outcomes(failed=2)
    assert [run.status for run in recorded(suite)] == ["error", "error"]
    assert all("run timed out after 0.2 s" in str(run.error) for run in recorded(suite))


@pytest.mark.parametrize("concurrency", ["1", "8"])
@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("raise TimeoutError('no answer')", "TimeoutError: no answer"),
        ("await asyncio.wait_for(asyncio.sleep(60), 0.01)", "TimeoutError"),
        ("raise asyncio.CancelledError('enough')", "concurrent.futures._base.CancelledError: enough"),
        ("raise concurrent.futures.CancelledError('enough')", "concurrent.futures._base.CancelledError: enough"),
        ("raise concurrent.futures.InvalidStateError('twice')", "concurrent.futures._base.InvalidStateError: twice"),
    ],
)
def test_the_errors_of_asyncio_show_the_line_of_the_test(suite: Suite, line: str, error: str, concurrency: str) -> None:
    suite.write(f"""
        import asyncio, concurrent.futures, pytest
        @pytest.mark.experiment(n=1, timeout=60)
        async def test_x():
            {line}
    """)
    result = suite.run(f"--experiment-concurrency={concurrency}")
    result.assert_outcomes(failed=1)
    assert f"\n>       {line}\n" in result.stdout.str()
    assert "_base.py" not in result.stdout.str()
    assert [(run.status, run.error) for run in recorded(suite)] == [("error", error)]


def test_a_run_within_its_timeout_behaves_as_ever(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=1, timeout=60)
        def test_ok(record_metric, tmp_path): record_metric("x", 1)
        @pytest.mark.experiment(n=1, timeout=60)
        def test_bad(): assert [1] == [2]
        @pytest.mark.experiment(n=1, timeout=60)
        def test_skip(): pytest.skip("later")
    """)
    result = suite.run()
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*assert [[]1[]] == [[]2[]]*"])


def test_subclass_exceptions_of_the_library_are_errors(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=1)
        def test_x(record_metric): record_metric("name", "Ada")
    """)
    result = suite.run()
    result.assert_outcomes(failed=1)
    (run,) = recorded(suite)
    assert run.status == "error"
    assert "MetricError" in str(run.error)


def test_errors_in_a_class_setup_are_recorded_for_each_run(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=2)
        class TestX:
            def setup_method(self): raise OSError("x")
            def test_x(self): pass
    """)
    suite.run()
    assert [run.status for run in recorded(suite)] == ["error", "error"]
