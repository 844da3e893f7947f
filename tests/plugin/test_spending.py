"""Spending limits: no call starts once a limit is reached, nothing looks green then, and it is said what was spent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from pytest_llmexp.cli import main
from pytest_llmexp.core.models import Experiment
from pytest_llmexp.localmodel import Answer, LocalModelServer, Request, Usage
from pytest_llmexp.store import Store
from tests.conftest import Suite

WORKERS = pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
CENT = "[pytest]\nexperiment_prices =\n    priced = 100, 100\n"  # a call of 100 tokens costs a cent
ONE_CALL = """
    import pytest
    @pytest.mark.experiment(n=40, gates=["pass_rate >= 0.01", "mean(length) >= 1"])
    def test_x(bot, record_metric):
        record_metric("length", len(bot("Name a job.", model="priced")("Hello")))
"""


def cent(request: Request) -> Answer:
    return Answer("a name", usage=Usage(60, 40))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalModelServer]:
    """Return a server whose every answer costs a cent, which the suites ask."""
    with LocalModelServer(cent, latency_s=0.02) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        yield running


@pytest.fixture
def priced(suite: Suite, server: LocalModelServer) -> Suite:
    """Return a suite of 40 runs, with a call of a cent each."""
    suite.pytester.makeini(CENT)
    suite.write(ONE_CALL)
    return suite


def latest(suite: Suite) -> tuple[Store, Experiment]:
    store = suite.store()
    return store, store.experiments()[0]


def verdicts(suite: Suite) -> list[str]:
    store, experiment = latest(suite)
    return [verdict.verdict for verdict in store.verdicts(experiment.id)]


@WORKERS
@pytest.mark.parametrize("limit", ["--experiment-max-cost=0.10", "--experiment-max-tokens=1000"])
def test_no_call_starts_once_the_limit_is_reached(
    priced: Suite, server: LocalModelServer, workers: tuple[str, ...], limit: str
) -> None:
    result = priced.run(limit, "--experiment-concurrency=4", "--junitxml=junit.xml", "-ra", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    made = len(server.requests)
    assert 10 <= made <= 10 + 4 + 10 * bool(workers)  # in flight, and what the other worker did not know of
    store, experiment = latest(priced)
    assert len(store.calls(experiment.id)) == made  # a refused call leaves no row
    assert len(store.runs(experiment.id)) <= made + 4  # no further bodies start
    assert experiment.status == "interrupted"
    assert verdicts(priced) == ["undecided", "undecided"]
    assert all("spending limit" in verdict.detail for verdict in store.verdicts(experiment.id))
    statuses = Counter(run.status for run in store.runs(experiment.id))
    assert statuses["passed"] == made
    assert set(statuses) <= {"passed", "crashed"}
    spent = f"${made / 100:.2f} of $0.10 ({made * 100:,} tokens)"
    if "tokens" in limit:
        spent = f"{made * 100:,} of 1,000 tokens (${made / 100:.2f})"
    line = f"SPENDING LIMIT reached: {spent} after {made} of 40 runs; {40 - made} not run"
    assert result.outlines.count(line) == 2  # as a failure, and in the summary
    assert f"40 runs ({made} passed, {40 - made} not run)" in result.stdout.str()
    result.assert_outcomes(passed=made, skipped=40 - made + 2, failed=1)
    result.stdout.fnmatch_lines(["SKIPPED *not run: spending limit reached: * of *"])
    cases = [*ElementTree.parse(priced.path / "junit.xml").getroot().iter("testcase")]
    assert sum(case.find("skipped") is not None for case in cases) == 40 - made + 2
    assert sum(case.find("failure") is not None for case in cases) == 1


@WORKERS
def test_a_limit_that_is_not_reached_changes_nothing(priced: Suite, workers: tuple[str, ...]) -> None:
    result = priced.run("--experiment-max-cost=0.41", "--experiment-max-tokens=4001", *workers)
    assert result.ret == 0
    result.assert_outcomes(passed=42)
    store, experiment = latest(priced)
    assert (experiment.status, verdicts(priced)) == ("finished", ["passed", "passed"])
    assert store.call_totals(experiment.id).cost_usd == pytest.approx(0.40)
    assert {call.price_source for call in store.calls(experiment.id)} == {"experiment_prices"}
    assert "SPENDING LIMIT" not in result.stdout.str()


def test_a_limit_that_the_last_calls_reach_stops_nothing(priced: Suite) -> None:
    result = priced.run("--experiment-max-cost=0.40")
    assert result.ret == 0
    assert verdicts(priced) == ["passed", "passed"]
    assert "SPENDING LIMIT" not in result.stdout.str()


def test_an_ordinary_test_that_is_refused_a_call_fails_and_leaves_a_whole_experiment_alone(priced: Suite) -> None:
    priced.write(
        """
        import openai
        def test_plain():
            with openai.OpenAI(api_key="x") as client:
                client.chat.completions.create(model="priced", messages=[{"role": "user", "content": "Hello"}])
        """,
        "test_zz.py",
    )
    result = priced.run("--experiment-max-cost=0.40")
    result.assert_outcomes(passed=42, failed=1)
    result.stdout.fnmatch_lines(["*SpendingStop: not run: spending limit reached: $0.40 of $0.40"])
    assert verdicts(priced) == ["passed", "passed"]
    assert "SPENDING LIMIT" not in result.stdout.str()


def test_quiet_sessions_and_show_say_it_too(priced: Suite) -> None:
    result = priced.run("-qq", "--experiment-max-cost=0.10", "--experiment-name=short")
    line = next(text for text in result.outlines if text.startswith("SPENDING LIMIT reached: $0.1"))
    _, experiment = latest(priced)
    shown = CliRunner().invoke(main, ["show", experiment.id, "--db", str(priced.path / "message_log.db")])
    assert line in shown.output.splitlines()


def test_runs_one_at_a_time_stop_too(priced: Suite, server: LocalModelServer) -> None:
    result = priced.run("--experiment-concurrency=1", "--experiment-max-cost=0.05")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(server.requests) == 5
    store, experiment = latest(priced)
    assert len(store.runs(experiment.id)) == 5  # those left out were not begun


@pytest.mark.parametrize("swallow", ["raise", "pass", "assert 0", "pytest.skip('no')"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_run_cut_short_is_neither_passed_nor_failed(
    suite: Suite, server: LocalModelServer, swallow: str, concurrency: int
) -> None:
    suite.pytester.makeini(CENT)
    suite.write(f"""
        import pytest
        @pytest.mark.experiment(n=4, gates=["pass_rate >= 0.01", "mean(done) >= 0.5"])
        def test_x(bot, record_metric):
            ask = bot("Name a job.", model="priced")
            try:
                for _ in range(3): ask("Hello")
            except BaseException:
                {swallow}
            record_metric("done", True)
    """)
    result = suite.run(f"--experiment-concurrency={concurrency}", "--experiment-max-cost=0.05", "-rs")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    store, experiment = latest(suite)
    statuses = Counter(run.status for run in store.runs(experiment.id))
    assert set(statuses) <= {"passed", "crashed"}
    assert statuses["crashed"] >= 1
    assert statuses["passed"] * 3 <= len(server.requests)
    assert verdicts(suite) == ["undecided", "undecided"]
    line = r"SPENDING LIMIT reached: \$0.0\d of \$0.05 \(\d+ tokens\) after \d of 4 runs; \d cut short, "
    assert re.search(line, result.stdout.str())
    result.stdout.fnmatch_lines(["SKIPPED*cut short: spending limit reached: *"])
    assert len(server.requests) <= 5 + concurrency


def test_coroutines_and_streams_stop_too(suite: Suite, server: LocalModelServer) -> None:
    suite.pytester.makeini(CENT)
    suite.write("""
        import asyncio, openai, pytest
        @pytest.mark.experiment(n=30, gates=["pass_rate >= 0.01"])
        async def test_x():
            async with openai.AsyncOpenAI(api_key="x") as client:
                stream = await client.chat.completions.create(
                    model="priced", messages=[{"role": "user", "content": "Hello"}], stream=True,
                    stream_options={"include_usage": True})
                async for chunk in stream: pass
    """)
    result = suite.run("--experiment-max-cost=0.05")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert 5 <= len(server.requests) <= 5 + 8
    assert verdicts(suite) == ["undecided"]
    result.stdout.fnmatch_lines(["SPENDING LIMIT reached: $0.* of $0.05 *"])


@WORKERS
def test_a_model_without_a_price_is_not_asked(suite: Suite, server: LocalModelServer, workers: tuple[str, ...]) -> None:
    suite.write(ONE_CALL.replace("n=40", "n=3").replace("priced", "nobody-knows"))
    result = suite.run("--experiment-max-cost=5", "--experiment-model=nobody-knows", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert server.requests == []
    result.assert_outcomes(failed=3, skipped=2)
    result.stdout.fnmatch_lines(
        ["llmexp: WARNING: model 'nobody-knows' at *has no known price*--experiment-max-tokens*"]
    )
    result.stdout.fnmatch_lines(["model 'nobody-knows' at * has no known price*experiment_prices*"])
    store, experiment = latest(suite)
    assert {run.status for run in store.runs(experiment.id)} == {"error"}
    assert "SPENDING LIMIT" not in result.stdout.str()


def test_tokens_of_a_model_without_a_price_can_be_limited(suite: Suite, server: LocalModelServer) -> None:
    suite.write(ONE_CALL.replace("priced", "nobody-knows"))
    result = suite.run("--experiment-max-tokens=500")
    assert 5 <= len(server.requests) <= 5 + 8
    result.stdout.fnmatch_lines(["SPENDING LIMIT reached: * of 500 tokens after * of 40 runs; * not run"])


def test_an_answer_that_tells_no_tokens_stops_what_cannot_be_checked(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalModelServer(lambda _: Answer("a name", usage=None)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        suite.pytester.makeini(CENT)
        suite.write(ONE_CALL)
        result = suite.run("--experiment-max-cost=5", "--experiment-concurrency=2")
        assert len(server.requests) <= 4
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert verdicts(suite) == ["undecided", "undecided"]
    result.stdout.fnmatch_lines(["SPENDING LIMIT cannot be checked: an answer of * told no tokens*: $0.00 of $5.00*"])


def test_errors_of_the_server_are_not_spending(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalModelServer(lambda request: Answer("no", status=400) if request.index % 2 else cent(request)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        suite.pytester.makeini(CENT)
        suite.write(ONE_CALL.replace("n=40", "n=10"))
        result = suite.run("--experiment-max-cost=0.06")
    result.assert_outcomes(passed=6, failed=5, skipped=1)
    assert "SPENDING LIMIT" not in result.stdout.str()


def test_ordinary_tests_go_on(priced: Suite, server: LocalModelServer) -> None:
    priced.write("def test_plain(): pass", "test_zz.py")
    result = priced.run("--experiment-max-cost=0.01", "-v")
    result.stdout.fnmatch_lines(["test_zz.py::test_plain PASSED*"])


def test_wider_fixtures_of_runs_left_out_are_torn_down_in_order(priced: Suite) -> None:
    priced.write("""
        import pytest
        @pytest.fixture(scope="module")
        def wide():
            yield
            print("torn down", flush=True)
        @pytest.mark.experiment(n=20)
        def test_x(wide, bot): bot("Name a job.", model="priced")("Hello")
        @pytest.mark.experiment(n=20)
        def test_y(wide, bot): bot("Name a job.", model="priced")("Hello")
    """)
    priced.write("def test_plain(): print('plain', flush=True)", "test_zz.py")
    result = priced.run("--experiment-max-cost=0.03", "-s")
    assert result.parseoutcomes()["failed"] == 1
    text = result.stdout.str()
    assert text.count("torn down") == 1
    assert text.index("torn down") < text.index("plain")


# what it is going to cost


def test_the_next_experiment_is_estimated(priced: Suite) -> None:
    priced.run("--experiment-name=main")
    _, earlier = latest(priced)
    result = priced.run("--experiment-name=next", "--experiment-runs=20")
    result.stdout.fnmatch_lines([f"llmexp: 20 runs, about $0.20 (from main, {earlier.started_at[:10]})"])
    result = priced.run("--experiment-max-cost=0.10", "--experiment-max-tokens=9000")
    result.stdout.fnmatch_lines(
        ["llmexp: 40 runs, about $0.40 and 4,000 tokens (from next, *): more than the limit of $0.10, which will stop*"]
    )
    result = priced.run("--experiment-max-cost=1", "-q")
    assert "about" not in result.stdout.str()


@pytest.mark.xdist
def test_the_controller_estimates_what_its_workers_collected(priced: Suite) -> None:
    priced.run("--experiment-name=main")
    result = priced.run("--experiment-name=main", "--experiment-runs=3", "-n", "2")
    result.stdout.fnmatch_lines(["llmexp: 3 runs, about $0.03 (from main, *)"])


def test_an_unfinished_experiment_is_no_estimate(priced: Suite) -> None:
    priced.run("--experiment-max-cost=0.05")
    assert "about" not in priced.run("--experiment-max-cost=0.05").stdout.str()


def test_tests_that_nobody_knows_are_left_out_of_the_estimate(priced: Suite) -> None:
    priced.run("--experiment-name=main")
    priced.write("import pytest\n@pytest.mark.experiment(n=2)\ndef test_new(): pass", "test_new.py")
    result = priced.run("--experiment-name=next")
    result.stdout.fnmatch_lines(["llmexp: 42 runs, about $0.40 for 40 of them (from main, *)"])


@pytest.mark.parametrize(
    ("model", "says"), [("dear", "llmexp: 40 runs, about $0.80 (from main, *)"), ("nobody-knows", None)]
)
def test_another_default_model_is_estimated_by_its_own_price(priced: Suite, model: str, says: str | None) -> None:
    priced.pytester.makeini(CENT + "    dear = 200, 200\n")
    priced.write(ONE_CALL.replace(', model="priced"', ""))
    priced.run("--experiment-name=main", "--experiment-model=priced")
    result = priced.run("--experiment-name=next", f"--experiment-model={model}")
    if says is None:
        assert "about" not in result.stdout.str()
    else:
        result.stdout.fnmatch_lines([says])


def test_the_built_in_sampler_is_not_estimated(suite: Suite) -> None:
    suite.write(ONE_CALL.replace('model="priced"', "").replace("n=40", "n=2"))
    suite.run("--experiment-name=main")
    assert "about" not in suite.run("--experiment-name=main", "--experiment-max-cost=1").stdout.str()


# options


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        *(
            (f"--experiment-max-cost={amount}", "an amount of USD above 0")
            for amount in ("0", "-1", "nan", "inf", "", "5$")
        ),
        *(
            (f"--experiment-max-tokens={count}", "a whole number of tokens from 1")
            for count in ("0", "-1", "1.5", "1e6", "")
        ),
    ],
)
def test_a_wrong_limit_is_a_usage_error(suite: Suite, argument: str, says: str) -> None:
    suite.write(ONE_CALL)
    result = suite.run(argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert argument.partition("=")[0] in result.stderr.str()
    assert says in result.stderr.str()


@pytest.mark.parametrize(
    "line", ["priced", "priced = 1", "priced = 1, 2, 3", "= 1, 2", "priced = -1, 2", "priced = x, nan"]
)
def test_a_wrong_price_is_a_usage_error(suite: Suite, line: str) -> None:
    suite.pytester.makeini(f"[pytest]\nexperiment_prices =\n    {line}\n")
    suite.write(ONE_CALL)
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "MODEL = INPUT, OUTPUT" in result.stderr.str()


def test_limits_come_from_the_environment_and_the_ini_file(priced: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    priced.pytester.makeini(CENT + "experiment_max_tokens = 700\n")
    priced.run().stdout.fnmatch_lines(["SPENDING LIMIT reached: * of 700 tokens*"])
    monkeypatch.setenv("LLMEXP_MAX_COST", "0.02")
    priced.run().stdout.fnmatch_lines(["SPENDING LIMIT reached: $* of $0.02, * of 700 tokens after *"])


@pytest.mark.parametrize("left", ["break", "stream.close()"])
def test_a_stream_that_is_left_early_cannot_be_limited_and_stops(suite: Suite, left: str) -> None:
    suite.write(f"""
        import pytest
        @pytest.mark.experiment(n=9)
        def test_x(llm_client):
            asked = [{{"role": "user", "content": "tell me more"}}]
            stream = llm_client.chat.completions.create(model="m", messages=asked, stream=True)
            for chunk in stream:
                {left}
    """)
    with LocalModelServer(lambda _: "a long answer of many words") as server:
        options = (f"--experiment-base-url={server.base_url}", "--experiment-model=m", "--experiment-concurrency=1")
        result = suite.run("--experiment-max-tokens=1000", *options)
        assert len(server.requests) == 1
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("limit", ["--experiment-max-cost=1", "--experiment-max-tokens=9", "--experiment-rpm=9"])
def test_a_limit_of_calls_that_nobody_sees_is_refused(suite: Suite, limit: str) -> None:
    suite.write("import pytest\n@pytest.mark.experiment(n=1)\ndef test_x(): pass")
    result = suite.run(limit, "--experiment-capture=off")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {limit.partition('=')[0]}: this needs the calls to be seen*"])
