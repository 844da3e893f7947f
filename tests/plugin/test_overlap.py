"""Runs overlap inside a process, within the limits, and are reported as any other item is."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.plugin.overlapping import Overlapping, peak

LOCAL = ("-p", "no:xdist")


# a body returns when `count` bodies have been in flight together, and fails if that does not come to pass
TOGETHER = """
    barrier, async_barrier = threading.Barrier({count}, timeout=60), asyncio.Barrier({count})
    @pytest.mark.experiment(n={n}{more})
    def test_sync():
        told("+"); barrier.wait(); told("-")
    @pytest.mark.experiment(n={n}{more})
    async def test_async():
        told("+")
        async with asyncio.timeout(60), async_barrier: told("-")
"""


def test_eight_bodies_are_in_flight_and_no_more(overlapping: Overlapping) -> None:
    overlapping.write(TOGETHER.format(count=8, n=24, more=""))
    overlapping.suite.run(*LOCAL, "-k", "sync and not async").assert_outcomes(passed=24)
    assert peak(overlapping.told()) == 8


def test_async_bodies_share_a_loop_and_the_limit(overlapping: Overlapping) -> None:
    overlapping.write(TOGETHER.format(count=8, n=24, more=""))
    overlapping.suite.run(*LOCAL, "-k", "test_async").assert_outcomes(passed=24)
    assert peak(overlapping.told()) == 8


@pytest.mark.parametrize("where", ["option", "environment", "ini", "mark"])
def test_the_limit_can_be_set(overlapping: Overlapping, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    overlapping.write(TOGETHER.format(count=3, n=9, more=", concurrency=3" if where == "mark" else ""))
    arguments = ["--experiment-concurrency=3"] if where == "option" else []
    if where == "environment":
        monkeypatch.setenv("LLMEXP_CONCURRENCY", "3")
    if where == "ini":
        overlapping.suite.pytester.makeini("[pytest]\nexperiment_concurrency = 3")
    if where == "mark":  # a limit of that test: the other one may begin before it has ended
        arguments = ["-k", "test_sync"]
    overlapping.suite.run(*LOCAL, *arguments).assert_outcomes(passed=9 if where == "mark" else 18)
    assert peak(overlapping.told()) == 3


@pytest.mark.parametrize("arguments", [("--experiment-concurrency=1",), ("--setup-show",), ("--pdb",)])
def test_runs_can_be_executed_one_at_a_time(overlapping: Overlapping, arguments: tuple[str, ...]) -> None:
    overlapping.write(TOGETHER.format(count=1, n=4, more=""))
    overlapping.suite.run(*LOCAL, *arguments).assert_outcomes(passed=8)
    assert peak(overlapping.told()) == 1


def test_a_mark_can_ask_for_one_at_a_time(overlapping: Overlapping) -> None:
    overlapping.write(TOGETHER.format(count=1, n=4, more=", concurrency=1"))
    result = overlapping.suite.run(*LOCAL)
    result.assert_outcomes(passed=8)
    assert peak(overlapping.told()) == 1
    assert "one run at a time" not in result.stdout.str()


@pytest.mark.parametrize(("given", "message"), [("0", "is '0'"), ("many", "is 'many'")])
def test_a_limit_that_is_no_count_is_a_usage_error(overlapping: Overlapping, given: str, message: str) -> None:
    overlapping.write(TOGETHER.format(count=1, n=1, more=""))
    result = overlapping.suite.run(f"--experiment-concurrency={given}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--experiment-concurrency {message}" in result.stderr.str()


def test_a_marks_limit_that_is_no_count_is_a_usage_error(overlapping: Overlapping) -> None:
    overlapping.write("@pytest.mark.experiment(n=1, concurrency=0)\ndef test_x(): pass")
    result = overlapping.suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "concurrency=0: concurrency is how many runs of the test may overlap" in result.stderr.str()


def test_a_run_is_an_item_with_three_reports_in_order(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=8)
        def test_x(): pass
    """)
    overlapping.suite.write(
        """
        def seen(what, nodeid):
            with open("seen", "a") as file: file.write(f"{what} {nodeid}\\n")
        def pytest_runtest_logstart(nodeid): seen("start", nodeid)
        def pytest_runtest_logreport(report): seen(report.when, report.nodeid)
        def pytest_runtest_logfinish(nodeid): seen("finish", nodeid)
        """,
        "conftest.py",
    )
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=8)
    expected = [
        f"{what} test_suite.py::test_x[run{index}]"
        for index in range(1, 9)
        for what in ("start", "setup", "call", "teardown", "finish")
    ]
    assert (overlapping.path / "seen").read_text().splitlines() == expected


