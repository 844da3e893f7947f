"""Runs overlap in every worker of pytest-xdist, within the total, each executed once."""

from __future__ import annotations

import pytest

from tests.plugin.overlapping import Overlapping, peak

pytestmark = pytest.mark.xdist

COUNTED = """
    @pytest.mark.experiment(n={n})
    def test_x(experiment_run): told("+", experiment_run.index); time.sleep(0.05); told("-", experiment_run.index)
"""


@pytest.mark.parametrize("mode", ["load", "loadfile", "each"])  # test_xdist has the others, which group as these do
def test_every_mode_executes_each_run_once(overlapping: Overlapping, mode: str) -> None:
    overlapping.write(COUNTED.format(n=24))
    workers = ("--tx", "2*popen") if mode == "each" else ("-n", "2")
    result = overlapping.suite.run(*workers, "--dist", mode, new_process=True)
    times = 2 if mode == "each" else 1
    result.assert_outcomes(passed=24 * times)
    begun = sorted(int(words[1]) for words in overlapping.told() if words[0] == "+")
    assert begun == [index for index in range(1, 25) for _ in range(times)]


def test_the_limit_is_the_total_of_the_workers(overlapping: Overlapping) -> None:
    overlapping.write("""
        share = {"gw0": 4, "gw1": 3}[os.environ["PYTEST_XDIST_WORKER"]]
        together, reached = threading.Semaphore(share - 1), threading.Event()
        @pytest.mark.experiment(n=40)
        def test_x():
            told("+")
            if not together.acquire(blocking=False): reached.set()  # as many as may be are in flight
            assert reached.wait(60)
            told("-")
    """)
    overlapping.suite.run("-n", "2", "--experiment-concurrency=7").assert_outcomes(passed=40)
    told = overlapping.told_by()
    by_worker = {worker: peak([words[1:] for words in told if words[0] == worker]) for worker in ("gw0", "gw1")}
    assert by_worker == {"gw0": 4, "gw1": 3}


def test_a_small_experiment_stays_in_one_worker_and_others_are_spread(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=5)
        @pytest.mark.parametrize("case", range(6))
        def test_x(case): told(f"case{case}"); time.sleep(0.02)
        @pytest.mark.parametrize("value", range(30))
        def test_plain(value): pass
    """)
    overlapping.suite.run("-n", "2").assert_outcomes(passed=60)
    workers: dict[str, set[str]] = {}
    for worker, case in overlapping.told_by():
        workers.setdefault(case, set()).add(worker)
    assert all(len(used) == 1 for used in workers.values())
    assert len(set.union(*workers.values())) == 2


def test_files_and_groups_stay_together(overlapping: Overlapping) -> None:
    for name in ("a", "b", "c"):
        overlapping.suite.write(
            f"""
            import os, pytest
            @pytest.mark.experiment(n=9)
            def test_x():
                with open("told", "a") as file: file.write(os.environ["PYTEST_XDIST_WORKER"] + " {name}\\n")
            """,
            f"test_{name}.py",
        )
    overlapping.suite.run("-n", "2", "--dist", "loadfile").assert_outcomes(passed=27)
    told = {tuple(words) for words in overlapping.told_by()}
    assert sorted(name for _, name in told) == ["a", "b", "c"]


def test_maxfail_bounds_what_the_other_worker_still_executes(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=300)
        def test_x(experiment_run): told("+"); time.sleep(0.05); assert experiment_run.index != 1
    """)
    result = overlapping.suite.run("-n", "2", "-x")
    assert result.parseoutcomes()["failed"] == 1
    assert len(overlapping.told()) < 60


def test_output_skips_and_timeouts_are_the_runs_own(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=8, timeout=2)
        async def test_x(experiment_run):
            print("mine", experiment_run.index)
            if experiment_run.index == 2: pytest.skip("no")
            if experiment_run.index == 3: await asyncio.Event().wait()
            assert experiment_run.index != 5
    """)
    result = overlapping.suite.run("-n", "2", "-rA")
    result.assert_outcomes(passed=5, skipped=1, failed=2)
    text = result.stdout.str()
    assert [text.count(f"mine {index}") for index in (1, 4, 5)] == [1, 1, 1]


def test_the_summary_names_tests_that_ran_alone(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=4)
        def test_x(monkeypatch): told("+"); time.sleep(0.01); told("-")
    """)
    result = overlapping.suite.run("-n", "2")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["note: one run at a time: test_x (uses monkeypatch)"])


def test_runs_that_an_exit_leaves_unreported_are_counted_once(overlapping: Overlapping) -> None:
    overlapping.write("""
        others = threading.Semaphore(0)
        @pytest.mark.experiment(n=4)
        def test_x(experiment_run):
            if experiment_run.index == 1:
                assert all(others.acquire(timeout=60) for _ in range(3))
                time.sleep(0.5)  # what is left of the others once they said so
                pytest.exit("enough")
            others.release()
    """)
    result = overlapping.suite.run("-n", "2")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["note: 3 run(s) had ended when the session stopped, *"])


_TWO_CRASHES = """
    @pytest.mark.experiment(n=10)
    def test_x(experiment_run):
        if experiment_run.index in (4, 6): os._exit(1)
        time.sleep(0.05)
"""


def test_runs_that_crash_are_found_in_each_of_the_workers(overlapping: Overlapping) -> None:
    overlapping.write(_TWO_CRASHES)
    result = overlapping.suite.run("--tx", "2*popen", "--dist", "each", "-v")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    blamed = [line.partition("run")[2][0] for line in result.outlines if line.startswith("FAILED")]
    assert sorted(blamed) == ["4", "4", "6", "6"]
    assert result.parseoutcomes()["passed"] == 16
    result.stdout.fnmatch_lines(["10 runs (8 passed, 2 crashed), *"])


def test_two_runs_that_crash_are_both_found(overlapping: Overlapping) -> None:
    overlapping.write(_TWO_CRASHES)
    result = overlapping.suite.run("-n", "2", "-v")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    blamed = [line.partition("run")[2][0] for line in result.outlines if line.startswith("FAILED")]
    assert sorted(blamed) == ["4", "6"]
    result.stdout.fnmatch_lines(["10 runs (8 passed, 2 crashed), *"])
