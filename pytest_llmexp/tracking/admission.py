"""One attempt of a call, from the wish to send it to what its answer means for others: barriers, caps, rates.

What goes wrong in here is noted as a problem and holds no call back. Sync and async wait over one core.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Generator
from contextlib import closing

from pytest_llmexp.core.models import Call
from pytest_llmexp.tracking.counting import CallCounter, Failure
from pytest_llmexp.tracking.exchange import Received, Sent
from pytest_llmexp.tracking.recorder import ExperimentRecorder, RunRecorder
from pytest_llmexp.tracking.scope import RunStopped

DENIED = (401, 403)
_NO_ANSWER = (*DENIED, 408, 429)


class Admission:
    """Whether and when a request may be sent."""

    def __init__(self, experiment: ExperimentRecorder, run: RunRecorder | None, sent: Sent, call: Call) -> None:
        self._experiment = experiment
        self._run = run
        self._address = sent.address
        self._model = str(call.model_requested)
        self._endpoint = call.endpoint
        self._size = len(sent.content)
        self._expected = 0.0
        self._started = 0.0

    def check(self) -> None:
        """Raise CallsEnded or UnpricedModel if the call must not be made; the run remembers it."""
        if self._experiment.ledger is not None:
            self._experiment.ledger.check(self._run, self._model, self._endpoint)
        if self._experiment.store_trouble is not None:
            self._experiment.store_trouble.check(self._run)
        if self._experiment.outages is not None:
            self._experiment.outages.check(self._run, self._address)

    def wait(self) -> float | None:
        """Wait for the call's turn and return the seconds that took, None if it was not held back."""
        began = None
        with closing(self._steps()) as steps:
            for step in steps:
                began = began or time.perf_counter()
                time.sleep(step)
        return self._admitted(began)

    async def wait_async(self) -> float | None:
        """Do what `wait` does without holding up an event loop."""
        began = None
        with closing(self._steps()) as steps:
            for step in steps:
                began = began or time.perf_counter()
                await _sleep(step)
        return self._admitted(began)

    def _steps(self) -> Generator[float]:
        pacer = self._experiment.pacer
        if pacer is None or not pacer.holds_back:
            return
        self._expected = pacer.expected(self._model, self._size)
        with closing(pacer.turn(self._address, self._expected)) as turn:
            while True:
                try:
                    step = next(turn)
                except StopIteration:
                    return
                except Exception as error:
                    self._experiment.note_problem(error)
                    return
                yield step
                if self._experiment.stopped:
                    raise RunStopped("the session is ending: no call is made any more")
                self.check()

    def _admitted(self, began: float | None) -> float | None:
        if self._experiment.pacer is not None:
            self._started = self._experiment.pacer.sent(self._address)
        return None if began is None else time.perf_counter() - began

    def ended(self, call: Call, counter: CallCounter, received: Received | None, error: BaseException | None) -> None:
        """Take in how the call ended: what that says of the rate, the tokens, and whether the provider is there."""
        if error is not None and not isinstance(error, Exception):
            return  # a cancelled task, an interrupt
        status = received.status_code if received else 0
        is_there = call.status == "ok" or (400 <= status < 500 and status not in _NO_ANSWER)
        failure = Failure(self._address, self._started, str(call.error), status in DENIED)
        counter.failure = None if is_there else failure
        try:
            self._note(call, received, is_there)
        except Exception as trouble:
            self._experiment.note_problem(trouble)

    def _note(self, call: Call, received: Received | None, is_there: bool) -> None:
        pacer = self._experiment.pacer
        if pacer is None:
            return
        if received is not None:
            pacer.answered(self._address, received.status_code, received.retry_after_s, self._started)
        if self._expected:
            told = call.input_tokens is not None or call.output_tokens is not None
            tokens = (call.input_tokens or 0) + (call.output_tokens or 0)
            pacer.used(self._model, self._expected, tokens if told or call.status == "error" else None)
        if is_there:
            pacer.succeeded(self._address)


async def _sleep(seconds: float) -> None:
    """Sleep on the event loop that is running; what is neither asyncio's nor trio's is held up."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        trio = sys.modules.get("trio")
        if trio is None or not trio.lowlevel.in_trio_run():
            time.sleep(seconds)
        else:
            await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)