def test_a_duration_is_the_bodys_own(overlapping: Overlapping) -> None:
    overlapping.write("""
        go = threading.Event()
        @pytest.mark.experiment(n=2)
        def test_x(experiment_run):
            if experiment_run.index == 2: go.set(); return
            go.wait(60); time.sleep(0.5)
    """)
    result = overlapping.suite.run(*LOCAL, "--durations=0", "-vv")
    result.assert_outcomes(passed=2)
    took = {line.split()[2]: float(line.split("s")[0]) for line in result.outlines if "s call " in line}
    assert took["test_suite.py::test_x[run1]"] >= 0.5
    assert took["test_suite.py::test_x[run2]"] < 0.5
    store = overlapping.suite.store()
    durations = {run.run_index: run.duration_s or 0 for run in store.runs(store.experiments()[0].id)}
    assert durations[1] >= 0.5 > durations[2]


def test_a_slow_run_does_not_hold_up_the_others(overlapping: Overlapping) -> None:
    overlapping.write("""
        others, ended = threading.Semaphore(0), threading.Event()
        @pytest.mark.experiment(n=40)
        def test_x(experiment_run):
            if experiment_run.index == 1:
                assert all(others.acquire(timeout=60) for _ in range(39))
            others.release()
    """)
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=40)


def test_experiments_and_cases_of_a_module_overlap(overlapping: Overlapping) -> None:
    overlapping.write("""
        barrier = threading.Barrier(6, timeout=60)
        @pytest.mark.experiment(n=2)
        @pytest.mark.parametrize("case", "ab")
        def test_a(case): barrier.wait()
        @pytest.mark.experiment(n=2)
        def test_b(): barrier.wait()
    """)
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=6)


def test_other_tests_run_alone_and_in_order(overlapping: Overlapping) -> None:
    overlapping.write("""
        def test_a(tmp_path): told("a")
        @pytest.mark.experiment(n=3)
        def test_x(tmp_path): (tmp_path / "file").write_text("x"); told("x")
        def test_b(monkeypatch, capsys): print("b"); assert capsys.readouterr().out == "b\\n"; told("b")
        @pytest.mark.experiment(n=2)
        def test_y(): told("y")
        @pytest.mark.parametrize("value", [1, 2])
        def test_c(value): told("c")
    """)
    overlapping.suite.run(*LOCAL, "-W", "error").assert_outcomes(passed=9)
    assert [words[0] for words in overlapping.told()] == list("axxxbyycc")


