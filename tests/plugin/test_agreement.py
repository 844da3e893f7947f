"""R22: exit status, terminal, JUnit XML, JSON and the store say the same, with and without workers."""

from __future__ import annotations

import json
import re
from collections import Counter
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from pytest_llmexp.cli import main
from tests.conftest import Suite

SUITE = r"""
    import pytest
    @pytest.mark.experiment(n=4, gates=["mean(score) >= 2", "max(score) <= 3", "p50(depth) >= 1", "pass_rate >= 0.5"])
    @pytest.mark.parametrize("case", ["plain", "<&\"'>", "\x0bcontrol"])
    def test_x(bot, case, experiment_run, record_metric):
        record_metric("score", experiment_run.index)
        answer = bot("You.")("Hello")
        assert experiment_run.index != 4, f"]]> \x00\x1b[31m\ud800 \uffff {answer}"
        if experiment_run.index == 3 and case == "plain": raise OSError("network \x08")
"""


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_every_account_of_a_session_agrees(suite: Suite, workers: tuple[str, ...]) -> None:
    suite.write(SUITE)
    result = suite.run("--experiment-name=x", "--junitxml=junit.xml", "-v", *workers, new_process=True)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    store = suite.store()
    experiment = store.experiment("x")
    assert experiment.exit_status == result.ret
    statuses = Counter(run.status for run in store.runs(experiment.id))
    assert statuses == {"passed": 8, "failed": 3, "error": 1}
    words = Counter(verdict.verdict for verdict in store.verdicts(experiment.id))
    assert words == {"passed": 1, "failed": 1, "undecided": 2}

    line = next(line for line in reversed(result.outlines) if " in " in line and "failed" in line)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", line) if word != "s"}
    assert counts == {"failed": 2, "passed": 9, "skipped": 2, "tolerated": 3}

    suites = ElementTree.parse(suite.path / "junit.xml").getroot().find("testsuite")
    assert suites is not None
    assert [suites.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["16", "2", "0", "2"]

    shown = CliRunner().invoke(main, ["show", "x", "--json", "--db", str(suite.path / "message_log.db")])
    document = json.loads(shown.output)
    assert Counter(run["status"] for run in document["runs"]) == statuses
    assert Counter(verdict["verdict"] for verdict in document["verdicts"]) == words
    failed = next(verdict for verdict in document["verdicts"] if verdict["verdict"] == "failed")
    assert f"GATE FAILED test_x: {failed['gate']}, {failed['detail']}" in result.stdout.str()
