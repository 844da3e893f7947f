"""`--experiment-replay` in a session: what is served, what is said of it, and what gates make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from pytest_llmexp.cli import main
from pytest_llmexp.core.models import Call
from pytest_llmexp.localmodel import LocalModelServer
from tests.conftest import Suite

SUITE = """
    import pytest
    @pytest.fixture(scope="module")
    def warmed_up(llm_client):
        return llm_client.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": "up?"}])

    @pytest.mark.experiment(n=3, gates=["mean(length) > 0"])
    @pytest.mark.parametrize("t", [0.0, 1.0])
    def test_x(bot, record_metric, warmed_up, t):
        record_metric("length", len(bot("Be brief.", temperature=t)("Hello").content))
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalModelServer]:
    """A server whose answers all differ, which the environment names."""
    with LocalModelServer(lambda request: "x" * (request.index + 1)) as started:
        monkeypatch.setenv("OPENAI_BASE_URL", started.base_url)
        monkeypatch.setenv("LLMEXP_MODEL", "gpt-x")
        yield started


@pytest.fixture
def paid(suite: Suite, server: LocalModelServer) -> Suite:
    """A suite that was run once, as experiment `paid`; the server is gone."""
    suite.write(SUITE)
    suite.run("--experiment-name=paid", "-v")
    assert len(server.requests) == 7
    server.close()
    return suite


def calls(suite: Suite, name: str) -> list[Call]:
    store = suite.store()
    return store.calls(store.experiment(name).id)