def test_outcomes_are_those_of_ordinary_items(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=7)
        def test_x(experiment_run, request):
            match experiment_run.index:
                case 1: pytest.skip("later")
                case 2: pytest.xfail("known")
                case 3: raise ValueError("boom")
                case 4: request.addfinalizer(lambda: 1 / 0)
                case 5: assert not 5
                case 6: sys.exit(3)
        @pytest.mark.xfail(strict=True)
        @pytest.mark.experiment(n=2)
        def test_expected(): assert 0
        @pytest.mark.skipif(True, reason="never")
        @pytest.mark.experiment(n=2)
        def test_skipped(): 1 / 0
    """)
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=2, skipped=3, xfailed=3, failed=3, errors=1)
    store = overlapping.suite.store()
    runs = [run for run in store.runs(store.experiments()[0].id) if run.test.endswith("test_x")]
    statuses = [run.status for run in sorted(runs, key=lambda run: run.run_index)]
    assert statuses == ["skipped", "failed", "error", "error", "failed", "error", "passed"]


def test_setup_hooks_run_before_bodies_and_setup_errors_are_errors(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.fixture
        def broken(experiment_run):
            if experiment_run.index == 1: raise RuntimeError("no setup")
        @pytest.mark.experiment(n=4)
        def test_x(broken, experiment_run): told(experiment_run.index)
    """)
    overlapping.suite.write(
        """
        import pytest
        def pytest_runtest_setup(item):
            if "run2" in item.name: pytest.skip("conftest says no")
        """,
        "conftest.py",
    )
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=2, errors=1, skipped=1)
    assert sorted(overlapping.told()) == [["3"], ["4"]]


def test_a_wrapper_around_the_call_phase_is_entered_once_around_each_body(overlapping: Overlapping) -> None:
    overlapping.write("""
        barrier = threading.Barrier(4, timeout=60)
        @pytest.mark.experiment(n=4)
        def test_x(experiment_run): told("body", experiment_run.index); barrier.wait()
    """)
    overlapping.suite.write(
        """
        import pytest
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_call(item):
            from test_suite import told
            index = item.callspec.params["experiment_run"]
            told("in", index)
            yield
            told("out", index)
        """,
        "conftest.py",
    )
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=4)
    for index in "1234":
        assert [words[0] for words in overlapping.told() if words[1] == index] == ["in", "body", "out"]


def test_single_runs_can_be_selected_and_failed_ones_run_again(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=6)
        def test_x(experiment_run): assert experiment_run.index not in (2, 4)
    """)
    run = overlapping.suite.pytester.runpytest_inprocess
    run(*LOCAL, "-p", "no:asyncio").assert_outcomes(passed=4, failed=2)
    run(*LOCAL, "-p", "no:asyncio", "--lf").assert_outcomes(failed=2)
    run(*LOCAL, "-p", "no:asyncio", "-k", "run1 or run2").assert_outcomes(passed=1, failed=1, deselected=4)


def test_a_context_variable_of_a_fixture_is_the_runs_own(overlapping: Overlapping) -> None:
    overlapping.write("""
        variable = contextvars.ContextVar("variable")
        barrier, async_barrier = threading.Barrier(5, timeout=60), asyncio.Barrier(5)
        @pytest.fixture
        def index(experiment_run): variable.set(experiment_run.index); return experiment_run.index
        @pytest.mark.experiment(n=5)
        def test_sync(index): barrier.wait(); assert variable.get() == index
        @pytest.mark.experiment(n=5)
        async def test_async(index):
            async with async_barrier: assert variable.get() == index
    """)
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=10)


def test_junit_xml_names_every_run_with_its_own_output(overlapping: Overlapping) -> None:
    overlapping.write("""
        log, barrier = logging.getLogger("x"), threading.Barrier(6, timeout=60)
        @pytest.mark.experiment(n=6)
        def test_x(experiment_run):
            for part in "abc":
                print(f"out-{experiment_run.index}-{part}")
                print(f"err-{experiment_run.index}", file=sys.stderr)
                log.warning("log-%d", experiment_run.index)
                barrier.wait()
            assert [experiment_run.index] == ["nope"]
    """)
    result = overlapping.suite.run(*LOCAL, "--junitxml=junit.xml", "-o", "junit_logging=all")
    result.assert_outcomes(failed=6)
    cases = ET.parse(overlapping.path / "junit.xml").getroot().findall(".//testcase")
    assert [case.get("name") for case in cases] == [f"test_x[run{index}]" for index in range(1, 7)]
    for index, case in enumerate(cases, start=1):
        out, failure = case.findtext("system-out") or "", case.findtext("failure") or ""
        assert [part for part in "abc" if f"out-{index}-{part}" in out] == list("abc")
        assert out.count(f"log-{index}") == 3
        assert not any(f"out-{other}" in out or f"log-{other}" in out for other in range(1, 7) if other != index)
        assert "At index 0 diff" in failure


@pytest.mark.parametrize("capture", ["fd", "sys", "tee-sys", "no"])
def test_every_capture_mode_works(overlapping: Overlapping, capture: str) -> None:
    overlapping.write("""
        barrier = threading.Barrier(4, timeout=60)
        @pytest.mark.experiment(n=4)
        def test_x(experiment_run): print("hello", experiment_run.index); sys.stdout.flush(); barrier.wait()
        def test_after(capsys): print("z"); assert capsys.readouterr().out == "z\\n"
    """)
    result = overlapping.suite.run(*LOCAL, f"--capture={capture}", "-rA", new_process=True)
    result.assert_outcomes(passed=5)
    assert result.stdout.str().count("hello") == (8 if capture == "tee-sys" else 4)  # live, and at the end


def test_what_a_child_process_writes_is_kept_off_the_terminal(overlapping: Overlapping) -> None:
    overlapping.write("""
        barrier = threading.Barrier(4, timeout=60)
        @pytest.mark.experiment(n=4)
        def test_x():
            barrier.wait()
            subprocess.run([sys.executable, "-c", "print('from-child')"], check=True)
            barrier.wait()  # no run is reported while another's child writes
    """)
    result = overlapping.suite.run(*LOCAL, "-rA", new_process=True)
    result.assert_outcomes(passed=4)
    text = result.stdout.str()
    assert text.count("from-child") == 4
    assert text.index("from-child") > text.index("PASSES")


def test_live_logs_of_many_threads_do_not_break(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=40)
        def test_x(experiment_run):
            for line in range(20): logging.getLogger("q").info("%d-%d", experiment_run.index, line); print(line)
            assert experiment_run.index != 7
    """)
    overlapping.suite.run(*LOCAL, "--log-cli-level=INFO").assert_outcomes(passed=39, failed=1)


