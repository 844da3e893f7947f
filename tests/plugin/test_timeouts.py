"""A run that hangs fails as an error, alone, and holds up neither the session nor the interpreter's exit."""

from __future__ import annotations

import pytest

from tests.plugin.overlapping import Overlapping

LOCAL = ("-p", "no:xdist")
HANGS = {
    "sync": ("def", "threading.Event().wait()"),
    "in a pool": ("def", "ThreadPoolExecutor(1).submit(threading.Event().wait).result()"),
    "async": ("async def", "await asyncio.Event().wait()"),
    "async in a thread": ("async def", "await asyncio.to_thread(threading.Event().wait)"),
    "blocks the loop": ("async def", "threading.Event().wait()"),
}


@pytest.mark.parametrize("concurrency", ["1", "8"])
@pytest.mark.parametrize("way", ["sync", "in a pool", "async", "async in a thread"])
def test_a_hung_run_is_an_error_and_holds_up_nothing(overlapping: Overlapping, way: str, concurrency: str) -> None:
    define, hang = HANGS[way]
    overlapping.write(f"""
        from concurrent.futures import ThreadPoolExecutor
        @pytest.mark.experiment(n=6, timeout=1)
        {define} test_x(experiment_run):
            if experiment_run.index == 2: {hang}
    """)
    result = overlapping.suite.run(*LOCAL, f"--experiment-concurrency={concurrency}", new_process=True)
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["*run timed out after 1 s*"])
    statuses = overlapping.statuses()
    assert statuses.pop(2) == "error"
    assert set(statuses.values()) == {"passed"}


@pytest.mark.parametrize("concurrency", ["1", "8"])
def test_a_run_that_blocks_the_loop_of_the_others_ends_too(overlapping: Overlapping, concurrency: str) -> None:
    define, hang = HANGS["blocks the loop"]
    overlapping.write(f"""
        @pytest.mark.experiment(n=1, timeout=1)
        {define} test_x(): {hang}
        @pytest.mark.experiment(n=2)
        def test_y(): pass
    """)
    result = overlapping.suite.run(*LOCAL, f"--experiment-concurrency={concurrency}", new_process=True)
    result.assert_outcomes(passed=2, failed=1)


def test_a_timed_out_run_shows_where_it_was_and_what_it_wrote(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=2, timeout=1)
        def test_x(experiment_run):
            print("before", experiment_run.index)
            if experiment_run.index == 2: waiting_for_ever()
        def waiting_for_ever(): threading.Event().wait()
    """)
    result = overlapping.suite.run(*LOCAL, new_process=True)
    result.stdout.fnmatch_lines(["*before 2*", "where the run was*", "*in waiting_for_ever*"])


def test_the_ini_file_gives_a_timeout_that_a_mark_can_change(overlapping: Overlapping) -> None:
    overlapping.suite.pytester.makeini("[pytest]\nexperiment_timeout = 0.5")
    overlapping.write("""
        go = threading.Event()
        @pytest.mark.experiment(n=2)
        def test_x(): go.wait(60)
        @pytest.mark.experiment(n=2, timeout=120)
        def test_y(): time.sleep(0.6)
    """)
    overlapping.suite.run(*LOCAL, new_process=True).assert_outcomes(failed=2, passed=2)


@pytest.mark.parametrize("given", ["0", "soon", "-1", "nan"])
def test_a_timeout_that_is_no_time_is_a_usage_error(overlapping: Overlapping, given: str) -> None:
    overlapping.suite.pytester.makeini(f"[pytest]\nexperiment_timeout = {given}")
    overlapping.write("@pytest.mark.experiment(n=1)\ndef test_x(): pass")
    result = overlapping.suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"experiment_timeout is '{given}'; it is a number of seconds above 0" in result.stderr.str()


@pytest.mark.parametrize("more", [(), ("-o", "timeout_func_only=true"), ("--timeout-method=thread",)])
def test_limits_of_pytest_timeout_count_for_each_body(overlapping: Overlapping, more: tuple[str, ...]) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=12)
        def test_x(experiment_run): threading.Event().wait(60 if experiment_run.index == 3 else 0.7)
    """)
    result = overlapping.suite.run(*LOCAL, "--timeout=1", *more, new_process=True)
    result.assert_outcomes(passed=11, failed=1)  # in turn, two of them take more than a second
    assert overlapping.statuses()[3] == "error"


def test_plugins_that_run_failed_tests_again_leave_runs_alone(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=4)
        def test_x(experiment_run): told("+"); assert experiment_run.index != 2
        def test_plain(): told("plain"); assert 0
    """)
    overlapping.suite.run(*LOCAL, "--reruns=2").assert_outcomes(passed=3, failed=2)
    told = [words[0] for words in overlapping.told()]
    assert (told.count("+"), told.count("plain")) == (4, 3)


@pytest.mark.parametrize("phase", ["setup", "teardown"])
def test_pytest_timeout_ends_fixtures_that_hang(overlapping: Overlapping, phase: str) -> None:
    pytest.importorskip("pytest_timeout")
    overlapping.write(f"""
        @pytest.fixture
        def hanging(experiment_run):
            if "{phase}" == "setup" and experiment_run.index == 2: threading.Event().wait()
            yield
            if "{phase}" == "teardown" and experiment_run.index == 2: threading.Event().wait()
        @pytest.mark.experiment(n=4)
        def test_x(hanging): pass
    """)
    result = overlapping.suite.run(*LOCAL, "--timeout=1", "--timeout-method=signal", new_process=True)
    result.assert_outcomes(passed=3 if phase == "setup" else 4, errors=1)
    result.stdout.fnmatch_lines(["*Timeout (>1.0s) from pytest-timeout*"])


def test_a_coroutine_that_times_out_was_cancelled_and_says_no_more(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=2, timeout=0.5)
        async def test_x():
            try: await asyncio.Event().wait()
            finally: told("cancelled")
    """)
    result = overlapping.suite.run(*LOCAL)
    result.assert_outcomes(failed=2)
    assert overlapping.told() == [["cancelled"]] * 2
    assert "left behind" not in result.stdout.str()
