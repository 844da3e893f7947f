"""Puts the parts of look-ahead together for one process, or says why runs are executed one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest

from pytest_llmexp.runtest.collection import plan_key
from pytest_llmexp.runtest.orphan import end_orphan
from pytest_llmexp.runtest.private_api.workers import WorkerItems
from pytest_llmexp.runtest.session import ExperimentSession
from pytest_llmexp.runtest.upcoming import SessionItems, Upcoming
from pytest_llmexp.tracking.legacy_httpx import import_httpx_with_openai

if TYPE_CHECKING:
    from pytest_llmexp.runtest.lookahead import LookAhead

NAME = "llmexp-look-ahead"


class _Turns:
    """The hooks of a session that looks ahead; registered for its time only."""

    def __init__(self, ahead: LookAhead) -> None:
        self._ahead = ahead

    @pytest.hookimpl(tryfirst=True)  # before plugins that execute failed tests again: a failed run is a result
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if not self._ahead.takes(item) or self._ahead.leaves_out(item):
            return None
        assert isinstance(item, pytest.Function)
        self._ahead.turn(item, nextitem)
        return True

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item) -> bool | None:
        """pytest-timeout would count from the item's turn, and in the main thread; each body is watched instead."""
        return True if self._ahead.takes(item) else None


@contextmanager
def runs_overlap(session: pytest.Session, experiment: ExperimentSession) -> Iterator[None]:
    """Let bodies overlap in the body of the with statement, as far as the options and the installed pytest allow."""
    upcoming = _upcoming(session, experiment)
    ahead = None if upcoming is None else _look_ahead(session, experiment, upcoming)
    experiment.executing = True
    try:
        with nullcontext() if ahead is None else _looking_ahead(session, experiment, ahead):
            yield
    finally:
        experiment.executing = False


@contextmanager
def _looking_ahead(session: pytest.Session, experiment: ExperimentSession, ahead: LookAhead) -> Iterator[None]:
    manager = session.config.pluginmanager
    manager.register(_Turns(ahead), NAME)
    experiment.look_ahead = ahead
    try:
        with ahead.installed():
            yield
    finally:
        manager.unregister(name=NAME)
        experiment.look_ahead = None
        experiment.note_look_ahead(ahead)


def _upcoming(session: pytest.Session, experiment: ExperimentSession) -> Upcoming | None:
    """Return what comes next in this process; in a worker, see to it that it ends with its controller."""
    if not experiment.worker:
        return SessionItems(session.items)
    try:
        return WorkerItems(session, lambda: end_orphan(experiment))
    except (AttributeError, StopIteration) as error:
        experiment.notices.append(f"runs were executed one at a time: unknown version of pytest-xdist ({error})")
        return None


def _look_ahead(session: pytest.Session, experiment: ExperimentSession, upcoming: Upcoming) -> LookAhead | None:
    limit = experiment.limit
    first = next((item for item in session.items if plan_key in item.stash), None)
    if limit < 2 or not isinstance(first, pytest.Function):
        return None
    try:
        from pytest_llmexp.runtest.lookahead import LookAhead
        from pytest_llmexp.runtest.private_api import output, parking

        parking.fits(first)
        output.fits(session.config)
    except (ImportError, AttributeError, KeyError, TypeError) as error:
        experiment.notices.append(
            f"runs were executed one at a time: pytest {pytest.__version__} is not as this version needs it ({error})"
        )
        return None
    import_httpx_with_openai()
    return LookAhead(session, experiment, limit, upcoming, parking.install(session))
