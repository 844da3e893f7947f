"""A view as plain data, for JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from pytest_llmexp.core.models import Experiment
from pytest_llmexp.core.summary import distinct_runs
from pytest_llmexp.lifecycle import as_it_stands
from pytest_llmexp.report.view import ExperimentView
from pytest_llmexp.store import Store


def experiment_row(store: Store, experiment: Experiment) -> dict[str, Any]:
    """Return one experiment as a row of a list: its own fields, the number of runs, the verdicts counted."""
    return {
        **experiment_document(as_it_stands(experiment)),
        "runs": len(distinct_runs(store.runs(experiment.id))),
        "gates": dict(Counter(str(verdict.verdict) for verdict in store.verdicts(experiment.id))),
    }


def experiment_document(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment's fields, without the plan it was executed by."""
    document = asdict(experiment)
    document["metadata"] = {key: part for key, part in experiment.metadata.items() if key != "plan"}
    return document


def view_document(view: ExperimentView) -> dict[str, Any]:
    """Return everything a view holds: experiment, summaries, verdicts, runs with metrics, prompts, totals."""
    return {
        "experiment": experiment_document(view.experiment),
        "summaries": [
            asdict(summary)
            for test in view.tests
            for summaries in (test.overall, *test.cases.values())
            for summary in summaries
        ],
        "verdicts": [asdict(verdict) for verdict in view.verdicts],
        "runs": [
            {**asdict(run), "metrics": {metric.name: metric.value for metric in view.metrics.get(run.id, ())}}
            for run in view.runs
        ],
        "prompts": [asdict(version) for version in view.prompts],
        "calls": view.calls._asdict(),
        "planned_runs": view.planned,
    }
