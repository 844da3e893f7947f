"""`@pytest.mark.experiment(...)`: what it may say, and what all marks of a test say together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_llmexp.core.errors import ConfigurationError, GateSyntaxError
from pytest_llmexp.core.gates import Gate, parse_gate

NAME = "experiment"
DEFAULT_RUNS = 10
_ALLOWED = ("n", "gates", "tags", "timeout", "concurrency")


@dataclass(frozen=True)
class ExperimentMark:
    """What the marks of one test and the options say together."""

    n: int
    gates: tuple[Gate, ...]  # those of the marks
    session_gates: tuple[Gate, ...]  # those of the options, which every test gets
    tags: Mapping[str, str]
    timeout: float | None
    concurrency: int | None = None  # the test's own limit, within that of the session

    @property
    def tolerates_failures(self) -> bool:
        """Whether a gate on the share of passed runs decides, so that a failed run alone does not fail pytest."""
        return any(gate.decides_pass_rate for gate in (*self.gates, *self.session_gates))


def is_experiment(node: pytest.Item) -> bool:
    """Say whether a test carries the mark."""
    return node.get_closest_marker(NAME) is not None


def read_marks(node: pytest.Item, runs: int | None, session_gates: tuple[str, ...]) -> ExperimentMark:
    """Put the marks of a test together; `runs` and `session_gates` come from the options.

    Raises ConfigurationError for what a mark may not say.
    """
    marks = list(node.iter_markers(NAME))  # closest first
    for mark in marks:
        _check(mark)
    timeout, concurrency = _closest(marks, "timeout"), _closest(marks, "concurrency")
    tags: dict[str, str] = {}
    for mark in reversed(marks):
        tags.update({key: str(value) for key, value in (mark.kwargs.get("tags") or {}).items()})
    texts = [gate for mark in reversed(marks) for gate in mark.kwargs.get("gates") or ()]
    gates = {gate.text: gate for gate in map(parse_gate, texts)}
    return ExperimentMark(
        n=runs or count_runs(node),
        gates=tuple(gates.values()),
        session_gates=tuple(map(parse_gate, session_gates)),
        tags=tags,
        timeout=None if timeout is None else float(timeout),
        concurrency=concurrency,
    )


def _closest(marks: list[pytest.Mark], name: str) -> Any:
    return next((mark.kwargs[name] for mark in marks if mark.kwargs.get(name) is not None), None)


def count_runs(node: pytest.Item) -> int:
    """Return the closest n, 10 if no mark gives one, 1 if it cannot be read (`read_marks` then says why)."""
    for mark in node.iter_markers(NAME):
        n = mark.kwargs.get("n")
        if n is not None:
            return n if _is_count(n) else 1
    return DEFAULT_RUNS


def _is_count(n: object) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and n >= 1


def _check(mark: pytest.Mark) -> None:
    if mark.args:
        raise ConfigurationError(f"experiment takes keyword arguments only: write n={mark.args[0]!r}")
    if unknown := [name for name in mark.kwargs if name not in _ALLOWED]:
        raise ConfigurationError(
            f"experiment has no argument {', '.join(map(repr, unknown))}; allowed: {', '.join(_ALLOWED)}"
        )
    for name, check in _CHECKS.items():
        if (value := mark.kwargs.get(name)) is not None:
            check(value)


def _check_n(n: Any) -> None:
    if not _is_count(n):
        raise ConfigurationError(f"n={n!r}: n is the number of runs, a whole number from 1")


def _check_gates(gates: Any) -> None:
    if not isinstance(gates, list | tuple):
        raise ConfigurationError(f"gates={gates!r}: gates is a list of texts, such as gates=['pass_rate >= 0.9']")
    for gate in gates:
        if not isinstance(gate, str):
            raise GateSyntaxError(f"a gate is a text, such as 'pass_rate >= 0.9', not {gate!r}")
        parse_gate(gate)


def _check_tags(tags: Any) -> None:
    if not isinstance(tags, Mapping) or not all(isinstance(key, str) and key for key in tags):
        raise ConfigurationError(f"tags={tags!r}: tags is a dict of texts, such as tags={{'team': 'search'}}")


def _check_timeout(timeout: Any) -> None:
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not math.isfinite(timeout) or timeout <= 0:
        raise ConfigurationError(f"timeout={timeout!r}: timeout is a number of seconds above 0")


def _check_concurrency(concurrency: Any) -> None:
    if not _is_count(concurrency):
        raise ConfigurationError(
            f"concurrency={concurrency!r}: concurrency is how many runs of the test may overlap, a whole number from 1"
        )


_CHECKS = {
    "n": _check_n,
    "gates": _check_gates,
    "tags": _check_tags,
    "timeout": _check_timeout,
    "concurrency": _check_concurrency,
}
