"""Which runs may overlap, and why others are executed one at a time."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any

import pytest

from pytest_llmexp.runtest.collection import RunPlan, plan_key
from pytest_llmexp.runtest.options import Settings
from pytest_llmexp.runtest.private_api.parking import wide_parameters

#: Fixtures that change the whole process. Runs in flight together are torn down first in, first out, so that what
#: one of these undoes would be another run's; and what one shows would be of all runs.
EXCLUSIVE_FIXTURES = frozenset(
    (
        "monkeypatch",
        "caplog",
        "capsys",
        "capfd",
        "capsysbinary",
        "capfdbinary",
        "capteesys",
        "recwarn",
        "subtests",
        "pytester",
        "testdir",
        "mocker",
        "class_mocker",
        "module_mocker",
        "package_mocker",
        "session_mocker",
        "freezer",
        "time_machine",
        "fs",
        "benchmark",
        "benchmark_weave",
        "respx_mock",
        "requests_mock",
        "httpx_mock",
        "httpserver",
        "responses",
        "aioresponses",
        "vcr",
        "vcr_cassette",
        "socket_disabled",
        "socket_enabled",
        "anyio_backend",
        "_session_faker_seed",
    )
)
PATCHING_MARKS = frozenset({"vcr", "block_network", "default_cassette", "freeze_time", "time_machine"})


class Lanes:
    """Tells the lane of a run: runs of one lane may be set up at once, as they share every wider fixture."""

    def __init__(self, config: pytest.Config, settings: Settings, suspects: Collection[str] = ()) -> None:
        self.alone: dict[str, str] = {}  # test -> why its runs are executed one at a time, where a user may wonder
        self._config = config
        self._exclusive = EXCLUSIVE_FIXTURES | set(settings.exclusive_fixtures)
        self._suspects = suspects
        self._known: dict[pytest.Item, Hashable] = {}

    def lane(self, item: pytest.Item | None) -> Hashable:
        """Return the lane of an item; None for one that must be executed alone."""
        if item is None:
            return None
        if item not in self._known:
            self._known[item] = self._find(item)
        return self._known[item]

    def forget(self, item: pytest.Item) -> None:
        """Drop what is known of an item that was executed."""
        self._known.pop(item, None)

    def refusal(self, name: str) -> str | None:
        """Say why a body in flight must not ask for a fixture; None if it may."""
        if name not in self._exclusive:
            return None
        return (
            f"request.getfixturevalue({name!r}) in a run that overlaps with others: {name} changes the whole process. "
            f"Take {name} as an argument of the test, or mark it @pytest.mark.experiment(concurrency=1)"
        )

    def _find(self, item: pytest.Item) -> Hashable:
        plan = item.stash.get(plan_key, None)
        if plan is None or not isinstance(item, pytest.Function):
            return None
        if plan.mark.concurrency == 1 or item.nodeid in self._suspects or self._looks_inside():
            return None
        marks = list(item.iter_markers())
        if reason := self._reason(item, {mark.name for mark in marks}):
            self.alone.setdefault(plan.test, reason)
            return None
        filters = tuple(str(mark.args) for mark in marks if mark.name == "filterwarnings")
        return (item.parent, wide_parameters(item), filters)

    def _looks_inside(self) -> bool:
        """Say whether the user wants to see one item after the other."""
        option = self._config.option
        return any(getattr(option, name, False) for name in ("usepdb", "trace", "setuponly", "setupshow", "setupplan"))

    def _reason(self, item: pytest.Function, marks: set[str]) -> str | None:
        if used := self._exclusive.intersection(item.fixturenames):
            return f"uses {', '.join(sorted(used))}"
        if patching := marks & PATCHING_MARKS:
            return f"is marked {', '.join(sorted(patching))}"
        if "asyncio" in marks and (scope := _wide_loop_scope(item)) is not None:
            return f"has the asyncio loop_scope {scope}"
        return None


def _wide_loop_scope(item: pytest.Function) -> str | None:
    """Return the loop scope of a test of pytest-asyncio if its loop is shared with other tests."""
    mark: Any = item.get_closest_marker("asyncio")
    if mark is None:
        return None
    given = mark.kwargs.get("loop_scope") or mark.kwargs.get("scope")
    scope = str(given or _ini(item.config, "asyncio_default_test_loop_scope") or "function")
    return None if scope == "function" else scope


def _ini(config: pytest.Config, name: str) -> Any:
    """Return an option of another plugin; None where that is not installed, or too old to know it."""
    try:
        return config.getini(name)
    except (ValueError, KeyError):
        return None


def test_limit(plan: RunPlan, share: int, workers: int) -> int:
    """Return how many runs of a test may be in flight in one of `workers` processes."""
    own = plan.mark.concurrency
    return share if own is None else min(share, max(1, own // workers))