def test_a_warning_belongs_to_the_run_that_gave_it(overlapping: Overlapping) -> None:
    overlapping.write("""
        barrier = threading.Barrier(4, timeout=60)
        @pytest.mark.experiment(n=4)
        def test_x(experiment_run):
            barrier.wait()
            for _ in range(3): warnings.warn("same words")
            warnings.warn(f"words of {experiment_run.index}", DeprecationWarning)
    """)
    overlapping.suite.write(
        """
        def pytest_warning_recorded(warning_message, nodeid):
            with open("warned", "a") as file: file.write(f"{nodeid} {warning_message.message}\\n")
        """,
        "conftest.py",
    )
    overlapping.suite.run(*LOCAL, new_process=True).assert_outcomes(passed=4, warnings=8)
    warned = (overlapping.path / "warned").read_text().splitlines()
    name = "test_suite.py::test_x[run{}] {}"
    expected = [name.format(index, text) for index in range(1, 5) for text in ("same words", f"words of {index}")]
    assert warned == expected


def test_a_warning_can_be_an_error(overlapping: Overlapping) -> None:
    overlapping.write("""
        barrier = threading.Barrier(4, timeout=60)
        @pytest.mark.experiment(n=4)
        def test_x(): barrier.wait(); warnings.warn("no")
    """)
    overlapping.suite.run(*LOCAL, "-W", "error").assert_outcomes(failed=4)


def test_without_the_parts_of_pytest_runs_are_executed_one_at_a_time(overlapping: Overlapping) -> None:
    overlapping.write(TOGETHER.format(count=1, n=4, more=""))
    overlapping.suite.write(
        """
        import pytest
        from _pytest.runner import SetupState
        class Other(SetupState): pass
        @pytest.hookimpl(trylast=True)
        def pytest_sessionstart(session): session._setupstate = Other()
        """,
        "conftest.py",
    )
    result = overlapping.suite.run(*LOCAL)
    result.assert_outcomes(passed=8)
    assert peak(overlapping.told()) == 1
    result.stdout.fnmatch_lines(["note: runs were executed one at a time: *SetupState*"])


