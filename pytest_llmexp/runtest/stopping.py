"""What a session that is stopped leaves behind, where workers execute its runs: they may not have ended yet."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from pytest_llmexp.core.summary import distinct_runs
from pytest_llmexp.runtest.outcomes import INTERRUPTED
from pytest_llmexp.runtest.scheduling import is_run
from pytest_llmexp.store import Store

_ENDED = ("passed", "failed", "error", "skipped")


class Crew(Protocol):
    """What is known of the workers: the ids of those that were lost, and of the tests they reported."""

    @property
    def lost(self) -> Collection[str]: ...
    @property
    def reported(self) -> Collection[str]: ...


class LeftBehind(NamedTuple):
    """How many runs were in flight, and how many had ended whose reports did not come."""

    dropped: int
    unreported: int


def left_behind(store: Store, experiment_id: str, crew: Crew, *, since: str = "") -> LeftBehind:
    """Record that open runs are interrupted, but those of lost workers, which crashed; count what is left behind.

    `since` is the id of the last run that an experiment which goes on had before.
    """
    store.crash_open_runs(experiment_id, INTERRUPTED, but_of=crew.lost)
    runs = distinct_runs(run for run in store.runs(experiment_id) if run.id > since)
    ended = sum(run.status in _ENDED for run in runs)
    return LeftBehind(
        dropped=sum(run.error == INTERRUPTED for run in runs),
        unreported=max(0, ended - sum(map(is_run, crew.reported))),
    )
