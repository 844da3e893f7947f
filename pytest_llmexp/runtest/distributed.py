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
_RESTARTS_LOSE_TESTS = ("loadfile", "loadscope", "loadgroup")


def is_controller(config: pytest.Config) -> bool:
    """Say whether this process only distributes tests. Known once all plugins are configured."""
    return config.pluginmanager.has_plugin("dsession")


def worker_input(config: pytest.Config) -> dict[str, Any] | None:
    """Return what the controller sent to this worker, None in any other process."""
    sent: dict[str, Any] | None = getattr(config, "workerinput", {}).get(KEY)
    return sent


def equip_worker(node: Any, settings: Settings, experiment_id: str) -> None:
    """Send a worker what it needs: what affects collection is decided once, by the controller.

    Raises pytest.UsageError for a worker on another machine, which could not reach an SQLite store.
    """
    spec = node.gateway.spec
    if not spec.popen and (settings.db.startswith("sqlite") or "://" not in settings.db):
        raise pytest.UsageError(
            f"worker {spec} may be on another machine and cannot reach the SQLite store {settings.db}; "
            "run the workers here (-n), or use a store that every machine reaches (PostgreSQL)"
        )
    node.workerinput[KEY] = {
        "settings": settings.to_plain(),
        "experiment_id": experiment_id,
        "worker": node.workerinput["workerid"],
    }


def may_hold_experiments(node_ids: Sequence[str]) -> bool:
    """Say whether ids that a worker collected look like runs. The controller sees nothing but ids."""
    return any(re.search(_RUN_ID, node_id) for node_id in node_ids)


def forbid_lossy_restarts(config: pytest.Config) -> str | None:
    """Keep schedulers that lose or repeat tests after a crash (xdist#784, #435) from replacing workers."""
    mode = config.getoption("dist", "no")
    if mode not in _RESTARTS_LOSE_TESTS or config.getoption("maxworkerrestart", None) is not None:
        return None
    from pytest_llmexp.runtest.private_api import forbid_worker_restarts  # start-up cost: few sessions need it

    if not forbid_worker_restarts(config):
        return None
    return f"--dist {mode} loses or repeats runs when a crashed worker is replaced, so it is not replaced"


def report_back(config: pytest.Config, problems: Sequence[str], usage_error: str | None) -> None:
    """Leave what the controller must know where xdist takes it from at the worker's end."""
    config.workeroutput[KEY] = {"problems": list(problems), "usage_error": usage_error}  # type: ignore[attr-defined]


def read_report(node: Any) -> tuple[list[str], str | None]:
    """Return a worker's problems and usage error; nothing if it died before it could say."""
    left = getattr(node, "workeroutput", {}).get(KEY, {})
    return list(left.get("problems", ())), left.get("usage_error")
