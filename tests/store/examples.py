"""Records as a session makes them, for the tests of the store."""

from typing import Any

from pytest_llmexp.core.models import (
    Call,
    Experiment,
    Metric,
    PromptVersion,
    Run,
    Step,
    Summary,
    Verdict,
)

NOON = "2026-01-31T12:00:00.000000Z"


def experiment(id: str = "exp_1", name: str = "x", **fields: Any) -> Experiment:
    """Return an experiment."""
    return Experiment(id=id, name=name, **{"started_at": NOON, **fields})


def run(id: str = "run_1", experiment_id: str = "exp_1", **fields: Any) -> Run:
    """Return a run."""
    return Run(id=id, experiment_id=experiment_id, **{"test": "t", "run_index": 1, "started_at": NOON, **fields})


def call(id: str = "call_1", run_id: str | None = "run_1", **fields: Any) -> Call:
    """Return a call."""
    return Call(id=id, run_id=run_id, **{"experiment_id": "exp_1", "ordinal": 1, "started_at": NOON, **fields})


def step(id: str = "step_1", run_id: str | None = "run_1", **fields: Any) -> Step:
    """Return a step of a run."""
    return Step(id=id, run_id=run_id, **{"experiment_id": "exp_1", "name": "s", "started_at": NOON, **fields})


def metric(name: str = "m", value: float = 1.0, run_id: str = "run_1", **fields: Any) -> Metric:
    """Return a metric."""
    return Metric(run_id=run_id, name=name, value=value, **{"kind": "float", **fields})


def summary(case_id: str | None, mean: float = 1.0, **fields: Any) -> Summary:
    """Return a summary."""
    rest: dict[str, Any] = dict.fromkeys(("sd", "min", "median", "max", "low", "high"))
    rest |= {"experiment_id": "exp_1", "test": "t", "metric": "m", "n": 1, "missing": 0, "method": "none"} | fields
    return Summary(case_id=case_id, mean=mean, **rest)


def verdict(case_id: str | None, **fields: Any) -> Verdict:
    """Return a verdict."""
    rest: dict[str, Any] = {"experiment_id": "exp_1", "test": "t", "gate": "mean(m) > 1", "verdict": "undecided"}
    rest |= {"estimate": None, "low": None, "high": None, "n": 0, "missing": 0} | fields
    return Verdict(case_id=case_id, **rest)


def version(name: str = "mod.p", hash: str = "sha256:00", **fields: Any) -> PromptVersion:
    """Return a prompt version."""
    rest = {"role": "user", "template": "t {{ a }}", "parameters": ("a",), "first_seen_at": NOON, **fields}
    return PromptVersion(name=name, hash=hash, **rest)
