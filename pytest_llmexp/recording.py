"""One process's part in an experiment: what a worker, or the only process, holds while runs go on. Floor 2."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pytest_llmexp.core.errors import RecordingError
from pytest_llmexp.core.models import Synchronous
from pytest_llmexp.core.redact import Redactor
from pytest_llmexp.store import Writer, open_store
from pytest_llmexp.tracking.capture import capturing
from pytest_llmexp.tracking.clients import Clients
from pytest_llmexp.tracking.otel import watching_spans
from pytest_llmexp.tracking.recorder import ExperimentRecorder, Scope, entered
from pytest_llmexp.tracking.sources import ModelSource
from pytest_llmexp.tracking.threads import context_follows_threads

if TYPE_CHECKING:
    from pytest_llmexp.localmodel import LocalModelServer


class Recording:
    """The writer, the clients and the hooks of one process, from `open` to `close`."""

    def __init__(
        self, url: str, experiment_id: str, source: ModelSource, *, synchronous: Synchronous = "normal"
    ) -> None:
        self.redact = redact = Redactor(os.environ)
        self._writer = Writer(lambda: open_store(url, redact=redact, synchronous=synchronous))
        self._server: LocalModelServer | None = None
        self._stack = ExitStack()
        self.clients = Clients(source, self._start_local)
        self.recorder = ExperimentRecorder(experiment_id, self._writer, self.clients)

    def open(self) -> None:
        """Install the hooks that see calls and carry runs into threads, and make the experiment current."""
        self._stack.enter_context(capturing())
        self._stack.enter_context(watching_spans(self.recorder))
        self._stack.enter_context(context_follows_threads())
        self._stack.enter_context(entered(Scope(self.recorder)))

    def close(self) -> list[str]:
        """Remove the hooks, write what is left, and return what could not be recorded."""
        self._stack.close()
        self.clients.close()
        try:
            self._writer.close(timeout=60)
        except RecordingError as error:
            self.recorder.note_problem(error)
        if self._server is not None:
            self._server.close()
        return [*self.recorder.problems]

    def _start_local(self) -> str:
        from pytest_llmexp.localmodel import LocalModelServer  # start-up cost: only where no model is configured

        self._server = LocalModelServer()
        self._server.start()
        return self._server.base_url
