"""What is going to be executed, as an experiment's metadata keeps it: by test its gates, cases and code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from pytest_llmexp.provenance import file_hash
from pytest_llmexp.runtest.collection import plan_key

Plan = dict[str, dict[str, Any]]
AnyPlan = Mapping[str, Mapping[str, Any]]


def make_plan(items: Iterable[pytest.Item], collected: Mapping[str, int]) -> Plan:
    """Return what is going to be executed: per test its gates, per case the number of runs, and `of` how many.

    `source` is what the test's file is told apart by when the experiment goes on.

    `collected` says how many runs each test had before some were deselected.
    """
    planned = [item for item in items if plan_key in item.stash]
    counts = Counter((item.stash[plan_key].test, item.stash[plan_key].case_id) for item in planned)
    made: Plan = {}
    for item in planned:
        plan = item.stash[plan_key]
        if (part := made.get(plan.test)) is None:
            gates = [gate.text for gate in plan.mark.gates]
            part = made[plan.test] = {"gates": gates, "cases": {}, "source": file_hash(item.path)}
        part["cases"][plan.case_id] = counts[plan.test, plan.case_id]
        part["of"] = max(collected.get(plan.test, 0), plan.mark.n * len(part["cases"]))
    return made


def merge_plans(planned: AnyPlan, made: AnyPlan) -> Plan:
    """Return the plan of an experiment that goes on: what is made now, and what was planned and is not selected.

    A test of which runs are left out now is `partial`.
    """
    merged = {test: {**part, "partial": True} for test, part in planned.items()}
    for test, part in made.items():
        earlier = merged.get(test, {"cases": {}, "of": 0})
        cases = dict(earlier["cases"])
        for case, count in part["cases"].items():
            cases[case] = max(count, cases.get(case, 0))
        partial = bool(planned) and cases != part["cases"]
        merged[test] = {**part, "cases": cases, "of": max(part["of"], earlier["of"]), "partial": partial}
    return merged
