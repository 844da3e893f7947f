"""From pytest's phases to a run's status, and from that to what pytest is told. Pure but for the report it edits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmexp.core.models import Phase, RunStatus
from pytest_llmexp.core.printable import printable
from pytest_llmexp.tracking.barriers import CallsEnded
from pytest_llmexp.tracking.replay import ReplayMissError
from pytest_llmexp.tracking.scope import RunStopped
from pytest_llmexp.tracking.spending import UnpricedModel

NOTE = "llmexp"  # the attribute of a report that carries a run's metrics and status between processes
INTERRUPTED = "interrupted: the session was stopped in the middle of this run"  # of one that is `crashed` by that


@dataclass(frozen=True)
class RunOutcome:
    """How a run went."""

    status: RunStatus
    phase: Phase | None = None
    error: str | None = None
    duration_s: float | None = None


def refused_outcome(refusal: RunStopped, call: pytest.CallInfo[Any]) -> RunOutcome:
    """Return the outcome of a run that had a call refused: whatever its body made of that, it says nothing."""
    duration = call.duration if call.when == "call" else None
    return RunOutcome(_status(refusal, "call"), "call", str(refusal), duration)


def next_outcome(earlier: RunOutcome | None, call: pytest.CallInfo[Any]) -> RunOutcome | None:
    """Return the run's outcome after one more phase.

    An AssertionError (or pytest.fail) in the body is a failure: evidence of quality. A skip is a skip. Any
    other exception, and any in setup or teardown, is an error: infrastructure.
    """
    phase: Phase = call.when  # type: ignore[assignment]
    duration = call.duration if phase == "call" else earlier.duration_s if earlier else None
    if earlier is not None and earlier.status in ("failed", "error"):  # a failed subtest, or an earlier attempt
        return replace(earlier, duration_s=duration)
    if call.excinfo is None:
        return RunOutcome("passed", duration_s=duration) if phase == "call" else earlier
    status = _status(call.excinfo.value, phase)
    if status == "crashed":
        return RunOutcome(status, phase, INTERRUPTED, duration)
    error = printable(call.excinfo.exconly(tryshort=True)) if status != "skipped" else str(call.excinfo.value)
    return RunOutcome(status, phase, error, duration)


def _status(error: BaseException, phase: Phase) -> RunStatus:
    if isinstance(error, pytest.skip.Exception):
        return "skipped"
    if isinstance(error, UnpricedModel | ReplayMissError):
        return "error"
    if isinstance(error, RunStopped):
        return "crashed"  # the session ended in its middle
    if isinstance(error, pytest.fail.Exception) and "from pytest-timeout" in str(error):
        return "error"  # it calls pytest.fail, but a timeout says nothing of quality
    expected = (AssertionError, pytest.fail.Exception, pytest.xfail.Exception)
    return "failed" if phase == "call" and isinstance(error, expected) else "error"


def show_refusal(
    report: pytest.TestReport, refusal: RunStopped, excinfo: pytest.ExceptionInfo[BaseException] | None, path: Path
) -> None:
    """Make a report say why a call was refused: of a run left out as skipped, otherwise as failed.

    `path` is the test's file.
    """
    if hasattr(report, "wasxfail"):
        del report.wasxfail
    if isinstance(refusal, CallsEnded):
        file, line, _ = report.location
        report.outcome, report.longrepr = "skipped", (file, (line or 0) + 1, str(refusal))
    elif isinstance(refusal, ReplayMissError) and excinfo is not None and excinfo.value is refusal:
        report.longrepr = _short(excinfo, path)
    elif isinstance(refusal, UnpricedModel | ReplayMissError):
        report.outcome, report.longrepr = "failed", str(refusal)


def tolerate(report: pytest.TestReport) -> None:
    """Make a failed report one that does not fail pytest: the gate on the pass rate decides."""
    report.sections.append(("Tolerated failure", str(report.longrepr)))
    report.outcome = "passed"
    report.longrepr = None


def _short(excinfo: pytest.ExceptionInfo[BaseException], path: Path) -> Any:
    """Return where the test asked, and why in vain, but not the insides of a client."""
    own = excinfo.traceback.cut(path=path)
    short = excinfo.getrepr(style="short", tbfilter=lambda info: own[:1] if len(own) < len(info.traceback) else own)
    if short.reprcrash is not None:
        short.reprcrash.message = str(excinfo.value)  # the line at the end of the session: without the class's address
    return short


def make_safe(report: pytest.TestReport, redact: Callable[[str], str]) -> None:
    """Take secrets and control characters out of a report before anybody prints or stores it."""

    def safe(text: str) -> str:
        return printable(redact(text))

    report.sections = [(safe(title), safe(content)) for title, content in report.sections]
    if isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        report.longrepr = (path, line, safe(reason))
    elif report.longrepr is not None:
        text = str(report.longrepr)
        if (cleaned := safe(text)) != text:
            report.longrepr = cleaned
