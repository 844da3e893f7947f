"""The example suite, executed as a reader would: in a copy, offline, by a pytest of its own."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_llmexp import open_store
from pytest_llmexp.core.models import BotSpec, Call, Experiment, Metric, PromptVersion, Run, Summary, Verdict
from pytest_llmexp.core.summary import IMPLICIT_METRICS

pytestmark = pytest.mark.xdist_group("example_suite")  # one worker, which executes the suite once for all tests
SUITE = Path(__file__).parents[2] / "example_suite"
FAILING_GATE = "mean(name_length) <= 3"
TICKETS = (
    *("charged_twice", "card_declined", "crash", "slow_page"),
    *("locked_out", "new_email", "parcel_lost", "wrong_item"),
)

RUNS = {
    "test_async.py::test_majority_of_five": {"": 5},
    "test_gates.py::TestNames::test_product": {"": 10},
    "test_gates.py::TestNames::test_company": {"": 5},
    "test_gates.py::test_short_name": {"": 20},
    "test_job_names.py::test_job_name": {"0.0": 10, "1.0": 10},
    "test_summaries.py::test_summary": {"open_ended": 10, "with_a_limit": 10},
    "test_tickets.py::test_triage": dict.fromkeys(TICKETS, 5),
    "test_tools.py::test_right_tool": {"order": 5, "hours": 5},
}
METRICS = {
    "test_async.py::test_majority_of_five": {"agreement", "positive"},
    "test_gates.py::TestNames::test_product": {"name_length", "words"},
    "test_gates.py::TestNames::test_company": {"name_length", "words"},
    "test_gates.py::test_short_name": {"name_length"},
    "test_job_names.py::test_job_name": {"name_length", "appeal", "mentions_ai"},
    "test_summaries.py::test_summary": {"words", "mentions_product"},
    "test_tickets.py::test_triage": {"correct"},
    "test_tools.py::test_right_tool": {"right_tool", "right_argument"},
}
OF_THE_MODULE = {"mean(name_length) <= 60", "max(name_length) <= 120"}
GATES = {
    "test_gates.py::TestNames::test_product": OF_THE_MODULE | {"p90(words) <= 15"},
    "test_gates.py::TestNames::test_company": OF_THE_MODULE | {"p90(words) <= 15", "rate(words <= 8) >= 0.5"},
    "test_gates.py::test_short_name": OF_THE_MODULE | {"pass_rate >= 0.2"},
    "test_job_names.py::test_job_name": {"mean(name_length) <= 40", "pass_rate >= 0.9"},
    "test_tickets.py::test_triage": {"pass_rate(correct) >= 0.5"},
}
PROMPTS = {
    *("test_async.judge_review", "test_gates.suggest", "test_summaries.open_ended", "test_summaries.with_a_limit"),
    *("test_job_names.namer_sysprompt", "test_job_names.describe"),
    *("test_job_names.judge_sysprompt", "test_job_names.rate"),
    *("test_tickets.triage_sysprompt", "test_tickets.sort_ticket", "test_tools.shop_sysprompt"),
}


class Session(NamedTuple):
    """A session of pytest on a copy of the suite: how it ended, and all it stored."""

    exit_status: int
    output: str
    experiments: list[Experiment]
    runs: list[Run]
    metrics: list[Metric]
    calls: list[Call]
    bots: list[BotSpec]
    prompts: list[PromptVersion]
    summaries: list[Summary]
    verdicts: list[Verdict]

    def test_of(self, run_id: str | None) -> str:
        return next(run.test for run in self.runs if run.id == run_id)


RunSuite = Callable[..., Session]


@pytest.fixture(scope="module")
def run_suite(tmp_path_factory: pytest.TempPathFactory) -> RunSuite:
    """Return a function that executes the suite, or one of its files, in a new copy."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "LLMEXP_", "PYTEST_", "GITHUB_"))
    }

    def run(*arguments: str, file: str = "") -> Session:
        copy = tmp_path_factory.mktemp("project") / "example_suite"
        shutil.copytree(SUITE, copy, ignore=shutil.ignore_patterns("message_log.db*", "__pycache__", ".*"))
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", f"example_suite/{file}", "--experiment-name=first", *arguments],
            cwd=copy.parent,
            env={**environment, "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return _session(ended, copy / "message_log.db")

    return run


def _session(ended: "subprocess.CompletedProcess[str]", db: Path) -> Session:
    output = ended.stdout + ended.stderr
    assert db.exists(), output
    with open_store(db, read_only=True) as store:
        experiments = store.experiments()
        (experiment,) = experiments
        return Session(
            ended.returncode,
            output,
            experiments,
            store.runs(experiment.id),
            store.metrics(experiment.id),
            store.calls(experiment.id),
            store.bots(experiment.id),
            store.prompt_versions(experiment.id),
            store.summaries(experiment.id),
            store.verdicts(experiment.id),
        )


@pytest.fixture(scope="module")
def first(run_suite: RunSuite) -> Session:
    """Return what `pytest example_suite --experiment-name=first` left behind."""
    return run_suite()


@pytest.fixture(scope="module")
def distributed(run_suite: RunSuite) -> Session:
    """Return what the same command with `-n 2` left behind."""
    return run_suite("-n", "2")


def test_suite_passes_and_finishes_one_experiment(first: Session) -> None:
    assert first.exit_status == 0, first.output
    (experiment,) = first.experiments
    assert (experiment.name, experiment.status, experiment.exit_status) == ("first", "finished", 0)
    assert experiment.tags == {"project": "examples"}
    assert "not an LLM" in experiment.model_source


def test_every_run_of_every_case_is_recorded(first: Session) -> None:
    assert _run_counts(first) == RUNS
    assert all(run.status == "passed" for run in first.runs if run.test != "test_gates.py::test_short_name")
    assert {run.status for run in first.runs} <= {"passed", "failed"}


def test_every_run_has_every_metric(first: Session) -> None:
    assert _metric_counts(first) == {
        (test, name): sum(RUNS[test].values()) for test, names in METRICS.items() for name in names
    }
    kinds = {(metric.name, metric.kind) for metric in first.metrics}
    assert {("mentions_ai", "boolean"), ("appeal", "ordinal"), ("agreement", "float")} <= kinds
    assert all(metric.detail["bounds"] == [1, 10] for metric in first.metrics if metric.name == "appeal")


def test_calls_of_a_metric_are_evaluation_and_all_others_generation(first: Session) -> None:
    roles = Counter((first.test_of(call.run_id), call.role) for call in first.calls)
    assert 10 <= roles.pop(("test_tools.py::test_right_tool", "generation")) <= 2 * 10  # it may answer without a tool
    assert roles.pop(("test_job_names.py::test_job_name", "evaluation")) == 20
    assert roles.pop(("test_async.py::test_majority_of_five", "generation")) == 5 * 5
    assert roles == {
        (test, "generation"): sum(cases.values())
        for test, cases in RUNS.items()
        if not test.startswith(("test_tools.py", "test_async.py"))
    }
    assert {call.status for call in first.calls} == {"ok"}


def test_prompts_and_bots_are_recorded(first: Session) -> None:
    assert {version.name for version in first.prompts} == PROMPTS
    assert {"namer_sysprompt", "judge_sysprompt", "triage_sysprompt", "shop_sysprompt"} <= {
        bot.name for bot in first.bots
    }
    assert {bot.temperature for bot in first.bots if bot.name == "namer_sysprompt"} == {0.0, 1.0}


def test_what_examples_record_of_a_run_is_stored(first: Session) -> None:
    triage = [run for run in first.runs if run.test == "test_tickets.py::test_triage"]
    correct = {metric.run_id: metric.value for metric in first.metrics if metric.name == "correct"}
    assert all(run.input == run.params["ticket"] and run.expected == run.params["expected"] for run in triage)
    assert {run.id: float(run.output == run.expected) for run in triage} == correct
    tags = {run.test: run.tags for run in first.runs if run.test.startswith("test_gates.py")}
    assert tags["test_gates.py::TestNames::test_product"] == {"area": "naming", "model": "any"}
    assert tags["test_gates.py::test_short_name"] == {"area": "naming"}
    assert {run.case_id: run.tags for run in first.runs if run.test == "test_summaries.py::test_summary"} == {
        "open_ended": {"style": "free"},
        "with_a_limit": {"style": "limited"},
    }


def test_all_gates_pass(first: Session) -> None:
    assert _gates(first) == GATES
    assert {verdict.verdict for verdict in first.verdicts} == {"passed"}


def test_documented_flag_fails_a_gate(run_suite: RunSuite) -> None:
    documented = re.findall(r'--experiment-gate "(.+)"', (SUITE / "test_gates.py").read_text(encoding="utf-8"))
    assert documented == [FAILING_GATE]
    failed = run_suite("--experiment-gate", FAILING_GATE, file="test_gates.py")
    assert failed.exit_status == 1, failed.output
    assert f"GATE FAILED test_short_name: {FAILING_GATE}" in failed.output
    assert {verdict.test for verdict in failed.verdicts if verdict.verdict == "failed"} == {
        test for test in RUNS if test.startswith("test_gates.py")
    }
    assert {verdict.gate for verdict in failed.verdicts if verdict.verdict == "failed"} == {FAILING_GATE}


@pytest.mark.xdist
def test_workers_record_the_same_rows(first: Session, distributed: Session) -> None:
    assert distributed.exit_status == 0, distributed.output
    assert {run.worker for run in distributed.runs} == {"gw0", "gw1"}
    assert _run_counts(distributed) == _run_counts(first)
    assert _metric_counts(distributed) == _metric_counts(first)
    assert _gates(distributed) == _gates(first)
    assert _call_counts(distributed) == _call_counts(first)
    assert {bot.name for bot in distributed.bots} == {bot.name for bot in first.bots}
    assert {(version.name, version.hash) for version in distributed.prompts} == {
        (version.name, version.hash) for version in first.prompts
    }


@pytest.mark.xdist
def test_workers_summaries_have_the_same_n(first: Session, distributed: Session) -> None:
    assert _summarised(distributed) == _summarised(first)
    recorded = {(summary.test, summary.metric) for summary in first.summaries}
    assert recorded == {(test, name) for test, names in METRICS.items() for name in {*names, *IMPLICIT_METRICS}}


def test_readme_lists_every_example_and_the_failing_gate() -> None:
    readme = (SUITE / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+\.py)`", readme, re.MULTILINE)) == sorted(
        path.name for path in SUITE.glob("test_*.py")
    )
    assert re.findall(r'--experiment-gate "(.+)"', readme) == [FAILING_GATE]


def _run_counts(session: Session) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for run in session.runs:
        cases = counts.setdefault(run.test, {})
        cases[run.case_id] = cases.get(run.case_id, 0) + 1
    return counts


def _metric_counts(session: Session) -> Counter[tuple[str, str]]:
    return Counter((session.test_of(metric.run_id), metric.name) for metric in session.metrics)


def _call_counts(session: Session) -> Counter[tuple[str, str]]:
    """Count the calls of each test and role, but those of the bot that makes a second call when it uses a tool."""
    return Counter(
        (test, str(call.role))
        for call in session.calls
        if "test_tools.py" not in (test := session.test_of(call.run_id))
    )


def _gates(session: Session) -> dict[str, set[str]]:
    gates: dict[str, set[str]] = {}
    for verdict in session.verdicts:
        gates.setdefault(verdict.test, set()).add(verdict.gate)
    return gates


def _summarised(session: Session) -> set[tuple[str, str | None, str, int, int]]:
    return {
        (summary.test, summary.case_id, summary.metric, summary.n, summary.missing) for summary in session.summaries
    }
