"""One process's part in an experiment: what a worker, or the only process, holds while runs go on. Floor 2."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmexp.core.errors import RecordingError
from pytest_llmexp.core.models import Synchronous
from pytest_llmexp.core.redact import Redactor
from pytest_llmexp.core.spending import Limits, Spending
from pytest_llmexp.ratelimits import Pacing, set_pace
from pytest_llmexp.replaying import ReplayFrom, make_replay
from pytest_llmexp.store import Writer, open_store
from pytest_llmexp.tracking.capture import capturing
from pytest_llmexp.tracking.clients import Clients
from pytest_llmexp.tracking.content import WithoutContent
from pytest_llmexp.tracking.otel import watching_spans
from pytest_llmexp.tracking.pricing import NO_PRICES, Prices, load_prices, may_have_prices
from pytest_llmexp.tracking.recorder import ExperimentRecorder
from pytest_llmexp.tracking.scope import Scope, entered
from pytest_llmexp.tracking.sources import ModelSource
from pytest_llmexp.tracking.spending import Ledger
from pytest_llmexp.tracking.store_trouble import StoreTrouble
from pytest_llmexp.tracking.threads import context_follows_threads

if TYPE_CHECKING:
    from pytest_llmexp.localmodel import LocalModelServer
    from pytest_llmexp.store import Store

NO_LIMITS = Limits()
NO_CAPS = Pacing()


class Recording:
    """The writer, the clients and the hooks of one process, from `open` to `close`.

    Without `capture` nothing is patched and no call is seen. `replay` says which recorded answers are served; an
    experiment that is `resumed` is served its own. Without `log_content` no prompt and no answer is stored.
    """

    def __init__(
        self,
        url: str,
        experiment_id: str,
        source: ModelSource,
        *,
        synchronous: Synchronous = "normal",
        capture: bool = True,
        replay: ReplayFrom | None = None,
        resumed: bool = False,
        limits: Limits = NO_LIMITS,
        prices: Prices = NO_PRICES,
        log_content: bool = True,
        pacing: Pacing = NO_CAPS,
    ) -> None:
        self._url = url
        self._capture = capture
        self._replay = replay
        self._resumed = resumed
        self.redact = redact = Redactor(os.environ)
        self._writer = Writer(lambda: open_store(url, redact=redact, synchronous=synchronous))
        self._server: LocalModelServer | None = None
        self._reader: Store | None = None
        self._stack = ExitStack()
        self.clients = Clients(source, self._start_local)
        self.ledger = None if limits == NO_LIMITS else Ledger(limits, partial(self._add_up, url), prices)
        sink = self._writer if log_content else WithoutContent(self._writer)
        self.recorder = ExperimentRecorder(experiment_id, sink, self.clients, self.ledger)
        self.recorder.store_trouble = StoreTrouble()
        self._board = set_pace(self.recorder, pacing)
        if limits.cost_usd is not None and may_have_prices(source):
            threading.Thread(target=load_prices, daemon=True).start()  # so that the first call need not wait

    def open(self) -> None:
        """Install the hooks that see calls and carry runs into threads, and make the experiment current."""
        if self._replay is not None or self._resumed:
            store = self._stack.enter_context(open_store(self._url, read_only=True))
            self.recorder.replay = make_replay(
                self._replay, store, self.recorder.experiment_id, self.redact, resumed=self._resumed
            )
        if self._capture:
            self._stack.enter_context(capturing())
            self._stack.enter_context(watching_spans(self.recorder))
            self._stack.enter_context(context_follows_threads())
        self._stack.enter_context(entered(Scope(self.recorder)))

    def close(self) -> list[str]:
        """Remove the hooks, write what is left, and return what could not be recorded."""
        self._stack.close()
        for stream in [*self.recorder.open_streams]:  # that nobody read to the end, or closed
            stream.end()
        self.clients.close()
        self._board.close()
        if self._reader is not None:
            self._reader.close()
        try:
            self._writer.close(timeout=60)
        except RecordingError as error:
            self.recorder.note_problem(error)
        if self._server is not None:
            self._server.close()
        return [*self.recorder.problems]

    def _add_up(self, url: str) -> Spending:
        if self._reader is None:
            self._reader = open_store(url, read_only=True)
        return self._reader.spending(self.recorder.experiment_id)

    def _start_local(self) -> str:
        from pytest_llmexp.localmodel import LocalModelServer  # start-up cost: only where no model is configured

        self._server = LocalModelServer()
        self._server.start()
        return self._server.base_url
