"""pytest's own options and other plugins keep their meaning, and unmarked suites do not notice the plugin."""

from __future__ import annotations

import gc
import re

import pytest

from tests.conftest import Suite

IN_TURN = "--experiment-concurrency=1"
FOUR_RUNS = """
    import pytest
    @pytest.mark.experiment(n=4)
    def test_x(experiment_run): assert experiment_run.index != 2
"""


def statuses(suite: Suite) -> list[str]:
    store = suite.store()
    return [run.status for run in store.runs(store.experiments()[0].id)]


@pytest.mark.parametrize("arguments", [(), ("-v",), ("-p", "no:terminal"), ("--setup-show",), ("--co", "-q")])
def test_a_suite_without_the_mark_behaves_as_if_the_plugin_were_not_there(
    suite: Suite, arguments: tuple[str, ...]
) -> None:
    suite.write("""
        import pytest
        def test_passes(): pass
        @pytest.mark.parametrize("name", ["run1"])
        def test_fails(name): assert name == 1
        async def test_async(): pass
    """)
    result = suite.run(*arguments)
    without = suite.run("-p", "no:llmexp", *arguments)
    assert result.ret == without.ret

    def comparable(lines: list[str]) -> list[str]:
        return [re.sub(r" in \d+\.\d+s", "", line) for line in lines if not line.startswith("plugins:")]

    assert comparable(result.outlines) == comparable(without.outlines)
    assert not list(suite.path.glob("message_log.db*"))


@pytest.mark.xdist
def test_a_suite_without_the_mark_leaves_nothing_behind_with_workers(suite: Suite) -> None:
    suite.write("import pytest\n@pytest.mark.parametrize('x', [1, 2])\ndef test_x(x): pass")
    result = suite.run("-n", "2")
    result.assert_outcomes(passed=2)
    assert "llmexp:" not in result.stdout.str()
    assert not list(suite.path.glob("message_log.db*"))


def test_exitfirst_stops_and_marks_the_experiment_interrupted(suite: Suite) -> None:
    suite.write(FOUR_RUNS)
    result = suite.run("-x", "--experiment-gate=mean(x) >= 1", IN_TURN)
    result.assert_outcomes(passed=1, failed=1)
    store = suite.store()
    experiment = store.experiments()[0]
    assert experiment.status == "interrupted"
    assert store.verdicts(experiment.id) == []
    assert statuses(suite) == ["passed", "failed"]
    result.stdout.fnmatch_lines(["interrupted 2/4: gates were not judged"])


def test_maxfail_that_stops_after_the_last_run_still_judges(suite: Suite) -> None:
    suite.write(FOUR_RUNS.replace("!= 2", "!= 4"))
    suite.run("-x", "--experiment-gate=max(latency_s) <= 1")
    store = suite.store()
    assert store.experiments()[0].status == "finished"
    assert len(store.verdicts(store.experiments()[0].id)) == 1


def test_last_failed_selects_single_runs(suite: Suite) -> None:
    suite.write(FOUR_RUNS)
    suite.pytester.runpytest_inprocess("-p", "no:asyncio").assert_outcomes(passed=3, failed=1)
    suite.pytester.runpytest_inprocess("-p", "no:asyncio", "--lf").assert_outcomes(failed=1)
    assert statuses(suite) == ["failed"]


def test_setup_show_and_durations_show_runs(suite: Suite) -> None:
    suite.write(FOUR_RUNS)
    result = suite.run("--setup-show", "--durations=0", "-vv")
    result.stdout.fnmatch_lines(["*SETUP    F experiment_run[[]1[]]*", "*s call     test_suite.py::test_x[[]run*"])


def test_an_experiment_records_when_capturing_and_the_terminal_are_off(suite: Suite) -> None:
    suite.write(FOUR_RUNS)
    suite.run("-s", "-p", "no:terminal")
    assert statuses(suite) == ["passed", "failed", "passed", "passed"]


