"""`RunView`: one run with everything that happened in it, as a tree of steps and calls, read from the store once."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_llmexp.core.errors import UnknownRunError
from pytest_llmexp.core.models import Call, Experiment, PromptUse, Run, Step
from pytest_llmexp.core.printable import one_line
from pytest_llmexp.core.summary import distinct_runs
from pytest_llmexp.lifecycle import as_it_stands
from pytest_llmexp.report.plain import experiment_document
from pytest_llmexp.report.view import long_label, run_label
from pytest_llmexp.store import Store

UNATTRIBUTED = "unattributed"
_MAX_NAMED = 8
_MAX_NAME = 300  # characters of a label that is to be typed


@dataclass(frozen=True)
class Node:
    """A step or a call, and what happened in it, in the order of its beginning."""

    record: Step | Call
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class RunView:
    """One run as people look at it; `run` is None for what belongs to no run."""

    experiment: Experiment
    run: Run | None
    metrics: Mapping[str, float]
    prompts: Sequence[PromptUse]
    tree: Sequence[Node]


def load_run_view(store: Store, experiment: Experiment, ref: str) -> RunView:
    """Read a run by its id, the beginning of it or its label; `unattributed` is what belongs to no run."""
    experiment = as_it_stands(experiment)
    run = None if ref == UNATTRIBUTED else find_run(store.runs(experiment.id), ref)
    run_id = run.id if run else None
    metrics = store.metrics(experiment.id, run_id) if run else []
    return RunView(
        experiment=experiment,
        run=run,
        metrics={metric.name: metric.value for metric in metrics},
        prompts=store.prompt_uses(experiment.id, run_id) if run else [],
        tree=grow(
            store.steps(experiment.id, run_id, unattributed=run is None),
            store.calls(experiment.id, run_id, unattributed=run is None),
        ),
    )


def find_run(runs: Sequence[Run], ref: str) -> Run:
    """Return the run that `ref` names: an id or the beginning of one, or a label from its end, such as `run3`.

    Raises UnknownRunError, which lists the candidates by names that can be given instead.
    """
    found = [run for run in runs if run.id == ref]
    if not found and ref.startswith("run_"):
        found = [run for run in runs if run.id.startswith(ref)]
    distinct = distinct_runs(runs)
    if not found:
        found = [run for run in distinct if _is_named(run, ref)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownRunError(f"{ref!r} names {len(found)} runs, give one of these: {_named(found, distinct)}")
    known = f"its runs: {_named(distinct, distinct)}" if runs else "it has no runs"
    raise UnknownRunError(f"no run of this experiment has the id or name {ref!r}; {known}")


def _is_named(run: Run, ref: str) -> bool:
    label = long_label(run)
    short = label[len(run.test) + 1 : -1]
    return ref in (label, short, f"run{run.run_index}") or label.endswith(f"::{ref}")


def _named(runs: Sequence[Run], distinct: Sequence[Run]) -> str:
    names = [f"{_own_name(run, distinct)} ({run.id})" for run in runs[:_MAX_NAMED]]
    return ", ".join([*names, *([f"and {len(runs) - _MAX_NAMED} more"] if len(runs) > _MAX_NAMED else [])])


def _own_name(run: Run, distinct: Sequence[Run]) -> str:
    """Return the shortest end of a run's label that means no other, as a shell takes it; else its short name."""
    label = long_label(run)
    path = run.test.split("::")
    for place in range(len(path) - 1, -1, -1):
        name = "::".join(path[place:]) + label.removeprefix(run.test)
        if one_line(name, _MAX_NAME) == name and [each for each in distinct if _is_named(each, name)] == [run]:
            return shlex.quote(name)
    return one_line(run_label(run), 60)


def grow(steps: Iterable[Step], calls: Iterable[Call]) -> list[Node]:
    """Return the roots of the tree.

    A call that follows from another (a tool round, a repair) hangs under that one, any other call and every step
    under its step; what has no parent, or one that was not recorded, is a root.
    """
    records: list[Step | Call] = [*steps, *calls]
    records.sort(key=lambda record: record.id.partition("_")[2])  # ids sort by time
    nodes = {record.id: Node(record) for record in records}
    roots: list[Node] = []
    for node in nodes.values():
        parent = next((nodes[name] for name in _parents(node.record) if name in nodes), None)
        (roots if parent is None else parent.children).append(node)
    return roots


def _parents(record: Step | Call) -> tuple[str | None, ...]:
    return (record.parent_step_id,) if isinstance(record, Step) else (record.parent_call_id, record.step_id)


def run_document(view: RunView) -> dict[str, Any]:
    """Return everything a view holds as plain data: experiment, run, metrics, prompts and the tree."""
    return {
        "experiment": experiment_document(view.experiment),
        "run": asdict(view.run) if view.run else None,
        "metrics": dict(view.metrics),
        "prompts": [asdict(use) for use in view.prompts],
        "tree": [_node_document(node) for node in view.tree],
    }


def _node_document(node: Node) -> dict[str, Any]:
    return {
        "type": "step" if isinstance(node.record, Step) else "call",
        **asdict(node.record),
        "children": [_node_document(child) for child in node.children],
    }
