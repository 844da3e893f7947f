"""Providers that stay down: after some runs in a row that got no answer, no call starts, and the experiment ends early.

A call that fails says little: the test may want it to. A run counts that ended as an error after its last call had
failed with an error of the network or the server, a refused key, or a rate limit that the client's retries did not
outlast. Any answer in between ends the row.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pytest_llmexp.core.errors import ProviderDownError
from pytest_llmexp.tracking.barriers import Barrier, CallsEnded, remember
from pytest_llmexp.tracking.board import Board
from pytest_llmexp.tracking.counting import Failure
from pytest_llmexp.tracking.recorder import RunRecorder

LOOK_EVERY_S = 0.05
_MOST = 200  # characters of an error


class ProviderDown(CallsEnded):
    """A call was refused because its provider stays down."""

    error = ProviderDownError


class Outages(Barrier):
    """The runs in a row that each provider failed, over all processes; `give_up_after` so many it is down.

    `note_problem` is told of a board that cannot be used; nobody is taken for down then.
    """

    refusal = ProviderDown

    def __init__(
        self,
        board: Board,
        give_up_after: int,
        note_problem: Callable[[BaseException], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._board = board
        self._give_up_after = give_up_after
        self._note_problem = note_problem
        self._clock = clock
        self._down: dict[str, dict[str, Any]] = {}  # by address
        self._due = 0.0

    def is_reached(self) -> bool:
        """Say whether a provider is down."""
        if not self._board.is_calm and self._clock() >= self._due:
            self._look()
        return bool(self._down)

    def told(self) -> dict[str, Any]:
        """Return what is known of the first provider that is down."""
        return {"kind": "provider", **next(iter(self._down.values()))}

    def check(self, run: RunRecorder | None, address: str) -> None:
        """Raise ProviderDown for a call to a provider that is down; the run remembers it."""
        if self.is_reached() and address in self._down:
            raise remember(run, self.refuse(run))

    def failed(self, failure: Failure) -> None:
        """Count a run that ended as an error because its last call failed."""
        self._look(failure)

    def _look(self, failure: Failure | None = None) -> None:
        try:
            with self._board.held() as traffic:
                if failure is not None:
                    what, denied = failure.what[:_MOST], failure.denied
                    outage = traffic.outage(failure.address)
                    outage.failed(self._clock(), failure.started, what, denied, self._give_up_after)
                down = {address: outage for address, outage in traffic.outages.items() if outage.is_down}
        except Exception as error:
            self._note_problem(error)
            down = {}
        for address, outage in down.items():
            self._down.setdefault(address, {"address": address, "failed": outage.runs, "last": outage.last})
        if self._down and self.why is None:
            self.why = "provider down: {address} failed {failed} runs in a row, the last: {last}".format(**self.told())
        self._due = self._clock() + LOOK_EVERY_S
