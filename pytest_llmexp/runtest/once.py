"""A run is executed once: a failed one is a result, which trying again would hide."""

from __future__ import annotations

import pytest

from pytest_llmexp.runtest.collection import plan_key
from pytest_llmexp.runtest.private_api import plain_protocol

_RERUNNING = ("rerunfailures", "flaky")
_NAME = "llmexp-once"


class _Once:
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> object:
        return plain_protocol(item, nextitem) if plan_key in item.stash else None


def run_experiments_once(config: pytest.Config) -> None:
    """Keep plugins that try failed tests again from doing so with runs; other tests stay theirs."""
    manager = config.pluginmanager
    if any(map(manager.has_plugin, _RERUNNING)) and not manager.has_plugin(_NAME):
        manager.register(_Once(), _NAME)
