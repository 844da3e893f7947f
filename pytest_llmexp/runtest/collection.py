"""From marked tests to items, one per run; every wrong use is found here, before a call is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_llmexp.core.errors import ConfigurationError
from pytest_llmexp.core.gates import parse_gate
from pytest_llmexp.core.redact import safe_identity
from pytest_llmexp.runtest.marks import NAME, ExperimentMark, count_runs, is_experiment, read_marks

RUN_PARAMETER = "experiment_run"
plan_key = pytest.StashKey["RunPlan"]()


@dataclass(frozen=True)
class RunPlan:
    """Which run of which case of which test an item is."""

    test: str
    case_id: str
    run_index: int
    params: dict[str, Any]
    mark: ExperimentMark


def multiply(metafunc: pytest.Metafunc, runs: int | None) -> None:
    """Parametrize a marked test into its runs. Called after all other parameters, so that runs vary fastest."""
    if RUN_PARAMETER not in metafunc.fixturenames:
        metafunc.fixturenames.append(RUN_PARAMETER)
    indices = range(1, (runs or count_runs(metafunc.definition)) + 1)
    metafunc.parametrize(RUN_PARAMETER, indices, indirect=True, ids=[f"run{index}" for index in indices])


def plan_items(
    items: Sequence[pytest.Item],
    runs: int | None,
    session_gates: tuple[str, ...],
    redact: Callable[[str], str],
) -> list[str]:
    """Give every experiment item its `RunPlan` (in its stash) and return what is wrong, a line per test."""
    problems = [*_gate_problems(session_gates)]
    marks: dict[str, ExperimentMark | None] = {}
    for item in items:
        if not is_experiment(item) or _only_inherits(item):
            continue
        test = test_name(item)
        if test not in marks:
            try:
                marks[test] = _mark_of(item, runs, () if problems else session_gates)
            except ConfigurationError as error:
                marks[test] = None
                problems.append(f"{test}: {error}")
        mark = marks[test]
        if mark is not None:
            item.stash[plan_key] = _plan(item, test, mark, redact)
    return problems


def _only_inherits(item: pytest.Item) -> bool:
    """Say whether an item that is no test function, such as a doctest, just sits in a marked module."""
    return not isinstance(item, pytest.Function) and not any(mark.name == NAME for mark in item.own_markers)


def _gate_problems(session_gates: tuple[str, ...]) -> list[str]:
    problems = []
    for gate in session_gates:
        try:
            parse_gate(gate)
        except ConfigurationError as error:
            problems.append(f"--experiment-gate: {error}")
    return problems


def _mark_of(item: pytest.Item, runs: int | None, session_gates: tuple[str, ...]) -> ExperimentMark:
    callspec = getattr(item, "callspec", None)
    if not isinstance(item, pytest.Function) or callspec is None or RUN_PARAMETER not in callspec.params:
        raise ConfigurationError(
            f"the experiment mark is on a {type(item).__name__}, which cannot be executed n times; "
            "mark a test function or a method of a plain class (not of unittest.TestCase)"
        )
    return read_marks(item, runs, session_gates)


def test_name(item: pytest.Item) -> str:
    """The node id without parameters and without what other plugins add to it."""
    name = getattr(item, "originalname", None) or item.name
    parent = item.parent.nodeid if item.parent else ""
    return f"{parent}::{name}" if parent else name


def _plan(item: pytest.Item, test: str, mark: ExperimentMark, redact: Callable[[str], str]) -> RunPlan:
    callspec = item.callspec  # type: ignore[attr-defined]
    params = dict(callspec.params)
    index = params.pop(RUN_PARAMETER)
    return RunPlan(test, safe_identity(_case_id(callspec.id, index), redact), index, params, mark)


def _case_id(full_id: str, index: int) -> str:
    """The item's id without the run: the last `run<index>` in it, whatever other plugins appended."""
    run = f"run{index}"
    if full_id == run:
        return ""
    if full_id.endswith(f"-{run}"):
        return full_id[: -len(run) - 1]
    found = list(re.finditer(rf"(?:^|-){run}(?=-|$)", full_id))
    if not found:
        return full_id
    start, end = found[-1].span()
    return (full_id[:start] + full_id[end:]).strip("-")
