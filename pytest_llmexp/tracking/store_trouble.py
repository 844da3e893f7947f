"""A store that takes no records any more: what is paid for then would be lost, so no call starts."""

from __future__ import annotations

from typing import Any

from pytest_llmexp.core.errors import StoreError
from pytest_llmexp.tracking.barriers import Barrier, CallsEnded, remember
from pytest_llmexp.tracking.recorder import RunRecorder


class CannotRecord(CallsEnded):
    """A call was refused because its answer could not be stored."""

    error = StoreError


class StoreTrouble(Barrier):
    """Whether the store can be written, as far as is known."""

    refusal = CannotRecord

    def is_reached(self) -> bool:
        """Say whether the store was found to be broken."""
        return self.why is not None

    def told(self) -> dict[str, Any]:
        """Return what is wrong."""
        return {"kind": "store", "why": self.why}

    def note(self, error: BaseException) -> None:
        """Take in why records were lost: only an error of the store itself, not one of a record, ends the calls."""
        cause = error.__cause__
        if isinstance(cause, StoreError) and self.why is None:
            self.why = f"the store cannot be written, and what is not recorded is lost: {cause}"

    def check(self, run: RunRecorder | None) -> None:
        """Raise CannotRecord if calls are not to be made any more; the run remembers it."""
        if self.is_reached():
            raise remember(run, self.refuse(run))
