"""`ExperimentView`: everything a renderer shows of one experiment, read from the store once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmexp.core.ids import short_hash
from pytest_llmexp.core.models import Experiment, PromptVersion, Run, Summary, Verdict
from pytest_llmexp.core.spending import early_end
from pytest_llmexp.core.summary import IMPLICIT_METRICS, MetricValue, distinct_runs
from pytest_llmexp.lifecycle import as_it_stands
from pytest_llmexp.store import CallTotals, Store

_NOT_RUN = "not run"


@dataclass(frozen=True)
class TestView:
    """One test: the summaries over all its cases, those of each case, and its verdicts."""

    __test__ = False  # not a test class, whatever pytest makes of the name

    test: str
    overall: Sequence[Summary]
    cases: Mapping[str, Sequence[Summary]]
    verdicts: Sequence[Verdict]


@dataclass(frozen=True)
class ExperimentView:
    """One experiment as people look at it."""

    experiment: Experiment
    tests: Sequence[TestView]
    runs: Sequence[Run]
    metrics: Mapping[str, Sequence[MetricValue]]
    planned: int
    calls: CallTotals
    prompts: Sequence[PromptVersion]

    @property
    def statuses(self) -> dict[str, int]:
        """How many runs ended in which way, most frequent first; runs that nobody began are `not run`."""
        counts: dict[str, int] = dict(Counter(map(run_status, self.runs)).most_common())
        absent = self.planned - len(self.runs) + counts.pop(_NOT_RUN, 0)
        return {**counts, **({_NOT_RUN: absent} if absent > 0 else {})}

    @property
    def verdicts(self) -> list[Verdict]:
        """All verdicts in the order of the tests."""
        return [verdict for test in self.tests for verdict in test.verdicts]

    @property
    def is_demo(self) -> bool:
        """Whether the built-in stand-in gave some of the answers, so that verdicts say nothing of a model."""
        return self.calls.local > 0

    @property
    def stop(self) -> str | None:
        """The line on the limit or the outage that ended the experiment before all its runs were made."""
        return early_end(self.experiment.metadata)

    @property
    def limited(self) -> int:
        """How many answers said that requests came too fast."""
        return int(self.experiment.metadata.get("limited", 0))

    @property
    def problems(self) -> list[str]:
        """What could not be recorded."""
        return list(self.experiment.metadata.get("problems") or [])


def load_view(store: Store, experiment: Experiment) -> ExperimentView:
    """Read an experiment's view."""
    experiment = as_it_stands(experiment)
    runs = distinct_runs(store.runs(experiment.id))
    summaries = store.summaries(experiment.id)
    plan = experiment.metadata.get("plan") or {}
    verdicts = _as_declared(store.verdicts(experiment.id), plan)
    tests = list(dict.fromkeys([*plan, *(run.test for run in runs), *(summary.test for summary in summaries)]))
    return ExperimentView(
        experiment=experiment,
        tests=[_test_view(test, summaries, verdicts) for test in tests],
        runs=runs,
        metrics=store.metric_values(experiment.id),
        planned=sum(count for part in plan.values() for count in part["cases"].values()),
        calls=store.call_totals(experiment.id),
        prompts=store.prompt_versions(experiment.id),
    )


def _as_declared(verdicts: Sequence[Verdict], plan: Mapping[str, Any]) -> list[Verdict]:
    """Put the verdicts of each test in the order its gates were written in."""

    def place(verdict: Verdict) -> int:
        gates = plan.get(verdict.test, {}).get("gates", [])
        return gates.index(verdict.gate) if verdict.gate in gates else len(gates)

    return sorted(verdicts, key=place)


def _test_view(test: str, summaries: Sequence[Summary], verdicts: Sequence[Verdict]) -> TestView:
    cases: dict[str, list[Summary]] = {}
    overall = []
    for summary in _in_order(summary for summary in summaries if summary.test == test):
        if summary.case_id is None:
            overall.append(summary)
        else:
            cases.setdefault(summary.case_id, []).append(summary)
    return TestView(test, overall, cases, [verdict for verdict in verdicts if verdict.test == test])


def _in_order(summaries: Iterable[Summary]) -> list[Summary]:
    """Recorded metrics first, in the store's order, then the implicit ones in theirs."""

    def place(summary: Summary) -> int:
        return IMPLICIT_METRICS.index(summary.metric) + 1 if summary.metric in IMPLICIT_METRICS else 0

    return sorted(summaries, key=place)


def prompt_labels(prompts: Sequence[PromptVersion]) -> list[str]:
    """Return `name hash` for every prompt version, with the short forms of both."""
    return [f"{version.name.rpartition('.')[2]} {short_hash(version.hash)}" for version in prompts]


def short_name(test: str) -> str:
    """Return a test's name without its file and class."""
    return test.rpartition("::")[2]


def run_status(run: Run) -> str:
    """Return how a run ended; of a crashed one that was refused a call or stopped, what it says of that."""
    said = (run.error or "").partition(":")[0] if run.status == "crashed" else ""
    return said if said in (_NOT_RUN, "cut short", "interrupted") else str(run.status)


def run_label(run: Run) -> str:
    """Return a run's short name, such as `test_title[0.0-run3]`."""
    return short_name(run.test) + long_label(run).removeprefix(run.test)


def long_label(run: Run) -> str:
    """Return a run's name as pytest has it, such as `tests/test_names.py::test_title[0.0-run3]`."""
    case = f"{run.case_id}-" if run.case_id else ""
    return f"{run.test}[{case}run{run.run_index}]"
