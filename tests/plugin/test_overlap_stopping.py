"""Stopping early while bodies overlap: everything is torn down in order, nothing recorded is lost."""

from __future__ import annotations

import pytest

from tests.plugin.overlapping import Overlapping

LOCAL = ("-p", "no:xdist")

SUITE = """
    failed = threading.Event()
    @pytest.fixture(scope="session")
    def of_session(): yield; told("-session")
    @pytest.fixture(scope="module")
    def of_module(of_session): yield; told("-module")
    @pytest.fixture
    def own(of_module, experiment_run): told("+", experiment_run.index); yield; told("-", experiment_run.index)
"""


def check_torn_down(told: list[list[str]]) -> set[str]:
    """Return the runs that were set up; each was torn down once, and the wider fixtures after all of them."""
    begun = [words[1] for words in told if words[0] == "+"]
    ended = [words[1] for words in told if words[0] == "-"]
    assert len(begun) == len(set(begun))
    assert sorted(ended) == sorted(begun)
    assert told[-2:] == [["-module"], ["-session"]]
    return set(begun)


def test_exitfirst_keeps_what_ends_in_time_and_says_so(overlapping: Overlapping) -> None:
    overlapping.write(
        SUITE
        + """
    begun = []
    @pytest.mark.experiment(n=50, gates=["mean(index) >= 1"])
    def test_x(own, experiment_run, record_metric):
        record_metric("index", experiment_run.index)
        begun.append(experiment_run.index)
        while len(begun) < 8: time.sleep(0.01)
        if experiment_run.index == 2: failed.set(); assert 0
        failed.wait(60)
        if experiment_run.index > 2: time.sleep(0.3)
    """
    )
    result = overlapping.suite.run(*LOCAL, "-x")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["note: 6 run(s) had ended when the session stopped, and were recorded, but not reported"]
    )
    result.stdout.no_fnmatch_line("*were dropped*")
    begun = check_torn_down(overlapping.told())
    assert len(begun) == 8
    statuses = overlapping.statuses()
    assert (statuses[1], statuses[2]) == ("passed", "failed")
    assert {statuses[int(index)] for index in begun - {"1", "2"}} == {"passed"}  # they ended in time, and were kept
    store = overlapping.suite.store()
    experiment = store.experiments()[0]
    assert (experiment.status, store.verdicts(experiment.id)) == ("interrupted", [])


@pytest.mark.parametrize(
    ("option", "stops"), [("-x", True), ("--maxfail=2", True), ("--sw", True), ("--maxfail=3", False)]
)
def test_nothing_is_begun_once_enough_runs_have_failed_before_their_turn(
    overlapping: Overlapping, option: str, stops: bool
) -> None:
    overlapping.write("""
        begun, ended = [], []
        @pytest.mark.experiment(n=30)
        def test_x(experiment_run):
            told("+")
            begun.append(experiment_run.index)
            while len(begun) < 8: time.sleep(0.01)
            if experiment_run.index == 1:
                end = time.monotonic() + 60
                while len(ended) < len(begun) - 1 or time.monotonic() < end - 59.5: time.sleep(0.01)
            if experiment_run.index > 3: time.sleep(0.3)
            ended.append(experiment_run.index)
            assert experiment_run.index not in (2, 3)
    """)
    overlapping.suite.run(*LOCAL, option)
    begun = len(overlapping.told())
    assert begun <= 10 if stops else begun == 30  # the first that fails makes room for one


def test_exitfirst_tells_of_runs_that_had_ended(overlapping: Overlapping) -> None:
    overlapping.write("""
        ended = threading.Semaphore(0)
        @pytest.mark.experiment(n=4)
        def test_x(experiment_run):
            if experiment_run.index == 1:
                assert all(ended.acquire(timeout=60) for _ in range(3))
                time.sleep(0.5)  # what is left of the others once they said so
                pytest.fail("enough")
            ended.release()
    """)
    result = overlapping.suite.run(*LOCAL, "-x")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["note: 3 run(s) had ended when the session stopped, and were recorded, but not reported"]
    )
    assert overlapping.statuses() == {1: "failed", 2: "passed", 3: "passed", 4: "passed"}


def test_maxfail_counts_failures_in_the_order_of_the_runs(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=20)
        def test_x(experiment_run): assert experiment_run.index not in (3, 4, 9)
    """)
    overlapping.suite.run(*LOCAL, "--maxfail=2").assert_outcomes(passed=2, failed=2)


def test_exitfirst_cancels_coroutines_in_flight(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=6)
        async def test_x(experiment_run):
            if experiment_run.index == 1: await asyncio.sleep(0.1); assert 0
            try: await asyncio.Event().wait()
            finally: told("cancelled")
    """)
    overlapping.suite.run(*LOCAL, "-x").assert_outcomes(failed=1)
    assert overlapping.told() == [["cancelled"]] * 5
    statuses = overlapping.statuses()
    assert statuses.pop(1) == "failed"
    assert set(statuses.values()) == {"crashed"}


def test_an_interrupt_counts_runs_as_what_they_are_recorded_as(overlapping: Overlapping) -> None:
    overlapping.write("""
        begun = []
        @pytest.mark.experiment(n=4)
        def test_x(experiment_run):
            begun.append(experiment_run.index)
            while len(begun) < 4: time.sleep(0.01)
            if experiment_run.index == 1: os.kill(os.getpid(), 2)
            time.sleep(0.3 if experiment_run.index < 4 else 60)
    """)
    result = overlapping.suite.run(*LOCAL, new_process=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert overlapping.statuses() == {1: "passed", 2: "passed", 3: "passed", 4: "crashed"}
    result.stdout.fnmatch_lines(
        [
            "4 runs (3 passed, 1 interrupted)*",
            "note: 1 run(s) in flight were dropped when the session stopped",
            "note: 3 run(s) had ended when the session stopped, and were recorded, but not reported",
        ]
    )


@pytest.mark.parametrize("way", ["raise KeyboardInterrupt", "pytest.exit('enough')", "os.kill(os.getpid(), 2)"])
@pytest.mark.parametrize(("define", "pause"), [("def", "time.sleep"), ("async def", "await asyncio.sleep")])
def test_an_interrupt_tears_everything_down(overlapping: Overlapping, define: str, pause: str, way: str) -> None:
    overlapping.write(
        SUITE
        + f"""
    begun = []
    @pytest.mark.experiment(n=8)
    {define} test_x(own, experiment_run):
        begun.append(experiment_run.index)
        while len(begun) < 8: {pause}(0.01)  # a signal in a setup would leave that one half made, as ever
        if experiment_run.index == 3: {way}
        {pause}(0.6)  # longer than a signal takes
    """
    )
    result = overlapping.suite.run(*LOCAL, new_process=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert len(check_torn_down(overlapping.told())) == 8
    assert "INTERNALERROR" not in result.stdout.str()


def test_an_interrupt_in_a_setup_tears_everything_down(overlapping: Overlapping) -> None:
    overlapping.write(
        SUITE
        + """
    @pytest.fixture
    def stopping(own, experiment_run):
        if experiment_run.index == 4: pytest.exit("enough")
    @pytest.mark.experiment(n=20)
    def test_x(stopping): time.sleep(0.05)
    """
    )
    result = overlapping.suite.run(*LOCAL, new_process=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert check_torn_down(overlapping.told()) == {"1", "2", "3", "4"}
