"""The end of a session: workers report back, and the exit status is stored once it is final. Light to import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from pytest_llmexp.runtest import distributed
from pytest_llmexp.runtest.state import state_key


@contextmanager
def end_session(session: pytest.Session) -> Iterator[None]:
    """Do our part before the other plugins end theirs, and store the exit status after they may have changed it."""
    state = session.config.stash[state_key]
    if state.worker:
        report = state.session.end_worker() if state.session else None
        distributed.report_back(session.config, report, state.usage_error)
    elif state.usage_error:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
    elif state.session and state.session.resumed and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK  # nothing was left to do
    yield
    if state.session is not None:
        from pytest_llmexp.core.errors import StoreError  # start-up cost: only experiments need it

        with suppress(StoreError):  # a store that cannot be written was reported when the experiment was finished
            state.session.note_exit(int(session.exitstatus))