def test_runs_set_up_beyond_a_slow_one_are_bounded(overlapping: Overlapping) -> None:
    overlapping.write("""
        alive, most, others = [], [], threading.Semaphore(0)
        @pytest.fixture
        def own():
            alive.append(1)
            most.append(len(alive))
            yield
            alive.pop()
        @pytest.mark.experiment(n=60)
        def test_x(own, experiment_run):
            if experiment_run.index == 1:
                assert all(others.acquire(timeout=60) for _ in range(15))
                assert not others.acquire(timeout=0.3)
            others.release()
        def test_most(): assert max(most) == 16
    """)
    overlapping.suite.run(*LOCAL, "--experiment-concurrency=2").assert_outcomes(passed=61)


def test_bodies_see_that_a_test_is_being_executed(overlapping: Overlapping) -> None:
    overlapping.write("""
        second_has_begun, first_is_over = threading.Event(), threading.Event()
        @pytest.fixture
        def own(experiment_run):
            yield
            first_is_over.set()
        @pytest.mark.experiment(n=2)
        def test_x(own, experiment_run):
            if experiment_run.index == 1:
                assert second_has_begun.wait(60)
            else:
                second_has_begun.set()
                assert first_is_over.wait(60)
                end = time.monotonic() + 10
                while not os.environ.get("PYTEST_CURRENT_TEST", "").endswith("(call)"):
                    assert time.monotonic() < end, "pytest took the name away, and nobody gave one"
                    time.sleep(0.01)
    """)
    overlapping.suite.run(*LOCAL, new_process=True).assert_outcomes(passed=2)


def test_warnings_of_setups_are_those_of_their_runs(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.fixture
        def warning(experiment_run): warnings.warn(f"setup {experiment_run.index}")
        @pytest.mark.experiment(n=3)
        def test_x(warning): pass
        @pytest.fixture
        def failing(warning): raise OSError
        @pytest.mark.experiment(n=1)
        def test_y(failing): pass
    """)
    result = overlapping.suite.run(*LOCAL, new_process=True)
    result.stdout.fnmatch_lines([f"test_suite.py::test_x?run{index}?" for index in (1, 2, 3)])
    result.assert_outcomes(passed=3, errors=1, warnings=4)


def test_an_asyncio_mark_needs_no_plugin(overlapping: Overlapping) -> None:
    overlapping.suite.pytester.makeini("[pytest]\nmarkers = asyncio")
    overlapping.write("""
        @pytest.mark.asyncio
        @pytest.mark.experiment(n=2)
        async def test_x(): await asyncio.sleep(0)
    """)
    overlapping.suite.run(*LOCAL, "-p", "no:asyncio").assert_outcomes(passed=2)


def test_a_fork_that_comes_out_of_a_body_ends(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
        @pytest.mark.experiment(n=2)
        def test_x():
            if (child := os.fork()) == 0: raise OSError("in the child")
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    """)
    overlapping.suite.run(*LOCAL, new_process=True).assert_outcomes(passed=2)


def test_who_hears_of_a_run_finds_it_recorded(overlapping: Overlapping) -> None:
    overlapping.write("@pytest.mark.experiment(n=30)\ndef test_x(): pass")
    overlapping.suite.write(
        """
        import sqlite3

        def pytest_runtest_logreport(report):
            if report.when == "call":
                with sqlite3.connect("message_log.db") as stored:
                    counted = stored.execute("SELECT count(*) FROM experiment_runs WHERE status = 'passed'")
                    with open("told", "a") as file:
                        file.write(f"- {counted.fetchone()[0]}\\n")
        """,
        "conftest.py",
    )
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=30)
    counts = [int(count) for [count] in overlapping.told()]
    assert all(count > reported for reported, count in enumerate(counts))
