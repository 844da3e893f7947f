"""The plugin's state in one process, in the config's stash. Light: an `ExperimentSession` is made on need.

A process is one of three: the only one (it begins, records and finishes the experiment), the controller of
pytest-xdist (begins and finishes, runs nothing), or a worker (records into what the controller began).
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmexp.runtest.distributed import worker_input
from pytest_llmexp.runtest.garbage import RareGarbageCollections
from pytest_llmexp.runtest.options import Settings, read_settings

if TYPE_CHECKING:
    from pytest_llmexp.runtest.resuming import Resumed
    from pytest_llmexp.runtest.session import ExperimentSession


class PluginState:
    """Settings, the experiment's id, and the experiment once there is one."""

    def __init__(self, config: pytest.Config) -> None:
        sent = worker_input(config)
        self.settings = Settings.from_plain(sent["settings"]) if sent else read_settings(config)
        self.worker: str = sent["worker"] if sent else ""
        self.session: ExperimentSession | None = None
        self.garbage = RareGarbageCollections()
        self.usage_error: str | None = None
        self.worker_reports: list[dict[str, Any]] = []  # what workers said at their end
        self._limit: int = sent["limit"] if sent else self.settings.concurrency
        self._workers: int = sent["workers"] if sent else 1
        self._suspects: list[str] = sent["suspects"] if sent else []
        self._rootpath = config.rootpath
        self._sent_board: str | None = sent["board"] if sent else None
        self._sent_id: str | None = sent["experiment_id"] if sent else None
        self._sent_resumed: list[str] | None = sent["resumed"] if sent else None

    @cached_property
    def resumed(self) -> Resumed | None:
        """The experiment that this session goes on with, if any; pytest.UsageError if that is impossible."""
        if self.settings.resume is None:
            return None
        from pytest_llmexp.runtest.resuming import Resumed, find_resumed  # start-up cost, as below

        if self._sent_resumed is not None:
            return Resumed(*self._sent_resumed)
        settings = self.settings
        return find_resumed(settings.db, str(settings.resume), settings.name, anyway=settings.resume_anyway)

    @cached_property
    def experiment_id(self) -> str:
        """The id of this session's experiment: what the controller sent, the one that goes on, else a new one."""
        from pytest_llmexp.core.ids import new_id  # start-up cost, as below

        return self._sent_id or (self.resumed.experiment_id if self.resumed else new_id("exp"))

    @property
    def board(self) -> str:
        """Where the processes of this session's experiment see each other's traffic."""
        from pytest_llmexp.tracking.board import board_path  # start-up cost, as below

        return self._sent_board or str(board_path(self.experiment_id))

    def make_session(self) -> ExperimentSession:
        """Return the experiment's session, made the first time it is needed."""
        if self.session is None:
            from pytest_llmexp.runtest.session import ExperimentSession  # start-up cost: only with experiments

            self.session = ExperimentSession(self.settings, self.experiment_id, self._rootpath, os.environ, self.worker)
            self.session.limit, self.session.workers = self._limit, self._workers
            self.session.suspects = frozenset(self._suspects)
            self.session.resumed = self.resumed
            self.session.board = Path(self.board)
        return self.session


state_key = pytest.StashKey[PluginState]()
