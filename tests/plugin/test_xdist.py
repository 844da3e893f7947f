"""The same suite with and without workers leaves the same rows and the same table."""

from __future__ import annotations

import re

import pytest

from tests.conftest import Suite

pytestmark = pytest.mark.xdist

SUITE = """
    import pytest
    @pytest.mark.experiment(n=3, gates=["mean(length) >= 1", "pass_rate >= 0.5"])
    @pytest.mark.parametrize("topic", ["jobs", "towns"])
    def test_a(bot, record_metric, experiment_run, topic):
        answer = bot("You answer.", seed=experiment_run.index, temperature=1.0)(f"About {topic}")
        record_metric("length", len(answer))
        record_metric("index", experiment_run.index)
        assert experiment_run.index != 3
    @pytest.mark.experiment(n=2)
    async def test_b(async_bot, record_metric):
        record_metric("ok", bool(await async_bot("You.", temperature=0)("Hello")))
    def test_plain(): pass
"""


GROUPS = ("file", "scope", "group")


def rows(suite: Suite, name: str) -> dict[str, object]:
    store = suite.store()
    experiment = store.experiment(name)
    runs = {run.id: (run.test, run.case_id, run.run_index) for run in store.runs(experiment.id)}
    return {
        "status": (experiment.status, experiment.exit_status),
        "runs": sorted((*runs[run.id], run.status) for run in store.runs(experiment.id)),
        "metrics": sorted((*runs[m.run_id], m.name, m.kind, m.value) for m in store.metrics(experiment.id)),
        "calls": sorted((*runs[str(c.run_id)], c.status, c.output_tokens) for c in store.calls(experiment.id)),
        "bots": sorted((bot.name, str(bot.params)) for bot in store.bots(experiment.id)),
        "summaries": sorted(
            (s.test, str(s.case_id), s.metric, s.n, s.missing, str(s.mean), str(s.low))
            for s in store.summaries(experiment.id)
            if s.metric != "latency_s"
        ),
        "verdicts": [(v.gate, v.verdict, v.estimate, v.n) for v in store.verdicts(experiment.id)],
    }


def table(result: pytest.RunResult) -> list[str]:
    lines = result.outlines
    start = next(index for index, line in enumerate(lines) if "llmexp: experiment" in line and line.startswith("="))
    return [re.sub(r"latency_s.*|id: .*|=+.*", "", line) for line in lines[start:] if "seconds" not in line]


def test_every_mode_gives_the_same_rows_and_the_same_table(suite: Suite) -> None:
    suite.write(SUITE)
    alone = suite.run("--experiment-name=alone", "-p", "no:xdist", new_process=True)
    expected = rows(suite, "alone")
    assert alone.ret == 0
    stealing, grouping = ("-n", "4", "--dist", "worksteal"), (("-n", "2", "--dist", f"load{of}") for of in GROUPS)
    for number, mode in enumerate((("-n", "0"), ("-n", "2"), stealing, *grouping)):
        result = suite.run(f"--experiment-name=mode{number}", *mode)
        assert result.ret == 0
        assert rows(suite, f"mode{number}") == expected
        assert table(result) == [line.replace("alone", f"mode{number}") for line in table(alone)]
        if mode == ("-n", "2"):
            store = suite.store()
            assert {run.worker for run in store.runs(store.experiment(f"mode{number}").id)} == {"gw0", "gw1"}


def test_dist_each_counts_no_run_twice(suite: Suite) -> None:
    suite.write(SUITE)
    suite.run("--experiment-name=x", "--tx", "2*popen", "--dist", "each", new_process=True)
    store = suite.store()
    summary = next(s for s in store.summaries(store.experiment("x").id) if s.metric == "ok" and s.case_id is None)
    assert summary.n == 2


def test_an_unusable_store_is_a_usage_error_with_workers_too(suite: Suite) -> None:
    suite.write(SUITE)
    (suite.path / "message_log.db").mkdir()
    result = suite.run("-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "message_log.db" in result.stderr.str()