def values(suite: Suite, name: str) -> dict[tuple[str, int], float]:
    store = suite.store()
    experiment = store.experiment(name)
    metrics = {metric.run_id: metric.value for metric in store.metrics(experiment.id)}
    return {(run.case_id, run.run_index): metrics[run.id] for run in store.runs(experiment.id)}


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_a_session_can_be_repeated_without_its_server(paid: Suite, workers: tuple[str, ...]) -> None:
    result = paid.run("--experiment-name=again", "--experiment-replay=only", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(['llmexp: experiment "again", model gpt-x (recorded answers only), *, replay only'])
    made = calls(paid, "again")
    assert len(made) == (8 if workers else 7)  # each worker sets up the module's fixture
    result.stdout.fnmatch_lines([f"6 runs (6 passed), {len(made)} calls ({len(made)} replayed), *, cost 0 *"])
    assert all(call.replayed_from for call in made)
    assert values(paid, "again") == values(paid, "paid")


def test_auto_makes_the_calls_that_are_new_only(suite: Suite, server: LocalModelServer) -> None:
    suite.write(SUITE)
    suite.run("--experiment-name=paid")
    result = suite.run("--experiment-name=more", "--experiment-replay=auto", "--experiment-runs=5")
    result.stdout.fnmatch_lines(["*replay auto*", "10 runs (10 passed), 11 calls (7 replayed)*"])
    assert len(server.requests) == 7 + 4


def test_a_prompt_that_was_edited_is_named_and_fails_its_runs(paid: Suite) -> None:
    paid.write(SUITE.replace("Be brief.", "Be long."))
    result = paid.run("--experiment-name=edited", "--experiment-replay=only", "--experiment-runs=1")
    assert result.ret == 1
    result.assert_outcomes(failed=2, skipped=1)  # the gate has nothing to decide on
    said = "no answer is recorded for call 1 of test_suite.py::test_x?0.0-run1?, to gpt-x: the nearest one recorded "
    result.stdout.fnmatch_lines([f'E * {said}differs at messages?0?.content: recorded "Be brief.", now "Be long."*'])
    result.stdout.no_fnmatch_line("*_base_client.py*")
    store = paid.store()
    assert {run.status for run in store.runs(store.experiment("edited").id)} == {"error"}
    assert calls(paid, "edited")[0].run_id is None  # the fixture's, which was served


@pytest.mark.parametrize(("metric", "limit"), [("latency_s", "100"), ("cost_usd", "1")])
def test_time_and_cost_of_replayed_runs_are_unknown_and_gates_on_them_undecided(
    paid: Suite, metric: str, limit: str
) -> None:
    gate = f"mean({metric}) < {limit}"
    result = paid.run("--experiment-name=again", "--experiment-replay=only", f"--experiment-gate={gate}")
    store = paid.store()
    experiment = store.experiment("again")
    verdicts = {verdict.gate: verdict.verdict for verdict in store.verdicts(experiment.id)}
    assert verdicts == {"mean(length) > 0": "passed", gate: "undecided"}
    (summary,) = [s for s in store.summaries(experiment.id) if s.metric == metric and s.case_id is None]
    assert (summary.n, summary.missing, summary.mean) == (0, 6, None)
    assert result.ret == 0


def test_ci_replays_a_committed_file_without_key_or_server(
    paid: Suite, monkeypatch: pytest.MonkeyPatch, server: LocalModelServer
) -> None:
    monkeypatch.chdir(paid.path)
    exported = CliRunner().invoke(main, ["export", "replay", "paid", "-o", "answers.jsonl.gz"])
    assert exported.output == f"7 answers of {paid.store().experiment('paid').id} in answers.jsonl.gz\n"
    result = paid.run(
        "--experiment-db=fresh.db", "--experiment-replay=only", "--experiment-replay-from=answers.jsonl.gz"
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*replay only from answers.jsonl.gz", "6 runs (6 passed), 7 calls (7 replayed)*"])


def test_the_built_in_model_is_replayed_without_being_started(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.write(SUITE.replace('"gpt-x"', '"local-sampler"'))
    suite.run("--experiment-name=paid")
    result = suite.run("--experiment-name=again", "--experiment-replay=only")
    assert result.ret == 0
    assert values(suite, "again") == values(suite, "paid")
    result.stdout.fnmatch_lines(["*demo*"])  # it stays what it was: no evidence of a model


def test_runs_of_a_named_experiment_are_replayed(suite: Suite, server: LocalModelServer) -> None:
    suite.write(SUITE)
    for name in ("one", "two"):
        suite.run(f"--experiment-name={name}")
    suite.run("--experiment-name=again", "--experiment-replay=only", "--experiment-replay-from=one")
    assert values(suite, "again") == values(suite, "one") != values(suite, "two")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--experiment-replay=yes"], "--experiment-replay is 'yes'; allowed: off, auto, only"),
        (["--experiment-capture=otel"], "--experiment-capture is 'otel'; allowed: http, off"),
        (
            ["--experiment-replay=auto", "--experiment-capture=off"],
            "--experiment-replay is 'auto', which needs the calls",
        ),
        (["--experiment-replay-from=x"], "--experiment-replay-from serves nothing without --experiment-replay=auto"),
        (["--experiment-replay=only", "--experiment-replay-from=none"], "no experiment has the id or name 'none'"),
        (["--experiment-replay=only", "--experiment-replay-from=none.jsonl.gz"], "there is no file *none.jsonl.gz"),
        (["--experiment-replay=only", "--experiment-replay-from=."], "holds no *.jsonl.gz file"),
    ],
)
def test_what_cannot_be_replayed_is_said_before_the_start(suite: Suite, arguments: list[str], said: str) -> None:
    suite.write(SUITE)
    result = suite.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (result.stderr if "ERROR" in result.stderr.str() else result.stdout).fnmatch_lines([f"ERROR: *{said}*"])


def test_a_place_of_the_ini_file_waits_until_replay_is_asked_for(suite: Suite, server: LocalModelServer) -> None:
    suite.write(SUITE)
    suite.pytester.makeini("[pytest]\nexperiment_replay_from = answers.jsonl.gz")
    assert suite.run("--experiment-name=paid").ret == 0


def test_without_capture_nothing_is_patched_and_no_call_recorded(suite: Suite, server: LocalModelServer) -> None:
    suite.write(
        """
        import threading, openai, pytest
        from pytest_llmexp.tracking.capture import LIBRARIES
        @pytest.mark.experiment(n=1)
        def test_x(bot, record_metric):
            bot("Be brief.")("Hello")
            record_metric("patched", hasattr(threading.Thread.start, "__wrapped__") or any(
                hasattr(kind.send, "__wrapped__")
                for kind in openai.DefaultHttpxClient.__mro__ if "send" in vars(kind)
            ))
    """
    )
    result = suite.run("--experiment-name=off", "--experiment-capture=off")
    result.stdout.fnmatch_lines(["*, capture off", "1 runs (1 passed), 0 calls, cost 0"])
    assert [metric.value for metric in suite.store().metrics(suite.store().experiment("off").id)] == [0]
    suite.run("--experiment-name=on")
    assert [metric.value for metric in suite.store().metrics(suite.store().experiment("on").id)] == [1]
    assert len(server.requests) == 2


def test_export_says_what_it_cannot_do(paid: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paid.path)
    paid.write("import pytest\n@pytest.mark.experiment(n=1)\ndef test_y(): pass", "test_other.py")
    paid.run("test_other.py", "--experiment-name=silent")
    for arguments, said in (
        (["silent"], "holds no answer that could be replayed"),
        (["paid", "-o", "x.json"], "does not end in .jsonl.gz"),
        (["paid", "-o", "missing/x.jsonl.gz"], "there is no folder missing"),
        (["nobody"], "no experiment has the id or name 'nobody'"),
    ):
        result = CliRunner().invoke(main, ["export", "replay", *arguments])
        assert result.exit_code != 0
        assert said in result.output


def test_replayed_calls_are_marked_in_json(paid: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    paid.run("--experiment-name=again", "--experiment-replay=only")
    monkeypatch.chdir(paid.path)
    shown = json.loads(CliRunner().invoke(main, ["show", "again", "--json"]).output)
    assert (shown["calls"]["calls"], shown["calls"]["replayed"]) == (7, 7)
