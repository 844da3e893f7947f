"""The experiment of a pytest session: begun by the process that started pytest, recorded by those that run tests."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmexp.core.errors import ConfigurationError, StoreError
from pytest_llmexp.core.gates import parse_gate
from pytest_llmexp.core.models import Experiment
from pytest_llmexp.core.redact import Redactor
from pytest_llmexp.core.spending import Limits
from pytest_llmexp.lifecycle import (
    Outcome,
    Spent,
    absent_runs,
    begin,
    default_name,
    finish,
    read_stop,
    reopen,
    spent_so_far,
)
from pytest_llmexp.provenance import file_hash, imported_files
from pytest_llmexp.ratelimits import Pacing
from pytest_llmexp.recording import Recording
from pytest_llmexp.replaying import ReplayFrom, make_replay
from pytest_llmexp.runtest.loop import GRACE_S, LoopThread
from pytest_llmexp.runtest.options import Settings
from pytest_llmexp.runtest.plans import Plan, merge_plans
from pytest_llmexp.runtest.private_api.threads import leave_pool_threads_behind
from pytest_llmexp.runtest.resuming import Resumed
from pytest_llmexp.store import Store, open_store
from pytest_llmexp.tracking.board import remove_abandoned_boards, remove_board
from pytest_llmexp.tracking.pacing import Caps
from pytest_llmexp.tracking.pricing import load_prices, may_have_prices
from pytest_llmexp.tracking.sources import ModelSource, resolve_source

if TYPE_CHECKING:
    from pytest_llmexp.runtest.lookahead import LookAhead
    from pytest_llmexp.runtest.progress import LiveLine


class ExperimentSession:
    """The state of one process's part; lives in the config's stash."""

    def __init__(
        self, settings: Settings, experiment_id: str, rootpath: Path, environ: Mapping[str, str], worker: str = ""
    ) -> None:
        self.settings = settings
        self.experiment_id = experiment_id
        self.plan: Plan = {}
        self.test_files: set[Path] = set()
        self.modules: dict[str, str] = {}  # other files of code, and what they are told apart by
        self.collected: Mapping[str, int] = {}
        self.problems: list[str] = []
        self.notices: list[str] = []
        self.outcome: Outcome | None = None
        self.experiment: Experiment | None = None
        self.recording: Recording | None = None
        self.worker = worker
        self.redact = Redactor(environ)
        self._rootpath = rootpath
        self._environ = environ
        self._store: Store | None = None
        self._prepared = False
        self.loop = LoopThread()
        self.look_ahead: LookAhead | None = None
        self.line: LiveLine | None = None
        self.workers = 1  # how many processes share the limits
        self.limit = settings.concurrency  # bodies in flight in this process
        self.suspects: frozenset[str] = frozenset()  # node ids of runs of which one may crash: one at a time
        self.alone: dict[str, str] = {}  # test -> why its runs are executed one at a time
        self.executing = False  # whether this process is in its loop over the items
        self.left_behind = False  # whether a run may go on although it has ended
        self.expected = 0  # items, where other processes execute them
        self.stops: list[dict[str, Any]] = []  # what ended the calls, of each process that refused something
        self.board: Path | None = None  # where processes see each other's traffic
        self.limited = 0  # answers that said 429
        self.dropped = 0  # runs in flight when the session stopped
        self.resumed: Resumed | None = None
        self.kept: list[pytest.Item] = []  # of an experiment that goes on, those whose run has ended
        self.unreported = 0  # runs that had ended then, but whose turn had not come

    @property
    def name(self) -> str:
        """The experiment's name: what the user gave, else the git branch."""
        if self.resumed is not None:
            return self.resumed.name
        return self.settings.name or default_name(self._rootpath)

    def source(self) -> ModelSource:
        """Where calls go; pytest.UsageError if the options contradict the environment."""
        try:
            settings = self.settings
            answered = settings.replay == "only"
            return resolve_source(settings.model, settings.base_url, self._environ, answered=answered)
        except ConfigurationError as error:
            raise pytest.UsageError(str(error)) from None

    def begin(self) -> None:
        """Open the store and record the experiment's start; pytest.UsageError if the store cannot be used."""
        source = self.source()
        try:
            self._store = open_store(
                self.settings.db, create=True, redact=self.redact, synchronous=self.settings.synchronous
            )
        except StoreError as error:
            raise pytest.UsageError(str(error)) from None
        self.notices.extend(self._store.warnings)
        if (replay := self._replay()) is not None:
            try:
                make_replay(replay, self._store, self.experiment_id, self.redact)  # an error is told before the start
            except ConfigurationError as error:
                raise pytest.UsageError(str(error)) from None
        if self.resumed is not None:
            self._go_on(self._store)
            return
        self.experiment = begin(
            self._store,
            self.name,
            experiment_id=self.experiment_id,
            source=source,
            folder=self._rootpath,
            tags=self.settings.tags,
            metadata={"plan": self.plan, "modules": self.modules, "concurrency": self.settings.concurrency},
        )

    def _go_on(self, store: Store) -> None:
        earlier = store.experiment(self.experiment_id)
        prices = self.settings.prices if self.limits.cost_usd is not None else None
        self.problems.extend(earlier.metadata.get("problems") or [])
        planned = earlier.metadata.get("plan") or {}
        if self.plan:  # which workers know, and their controller does not
            self.plan = merge_plans(planned, self.plan)
        known = {} if self.settings.resume_anyway else earlier.metadata.get("modules") or {}
        metadata = {"plan": self.plan or planned, "modules": {**known, **self.modules}}
        self.experiment = reopen(store, earlier, folder=self._rootpath, metadata=metadata, prices=prices)

    def prepare_end(self) -> None:
        """Import what only the end needs, in the background: called once there is nothing to do but wait."""
        if not self._prepared and self._store is not None:
            self._prepared = True
            if may_have_prices(self.source()):
                threading.Thread(target=load_prices, daemon=True).start()

    def open_recording(self) -> Recording:
        """Start recording in this process, the first time it is called; hand in the plan if nobody did."""
        if self.recording is None:
            self.recording = Recording(
                self.settings.db,
                self.experiment_id,
                self.source(),
                synchronous=self.settings.synchronous,
                capture=self.settings.capture != "off",
                replay=self._replay(),
                resumed=self.resumed is not None,
                limits=self.limits,
                prices=self.settings.prices,
                log_content=self.settings.log_content,
                pacing=self._pacing(),
            )
            self.recording.open()
            if self.worker:
                self._hand_in_plan()
        return self.recording

    def _pacing(self) -> Pacing:
        caps = Caps(self.settings.rpm, self.settings.tpm)
        board = self.board if self.worker or any(caps) else None
        return Pacing(caps, self.settings.give_up_after, board, self.workers)

    def _replay(self) -> ReplayFrom | None:
        if self.settings.replay == "off":
            return None
        return ReplayFrom("only" if self.settings.replay == "only" else "auto", self.settings.replay_from)

    def note_modules(self) -> None:
        """Take note of the code under rootdir that is imported by now, but for test files, of which the plan tells."""
        for name, path in imported_files(self._rootpath).items():
            if name not in self.modules and path not in self.test_files and self.redact(name) == name:
                self.modules[name] = file_hash(path)

    def _hand_in_plan(self) -> None:
        """Workers know the tests, the controller does not. All know the same, so the first one's plan will do."""
        try:
            with open_store(self.settings.db, redact=self.redact) as store:
                experiment = store.experiment(self.experiment_id)
                before = experiment.metadata
                plan = merge_plans(before.get("plan") or {}, self.plan)
                modules = {**(before.get("modules") or {}), **self.modules}
                if (plan, modules) != (before.get("plan"), before.get("modules")):
                    store.write([replace(experiment, metadata={**before, "plan": plan, "modules": modules})])
        except StoreError as error:
            self.problems.append(f"{type(error).__name__}: {error}")

    def looks_ahead(self, item: pytest.Item) -> bool:
        """Say whether an item's body overlaps with others."""
        return self.look_ahead is not None and self.look_ahead.takes(item)

    def spent(self) -> Spent:
        """Return what the calls came to so far, in the process that began the experiment."""
        if self._store is None:
            return Spent(0, None)
        return spent_so_far(self._store, self.experiment_id, self.settings.prices)

    @property
    def waiting(self) -> int:
        """How many calls of this process are held back for a rate limit."""
        pacer = self.recording.recorder.pacer if self.recording is not None else None
        return pacer.waiting if pacer is not None else 0

    @property
    def limits(self) -> Limits:
        """What the experiment may use up."""
        return Limits(self.settings.max_cost, self.settings.max_tokens)

    def ends_early(self) -> bool:
        """Say whether no run is begun any more, because a limit is reached or a provider is down."""
        return self.recording is not None and any(each.is_reached() for each in self.recording.recorder.barriers)

    def leaves_out(self) -> str | None:
        """Return why a run must not begin, if that is so, and take note of it."""
        barriers = self.recording.recorder.barriers if self.recording else []
        return next((each.why for each in barriers if each.leaves_out()), None)

    def note_look_ahead(self, ahead: LookAhead) -> None:
        """Keep what is to be said of it."""
        self.alone = ahead.lanes.alone
        self.dropped += ahead.dropped
        self.unreported += ahead.unreported

    def stop_calls(self) -> None:
        """Let no test body make a further call: the session is ending."""
        if self.recording is not None:
            self.recording.recorder.stopped = True

    def close_recording(self) -> None:
        """Stop recording in this process; what was lost is in `problems`."""
        recording, self.recording = self.recording, None
        if self.loop.began and recording is not None:
            with suppress(TimeoutError):  # of a loop that a run has blocked
                self.loop.submit(recording.clients.aclose()).result(GRACE_S)
        self.loop.close()
        if recording is not None:
            self.stops.extend(each.told() for each in recording.recorder.barriers if each.refused)
            self.limited += recording.recorder.pacer.limited if recording.recorder.pacer else 0
            self.problems.extend(recording.close())

    def finish(self, *, interrupted: bool, judged: bool = True) -> Outcome:
        """Compute and store the experiment's outcome, in the process that began it.

        A session that was stopped counts as interrupted if runs are missing, or if `judged` is False.
        """
        self.close_recording()
        assert self._store is not None
        current = self._store.experiment(self.experiment_id)
        self.note_modules()
        modules = {**self.modules, **(current.metadata.get("modules") or {})}  # what was imported early counts as then
        current = replace(current, metadata={**current.metadata, "modules": modules})
        runs = self._store.runs(self.experiment_id)
        stored: Plan = current.metadata.get("plan") or {}
        whole = {self.redact(run.test): run.test for run in runs}  # the plan is JSON, which the store redacts
        plan = self.plan or {whole.get(test, test): part for test, part in stored.items()}
        gates = {test: [parse_gate(text) for text in part["gates"]] for test, part in plan.items()}
        everywhere = [parse_gate(text) for text in self.settings.gates]
        planned = {(test, case): count for test, part in plan.items() for case, count in part["cases"].items()}
        absent = absent_runs(runs, planned)
        self.outcome = finish(
            self._store,
            current,
            gates,
            everywhere=everywhere,
            planned=planned,
            partial={test: part["of"] for test, part in plan.items() if sum(part["cases"].values()) < part["of"]},
            problems=self.problems,
            prices=self.settings.prices,
            stop=read_stop(self.stops, self.limits),
            limited=self.limited,
            interrupted=(interrupted and (bool(absent or self.dropped or self.unreported) or not judged))
            or any(part.get("partial") for part in plan.values()),
        )
        self.experiment = self.outcome.experiment
        return self.outcome

    def end_worker(self) -> dict[str, Any]:
        """Stop recording in a worker; return what its controller must know, for `take_report`."""
        if self.resumed is not None and self.recording is None and self.plan:
            self._hand_in_plan()  # it had nothing left to execute
        self.close_recording()
        self.note_modules()
        told = ("modules", "problems", "notices", "alone", "dropped", "unreported", "stops", "limited")
        return {name: getattr(self, name) for name in told}

    def take_report(self, report: Mapping[str, Any]) -> None:
        """Take in what a worker reported at its end."""
        self.modules = {**report["modules"], **self.modules}
        self.problems.extend(report["problems"])
        self.notices.extend(notice for notice in report["notices"] if notice not in self.notices)
        self.alone.update(report["alone"])
        self.dropped += report["dropped"]
        self.stops.extend(report["stops"])
        self.limited += report["limited"]
        self.unreported += report["unreported"]

    def node_ids(self, tests: Collection[str]) -> list[str]:
        """Return the node ids of the runs of some tests, from what was recorded."""
        runs = self._store.runs(self.experiment_id) if self._store and tests else []
        return [
            f"{run.test}[{run.case_id + '-' if run.params else ''}run{run.run_index}]"
            for run in runs
            if run.test in tests
        ]

    def note_exit(self, exit_status: int) -> None:
        """Store the session's exit status."""
        if self._store is not None and self.experiment is not None:
            self.experiment = replace(self.experiment, exit_status=exit_status)
            self._store.write([self.experiment])

    def close(self) -> None:
        """Let go of everything."""
        self.close_recording()
        if self.board is not None and not self.worker:
            remove_board(self.board)
            remove_abandoned_boards()
        if self.left_behind or self.dropped:
            leave_pool_threads_behind()
        store, self._store = self._store, None
        if store is not None:
            store.close()

    @property
    def store(self) -> Store | None:
        """The open store of the process that began the experiment."""
        return self._store
