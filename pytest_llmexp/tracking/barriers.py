"""What may end an experiment's calls before all its runs are made: a limit that is reached, a provider that is down."""

from __future__ import annotations

from typing import Any

from pytest_llmexp.core.errors import LlmexpError
from pytest_llmexp.tracking.recorder import RunRecorder
from pytest_llmexp.tracking.scope import RunStopped


class CallsEnded(RunStopped):
    """A call was refused because the experiment is to make no more calls; runs that were not begun are left out.

    `error` is what a caller gets to see of it where there is no pytest.
    """

    error: type[LlmexpError] = LlmexpError


class Barrier:
    """A reason to make no more calls. `why` says which, None while calls go on; `refused` whether anything was."""

    refusal: type[CallsEnded] = CallsEnded

    def __init__(self) -> None:
        self.why: str | None = None
        self.refused = False

    def is_reached(self) -> bool:
        """Say whether calls are refused."""
        raise NotImplementedError

    def told(self) -> dict[str, Any]:
        """Return plain data on what ended the calls, for the process that finishes the experiment."""
        raise NotImplementedError

    def leaves_out(self) -> bool:
        """Say whether a run must not begin, and take note of that."""
        if not self.is_reached():
            return False
        self.refused = True
        return True

    def refuse(self, run: RunRecorder | None) -> CallsEnded:
        """Return the refusal of a call, and take note of that."""
        self.refused = True
        cut = run is not None and run.calls.made
        return self.refusal(f"{'cut short' if cut else 'not run'}: {self.why}")


def remember(run: RunRecorder | None, refusal: RunStopped) -> RunStopped:
    """Let a run remember the first refusal of a call of it, and return the refusal to be raised."""
    if run is not None and run.refusal is None:
        run.refusal = refusal
    return refusal