def test_async_tests_run_natively_on_one_loop(suite: Suite) -> None:
    suite.write("""
        import asyncio, pytest
        loops = set()
        @pytest.mark.experiment(n=3)
        async def test_x(async_bot, record_metric):
            loops.add(id(asyncio.get_running_loop()))
            bot = async_bot("You answer.")
            answers = await asyncio.gather(*(bot(f"question {i}") for i in range(4)))
            record_metric("answers", len(answers))
        def test_one_loop(): assert len(loops) == 1
    """)
    suite.run("-W", "error", "--experiment-name=x").assert_outcomes(passed=4)
    store = suite.store()
    experiment = store.experiment("x")
    calls = store.calls(experiment.id)
    assert len(calls) == 12
    assert all(sum(call.run_id == run.id for call in calls) == 4 for run in store.runs(experiment.id))


def test_a_failing_async_test_shows_its_assertion(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=1)
        async def test_x(): assert [1, 2] == [1, 3]
    """)
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*At index 1 diff: 2 != 3*"])


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_pytest_asyncio_keeps_its_own_tests(suite: Suite, mode: str) -> None:
    suite.write("""
        import pytest, pytest_asyncio
        @pytest_asyncio.fixture
        async def number(): return 7
        @pytest.mark.asyncio
        async def test_theirs(number): assert number == 7
        @pytest.mark.experiment(n=2)
        @pytest.mark.asyncio
        async def test_both(number, async_bot, record_metric):
            await async_bot("You.")("Hello")
            record_metric("number", number)
        @pytest.mark.experiment(n=2)
        async def test_ours(async_bot): await async_bot("You.")("Hello")
    """)
    result = suite.pytester.runpytest_subprocess(
        f"--asyncio-mode={mode}", "-o", "asyncio_default_fixture_loop_scope=function", "-p", "no:cacheprovider"
    )
    result.assert_outcomes(passed=5)
    store = suite.store()
    experiment = store.experiments()[0]
    assert len({call.run_id for call in store.calls(experiment.id)}) == 4


def test_anyio_keeps_its_own_tests(suite: Suite) -> None:
    suite.write("""
        import pytest
        pytestmark = pytest.mark.anyio
        @pytest.fixture
        def anyio_backend(): return "asyncio"
        @pytest.fixture
        async def number(): return 7
        @pytest.mark.experiment(n=2)
        async def test_x(number, async_bot, record_metric):
            await async_bot("You.")("Hello")
            record_metric("number", number)
    """)
    suite.run("--experiment-name=x").assert_outcomes(passed=2)
    store = suite.store()
    assert len(store.calls(store.experiment("x").id)) == 2


def test_pytest_timeout_works_beside(suite: Suite) -> None:
    suite.write("""
        import pytest, threading
        @pytest.mark.experiment(n=1)
        @pytest.mark.timeout(0.3)
        def test_x(): threading.Event().wait(60)
    """)
    suite.run("-p", "timeout").assert_outcomes(failed=1)
    assert statuses(suite) == ["error"]


def test_plain_tests_run_between_experiments(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=2)
        def test_a(): pass
        def test_plain(): pass
        @pytest.mark.experiment(n=2)
        def test_b(): pass
    """)
    suite.run().assert_outcomes(passed=5)
    assert len(statuses(suite)) == 4


def test_a_keyboard_interrupt_keeps_what_was_recorded(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=4, gates=["pass_rate >= 0.5"])
        def test_x(experiment_run, record_metric):
            record_metric("index", experiment_run.index)
            if experiment_run.index == 3: raise KeyboardInterrupt
    """)
    result = suite.run(IN_TURN, new_process=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["interrupted 2/4: gates were not judged"])
    store = suite.store()
    experiment = store.experiments()[0]
    assert (experiment.status, experiment.exit_status) == ("interrupted", 2)
    assert [run.status for run in store.runs(experiment.id)] == ["passed", "passed", "crashed"]
    assert len(store.metrics(experiment.id)) == 3


def test_the_garbage_collector_is_left_as_it_was(suite: Suite) -> None:
    suite.write("""
        import gc, pytest
        before = gc.get_threshold()
        @pytest.mark.experiment(n=2)
        def test_x(): assert gc.get_threshold() > before
    """)
    before = gc.get_threshold()
    suite.run().assert_outcomes(passed=2)
    assert gc.get_threshold() == before
