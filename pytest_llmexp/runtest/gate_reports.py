"""Gates as test results: three ordinary reports each, so that counts, -ra, JUnit XML and the exit status agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from pytest_llmexp.core.models import Verdict
from pytest_llmexp.core.printable import printable

QUIET = "llmexp_quiet"  # the attribute of a report that is counted but has no letter among the dots


class GateFailed(AssertionError):
    """A gate's demand is not met."""

    __module__ = "builtins"  # pytest shows the module of an exception; a reader of the summary needs the numbers


def gate_node_id(verdict: Verdict) -> str:
    """Return the id under which a gate is reported: `path::test::gate[expression]`."""
    return f"{verdict.test}::gate[{verdict.gate}]"


def gate_reports(verdicts: Sequence[Verdict]) -> Iterator[pytest.TestReport]:
    """Yield setup, call and teardown of every gate: passed, failed, or skipped where it is undecided."""
    for verdict in verdicts:
        yield _report(verdict, "setup", "passed", None)
        if verdict.verdict == "undecided":
            path, line, _ = _location(verdict)
            yield _report(verdict, "call", "skipped", (path, line, f"gate undecided: {verdict.gate}: {verdict.detail}"))
        elif verdict.verdict == "failed":
            yield _report(verdict, "call", "failed", _failure(verdict))
        else:
            yield _report(verdict, "call", "passed", None)
        yield _report(verdict, "teardown", "passed", None)


def trouble_reports(what: str, message: str) -> Iterator[pytest.TestReport]:
    """Yield the reports of an experiment whose records or summary are not whole: it must not look green."""
    for when in ("setup", "call", "teardown"):
        failed = when == "call"
        yield pytest.TestReport(
            nodeid=f"llmexp::{what}",
            location=("llmexp", 0, what),
            keywords={},
            outcome="failed" if failed else "passed",
            longrepr=printable(message) if failed else None,
            when=when,
        )


def _report(verdict: Verdict, when: Any, outcome: Any, longrepr: Any) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=gate_node_id(verdict),
        location=_location(verdict),
        keywords={"gate": 1},
        outcome=outcome,
        longrepr=longrepr,
        when=when,
        duration=0.0,
    )


def log_quietly(config: pytest.Config, reports: Iterable[pytest.TestReport]) -> None:
    """Hand reports to every plugin that takes them; the terminal counts them without a letter."""
    for report in reports:
        setattr(report, QUIET, True)
        config.hook.pytest_runtest_logreport(report=report)
        setattr(report, QUIET, False)  # the short test summary asks for the word again, and gets it


def _location(verdict: Verdict) -> tuple[str, int, str]:
    path, _, name = verdict.test.partition("::")
    return path, 0, f"{name.replace('::', '.')} gate {verdict.gate}"


def _failure(verdict: Verdict) -> Any:
    """Return a representation with a one-line message that the short summary shows too."""
    try:
        raise GateFailed(verdict.detail)
    except GateFailed as error:
        return pytest.ExceptionInfo.from_exception(error).getrepr(style="value")
