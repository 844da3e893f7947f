"""Fixtures of runs that overlap: scopes, parameters, teardown, those that must be alone, and async ones."""

from __future__ import annotations

import pytest

from tests.plugin.overlapping import Overlapping, peak

LOCAL = ("-p", "no:xdist")


def test_every_run_has_its_own_function_fixtures_and_shares_the_wider_ones(overlapping: Overlapping) -> None:
    overlapping.write("""
        barrier = threading.Barrier(4, timeout=60)
        @pytest.fixture(scope="session")
        def session(): told("+session"); yield; told("-session")
        @pytest.fixture(scope="module")
        def module(session): told("+module"); yield object(); told("-module")
        @pytest.fixture
        def names(): return []
        @pytest.fixture
        def own(module, names, request):
            names.append(request.node.name); told("+", request.node.name)
            yield names
            told("-", request.node.name)
        class TestC:
            def setup_method(self): self.mine = object()
            def teardown_method(self): assert self.mine
            @pytest.fixture(scope="class")
            def of_class(self): told("+class"); yield; told("-class")
            @pytest.mark.experiment(n=4)
            def test_x(self, own, of_class, request):
                barrier.wait()
                assert own == [request.node.name]
        def test_after(own): told("after")
    """)
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=5)
    told = [" ".join(words) for words in overlapping.told()]
    runs = [f"test_x[run{index}]" for index in range(1, 5)]
    assert told[:2] == ["+session", "+module"]
    assert [line for line in told if line.startswith("+ test_x")] == [f"+ {run}" for run in runs]
    assert [line for line in told if line.startswith("- test_x")] == [f"- {run}" for run in runs]
    assert told.index("- test_x[run4]") < told.index("-class") < told.index("+ test_after")
    assert told[-2:] == ["-module", "-session"]
    assert [told.count(line) for line in ("+session", "+module", "+class")] == [1, 1, 1]


def test_wider_fixtures_keep_nothing_of_runs_that_are_over(overlapping: Overlapping) -> None:
    overlapping.write(
        """
        @pytest.fixture(scope="module")
        def shared(): return []

        @pytest.fixture
        def own(shared, request):
            request.getfixturevalue("late")
            yield

        @pytest.fixture
        def late(shared): yield

        @pytest.mark.experiment(n=12)
        def test_it(own): pass

        def test_after(request, shared):
            definition = request._arg2fixturedefs["shared"][-1]
            told(len(definition._finalizers))
        """
    )
    overlapping.suite.run("--experiment-concurrency=4").assert_outcomes(passed=13)
    assert overlapping.told() in ([["0"]], [["1"]])  # one of pytest's own, since pytest 9


def test_values_of_a_wider_parameter_are_never_mixed(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.fixture(scope="module", params=["a", "b"])
        def model(request): told("open", request.param); yield request.param; told("close", request.param)
        @pytest.mark.experiment(n=3)
        def test_x(model): told("body", model)
    """)
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=6)
    expected = [[what, value] for value in "ab" for what in ("open", "body", "body", "body", "close")]
    assert overlapping.told() == expected


ALONE = """
    @pytest.mark.experiment(n=4)
    def test_x({fixture}): told("+"); time.sleep(0.01); told("-")
"""


@pytest.mark.parametrize("fixture", ["monkeypatch", "capsys", "caplog", "recwarn"])
def test_a_fixture_that_changes_the_process_lets_runs_be_executed_one_at_a_time(
    overlapping: Overlapping, fixture: str
) -> None:
    overlapping.write(ALONE.format(fixture=fixture))
    result = overlapping.suite.run(*LOCAL)
    result.assert_outcomes(passed=4)
    assert peak(overlapping.told()) == 1
    result.stdout.fnmatch_lines([f"note: one run at a time: test_x (uses {fixture})"])


def test_the_ini_file_can_name_such_fixtures_used_through_others_too(overlapping: Overlapping) -> None:
    overlapping.suite.pytester.makeini("[pytest]\nexperiment_exclusive_fixtures = patched_clock")
    overlapping.suite.write(
        """
        import pytest
        @pytest.fixture
        def patched_clock(): pass
        @pytest.fixture
        def clock(patched_clock): pass
        """,
        "conftest.py",
    )
    overlapping.write(ALONE.format(fixture="clock"))
    result = overlapping.suite.run(*LOCAL)
    result.assert_outcomes(passed=4)
    assert peak(overlapping.told()) == 1
    result.stdout.fnmatch_lines(["note: one run at a time: test_x (uses patched_clock)"])


def test_what_monkeypatch_sets_is_undone_before_the_next_run(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=4)
        def test_x(monkeypatch, experiment_run):
            assert "LEAK" not in os.environ
            monkeypatch.setenv("LEAK", str(experiment_run.index))
        def test_after(): assert "LEAK" not in os.environ
    """)
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=5)


