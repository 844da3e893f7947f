"""Every use of what pytest and pytest-xdist do not promise to keep, each with what happens where it is gone."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import Any

import pytest
from _pytest import runner


def body_arguments(item: pytest.Function) -> dict[str, Any]:
    """Return the fixture values that a test function takes. Without pytest's list: those its signature names."""
    info = getattr(item, "_fixtureinfo", None)
    names = item.fixturenames if info is None else info.argnames
    return {name: item.funcargs[name] for name in names if name in item.funcargs}


def terminal_width(reporter: Any) -> int:
    """Return the columns of pytest's terminal, else those of the process."""
    width = getattr(getattr(reporter, "_tw", None), "fullwidth", None)
    return width if isinstance(width, int) else shutil.get_terminal_size().columns


def remember_as_failed(config: pytest.Config, node_ids: Iterable[str], instead_of: Iterable[str]) -> None:
    """Let `--lf` select these items in place of ids that are no items. Without the cache plugin: nothing to do."""
    last_failed = getattr(config.pluginmanager.get_plugin("lfplugin"), "lastfailed", None)
    if isinstance(last_failed, dict):
        for node_id in instead_of:
            last_failed.pop(node_id, None)
        last_failed.update(dict.fromkeys(node_ids, True))


def forbid_worker_restarts(config: pytest.Config) -> bool:
    """Keep xdist from replacing crashed workers; say whether it could be done."""
    scheduler: Any = config.pluginmanager.get_plugin("dsession")
    if not hasattr(scheduler, "_max_worker_restart"):
        return False
    scheduler._max_worker_restart = 0
    return True


def plain_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> object:
    """Execute an item as pytest itself does, whatever other plugins would do with it."""
    return runner.pytest_runtest_protocol(item, nextitem)
