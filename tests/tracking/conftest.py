"""A laboratory: a scripted model server, a store, and a recording between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pytest_llmexp.core.models import Call
from pytest_llmexp.lifecycle import begin
from pytest_llmexp.localmodel import SAMPLE, LocalModelServer
from pytest_llmexp.localmodel.script import Script
from pytest_llmexp.ratelimits import Pacing
from pytest_llmexp.recording import NO_CAPS, Recording
from pytest_llmexp.replaying import ReplayFrom
from pytest_llmexp.store import Store, open_store
from pytest_llmexp.tracking.recorder import RunRecorder
from pytest_llmexp.tracking.scope import entered
from pytest_llmexp.tracking.sources import ModelSource


class Lab:
    """An experiment in progress. `store` reads what is committed, at any time."""

    def __init__(
        self,
        server: LocalModelServer,
        folder: Path,
        api_key: str = "not-needed",
        replay: ReplayFrom | None = None,
        pacing: Pacing = NO_CAPS,
    ) -> None:
        self.server = server
        self.path = folder / "message_log.db"
        source = ModelSource("gpt-4o", server.base_url, api_key)
        self.store: Store = open_store(self.path, create=True)
        self.id = begin(self.store, "lab", source=source, folder=folder).id
        self.recording = Recording(self.store.url, self.id, source, replay=replay, pacing=pacing)
        self.recording.open()
        self._closed = False

    @contextmanager
    def run(self, test: str = "a_test", index: int = 1) -> Iterator[RunRecorder]:
        """Be in a run for the body of the with statement."""
        run = self.recording.recorder.begin_run(test, index)
        with entered(run.scope()):
            yield run
        run.end("passed")

    def flush(self) -> None:
        """Return when everything that was handed on is stored."""
        waiting = self.recording.recorder.put()
        assert waiting is not None
        waiting.result(60)

    def calls(self) -> list[Call]:
        """Return what the store holds of the calls."""
        return self.store.calls(self.id)

    def call(self) -> Call:
        """Return the only call."""
        (call,) = self.calls()
        return call

    def close(self) -> list[str]:
        """End the recording and return what could not be recorded; the store stays open."""
        if self._closed:
            return []
        self._closed = True
        return self.recording.close()


OpenLab = Callable[..., Lab]


@pytest.fixture
def open_lab(tmp_path: Path) -> Iterator[OpenLab]:
    """Return a function that opens a lab whose server answers by a script; all labs of a test share a store."""
    with ExitStack() as stack:

        def start(
            script: Script | None = None,
            *,
            api_key: str = "not-needed",
            replay: ReplayFrom | None = None,
            server: LocalModelServer | None = None,
            pacing: Pacing = NO_CAPS,
        ) -> Lab:
            server = server or stack.enter_context(LocalModelServer(script))
            lab = Lab(server, tmp_path, api_key, replay, pacing)
            stack.callback(lab.store.close)
            stack.callback(lab.close)
            return lab

        yield start


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    """Return a lab whose server repeats what the user said."""
    return open_lab(lambda request: f"echo: {request.body['messages'][-1]['content']}")


@pytest.fixture
def sampling_lab(open_lab: OpenLab) -> Lab:
    """Return a lab whose server's sampling model answers."""
    return open_lab(lambda _: SAMPLE)
