"""A session that ends early, as a limit is reached, a provider down or the store full: its runs that are not begun."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_llmexp.runtest.collection import plan_key
from pytest_llmexp.runtest.execution import run_key
from pytest_llmexp.runtest.session import ExperimentSession

_NAME = "llmexp-early-end"


class _LeavingOut:
    """The hook of a session with experiments: a run that was not begun is skipped before anything is set up for it."""

    def __init__(self, experiment: ExperimentSession) -> None:
        self._experiment = experiment

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if plan_key not in item.stash or run_key in item.stash:
            return
        if (why := self._experiment.leaves_out()) is not None:
            raise pytest.skip.Exception(f"not run: {why}", _use_item_location=True)


@contextmanager
def may_end_early(config: pytest.Config, experiment: ExperimentSession) -> Iterator[None]:
    """Leave out the runs that must not begin any more, in the body of the with statement."""
    config.pluginmanager.register(_LeavingOut(experiment), _NAME)
    try:
        yield
    finally:
        config.pluginmanager.unregister(name=_NAME)
