"""pytest-xdist: the controller begins and finishes, workers record. Never imports xdist. Light to import.

Both sides use documented hooks, and `workerinput`/`workeroutput`, which xdist's how-to names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_llmexp.runtest.options import Settings

KEY = "llmexp"
_RUN_ID = r"[\[-]run\d+[\]-]"  # compiled when it is needed: start-up cost
_MODES = ("load", "worksteal", "loadfile", "loadscope", "loadgroup", "each")
_CREW = "llmexp-crew"


def is_controller(config: pytest.Config) -> bool:
    """Say whether this process only distributes tests. Known once all plugins are configured."""
    return config.pluginmanager.has_plugin("dsession")


def worker_input(config: pytest.Config) -> dict[str, Any] | None:
    """Return what the controller sent to this worker, None in any other process."""
    sent: dict[str, Any] | None = getattr(config, "workerinput", {}).get(KEY)
    return sent


def equip_worker(node: Any, settings: Settings, experiment_id: str, board: str, resumed: Sequence[str] | None) -> None:
    """Send a worker what it needs: what affects collection is decided once, by the controller.

    Raises pytest.UsageError for a worker on another machine, which could not reach an SQLite store.
    """
    spec = node.gateway.spec
    if not spec.popen and (settings.db.startswith("sqlite") or "://" not in settings.db):
        raise pytest.UsageError(
            f"worker {spec} may be on another machine and cannot reach the SQLite store {settings.db}; "
            "run the workers here (-n), or use a store that every machine reaches (PostgreSQL)"
        )
    worker, workers = node.workerinput["workerid"], node.workerinput["workercount"]
    node.workerinput[KEY] = {
        "settings": settings.to_plain(),
        "experiment_id": experiment_id,
        "board": board,
        "resumed": None if resumed is None else list(resumed),
        "worker": worker,
        "workers": workers,
        "limit": share(settings.concurrency, workers, int("0" + worker.removeprefix("gw")) % workers),
        "suspects": _outstanding_suspects(node.config),
    }


def share(total: int, workers: int, position: int) -> int:
    """Return a process's part of `total` bodies in flight; at least one.

    >>> [share(8, 3, position) for position in range(3)]
    [3, 3, 2]
    """
    return max(1, total // workers + (position < total % workers))


def may_hold_experiments(node_ids: Sequence[str]) -> bool:
    """Say whether ids that a worker collected look like runs. The controller sees nothing but ids."""
    return any(re.search(_RUN_ID, node_id) for node_id in node_ids)


def make_scheduler(config: pytest.Config, stock: Any) -> Any:
    """Return a scheduler that keeps workers supplied with runs and finds those that crash.

    Those of other plugins are left alone.
    """
    mode = config.getoption("dist", "no")
    if mode not in _MODES or not type(stock).__module__.startswith("xdist."):
        return stock
    from pytest_llmexp.runtest.schedulers import ExperimentScheduling  # start-up cost: only controllers need it

    crew = _Crew()
    config.pluginmanager.register(crew, _CREW)
    crew.scheduler = ExperimentScheduling(config, stock, mode, crew)
    return crew.scheduler


class _Crew:
    """What the controller knows of its workers."""

    def __init__(self) -> None:
        self.scheduler: Any = None
        self.lost: set[str] = set()  # ids of workers that ended without a word
        self.reported: set[str] = set()
        self._reported: set[tuple[Any, str]] = set()

    def share(self, node: Any) -> int:
        return int(node.workerinput[KEY]["limit"])

    def suspects(self, node: Any) -> list[str]:
        return list(node.workerinput[KEY]["suspects"])

    def was_reported(self, node: Any, node_id: str) -> bool:
        return (node, node_id) in self._reported

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self.reported.add(report.nodeid)
            self._reported.add((getattr(report, "node", None), report.nodeid))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        if not hasattr(node, "workeroutput"):  # which xdist sets when a worker says that it has finished
            self.lost.add(node.workerinput["workerid"])

    def forget(self, node: Any, node_id: str) -> None:
        self._reported.discard((node, node_id))


def crew_of(config: pytest.Config) -> _Crew | None:
    """Return what a controller knows of its workers; None where their scheduler is not ours."""
    crew = config.pluginmanager.get_plugin(_CREW)
    return crew if isinstance(crew, _Crew) else None


def _outstanding_suspects(config: pytest.Config) -> list[str]:
    crew = crew_of(config)
    return crew.scheduler.suspects if crew and crew.scheduler else []


def report_back(config: pytest.Config, report: dict[str, Any] | None, usage_error: str | None) -> None:
    """Leave what the controller must know where xdist takes it from at the worker's end."""
    config.workeroutput[KEY] = {"report": report, "usage_error": usage_error}  # type: ignore[attr-defined]


def read_report(node: Any) -> tuple[dict[str, Any] | None, str | None]:
    """Return a worker's report and usage error, once; nothing if it died before it could say."""
    left = getattr(node, "workeroutput", {}).pop(KEY, {})  # xdist tells of an interrupted worker's end twice
    return left.get("report"), left.get("usage_error")