def test_such_a_fixture_cannot_be_asked_for_in_a_body(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.experiment(n=2)
        def test_x(request): request.getfixturevalue("monkeypatch")
        @pytest.mark.experiment(n=2, concurrency=1)
        def test_alone(request): request.getfixturevalue("monkeypatch")
    """)
    result = overlapping.suite.run(*LOCAL)
    result.assert_outcomes(failed=2, passed=2)
    result.stdout.fnmatch_lines(["*getfixturevalue('monkeypatch')*changes the whole process*concurrency=1*"])


def test_a_fixture_asked_for_in_a_body_is_the_runs_own(overlapping: Overlapping) -> None:
    overlapping.write("""
        barrier = threading.Barrier(4, timeout=60)
        @pytest.fixture
        def late(request): yield []; told("-", request.node.name)
        @pytest.fixture(scope="module")
        def shared(): told("+shared"); time.sleep(0.05); yield 1; told("-shared")
        @pytest.mark.experiment(n=4)
        def test_x(request, experiment_run):
            mine = request.getfixturevalue("late")
            mine.append(experiment_run.index)
            barrier.wait()
            assert mine == [experiment_run.index]
            assert request.getfixturevalue("shared") == 1
    """)
    overlapping.suite.run(*LOCAL).assert_outcomes(passed=4)
    torn_down = [["-", f"test_x[run{index}]"] for index in range(1, 5)]
    assert overlapping.told() == [["+shared"], *torn_down, ["-shared"]]


def test_async_fixtures_live_on_the_loop_of_the_tests(overlapping: Overlapping) -> None:
    overlapping.write("""
        loops = set()
        def loop(): loops.add(asyncio.get_running_loop())
        @pytest.fixture(scope="module")
        async def shared(): loop(); told("+shared"); yield []; loop(); told("-shared")
        @pytest.fixture
        async def own(shared, experiment_run): loop(); yield [experiment_run.index]; loop(); told("-own")
        @pytest.fixture
        async def plain(own): loop(); await asyncio.sleep(0); return own
        @pytest.mark.experiment(n=4)
        async def test_async(own, plain, shared, experiment_run):
            loop(); shared.append(experiment_run.index)
            assert own == plain == [experiment_run.index]
        @pytest.mark.experiment(n=2)
        def test_sync(plain, shared, experiment_run): assert plain == [experiment_run.index]
        class TestClass:
            @pytest.fixture
            async def of_class(self): self.seen = True; return self
            @pytest.mark.experiment(n=2)
            async def test_method(self, of_class): assert of_class is self and self.seen
        def test_one_loop(shared): assert len(loops) == 1 and sorted(shared) == [1, 2, 3, 4]
    """)
    overlapping.suite.run(*LOCAL, "-W", "error").assert_outcomes(passed=9)
    told = [words[0] for words in overlapping.told()]
    assert told == ["+shared", *["-own"] * 6, "-shared"]


def test_an_async_fixture_that_fails_is_an_error(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.fixture
        async def broken(): raise RuntimeError("no fixture")
        @pytest.fixture
        async def twice(): yield 1; yield 2
        @pytest.mark.experiment(n=2)
        async def test_x(broken): pass
        @pytest.mark.experiment(n=2)
        async def test_y(twice): pass
    """)
    result = overlapping.suite.run(*LOCAL)
    result.assert_outcomes(errors=4, passed=2)
    result.stdout.fnmatch_lines(["*RuntimeError: no fixture*", "*the fixture 'twice' yields more than once*"])


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_runs_of_pytest_asyncio_overlap_each_on_its_own_loop(overlapping: Overlapping, mode: str) -> None:
    overlapping.write("""
        import pytest_asyncio
        barrier = threading.Barrier(4, timeout=60)
        @pytest_asyncio.fixture
        async def client(): yield asyncio.get_running_loop(); await asyncio.sleep(0)
        @pytest.mark.asyncio
        @pytest.mark.experiment(n=4)
        async def test_x(client):
            await asyncio.to_thread(barrier.wait)
            assert client is asyncio.get_running_loop()
    """)
    overlapping.suite.pytester.runpytest_subprocess(
        *LOCAL, f"--asyncio-mode={mode}", "-o", "asyncio_default_fixture_loop_scope=function", "-p", "no:cacheprovider"
    ).assert_outcomes(passed=4)


def test_wider_loops_of_pytest_asyncio_and_anyio_are_used_by_one_run_at_a_time(overlapping: Overlapping) -> None:
    overlapping.write("""
        @pytest.mark.asyncio(loop_scope="module")
        @pytest.mark.experiment(n=3)
        async def test_x(): told("+"); await asyncio.sleep(0.01); told("-")
        @pytest.fixture
        def anyio_backend(): return "asyncio"
        @pytest.mark.anyio
        @pytest.mark.experiment(n=3)
        async def test_y(): told("+"); await asyncio.sleep(0.01); told("-")
    """)
    result = overlapping.suite.pytester.runpytest_subprocess(
        *LOCAL, "-o", "asyncio_default_fixture_loop_scope=function", "-p", "no:cacheprovider"
    )
    result.assert_outcomes(passed=6)
    assert peak(overlapping.told()) == 1
    result.stdout.fnmatch_lines(
        [
            "note: one run at a time: test_x (has the asyncio loop_scope module)",
            "note: one run at a time: test_y (uses anyio_backend)",
        ]
    )
