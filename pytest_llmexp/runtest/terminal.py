"""What an experiment adds to pytest's terminal: one header line, the summary, nothing else."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llmexp.core.printable import one_line
from pytest_llmexp.lifecycle import DEFAULT_FILE
from pytest_llmexp.report.table import render_table
from pytest_llmexp.report.text import notes, render_runs
from pytest_llmexp.report.view import ExperimentView, load_view
from pytest_llmexp.runtest.gate_reports import QUIET
from pytest_llmexp.runtest.outcomes import NOTE
from pytest_llmexp.runtest.private_api import terminal_width
from pytest_llmexp.runtest.session import ExperimentSession


def header(session: ExperimentSession, config: pytest.Config) -> str:
    """Return the line that says what is recorded, where, and who answers."""
    db = session.settings.db
    place = db if "://" in db else os.path.relpath(db, config.invocation_params.dir)
    on = " goes on" if session.resumed else ""
    line = f'llmexp: experiment "{session.name}"{on}, model {session.source().label}, db {place}{_modes(session)}'
    return one_line(session.redact(line), 1000)


def _modes(session: ExperimentSession) -> str:
    settings = session.settings
    served = f", replay {settings.replay}" if settings.replay != "off" else ""
    place = os.path.basename(settings.replay_from) if served and settings.replay_from else ""  # noqa: PTH119  a name
    return served + (f" from {place}" if place else "") + (", capture off" if settings.capture == "off" else "")


def write_summary(reporter: Any, session: ExperimentSession, config: pytest.Config) -> None:
    """Print the experiment's table and notes through pytest's own reporter; trouble with that is one red line."""
    if session.store is None or session.experiment is None:
        return
    try:
        _write(reporter, load_view(session.store, session.experiment), session, config.get_verbosity())
    except Exception as error:  # a reporting hook must not end the session with a traceback
        reporter.write_line(f"llmexp: the summary cannot be shown: {type(error).__name__}: {error}", red=True)


def _write(reporter: Any, view: ExperimentView, session: ExperimentSession, verbosity: int) -> None:
    experiment = view.experiment
    name = one_line(experiment.name, 200)
    reporter.ensure_newline()
    if verbosity > -2:
        reporter.section(f"llmexp: experiment {name}", sep="=")
        width = terminal_width(reporter)
        if table := render_table(view, width=width, verbosity=verbosity):
            _write_lines(reporter, table)
        if verbosity >= 2:
            _write_lines(reporter, render_runs(view, width=width))
    for note in notes(view, width=terminal_width(reporter)):
        if note.bad or verbosity > -2:
            reporter.write_line(str(note), red=note.bad)
    for notice in (*_overlap_notices(session), *session.notices):
        reporter.write_line(f"note: {notice}", yellow=True)
    if verbosity > -2:
        ref = shlex.quote(name) if experiment.status == "finished" else experiment.id  # a name means one that finished
        reporter.write_line(f"id: {experiment.id}  more: llmexp show {ref}{_db(session)}")


def _overlap_notices(session: ExperimentSession) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for test, reason in session.alone.items():
        by_reason.setdefault(reason, []).append(test.rpartition("::")[2])
    for reason, tests in by_reason.items():
        more = f" and {len(tests) - 3} more" if len(tests) > 3 else ""
        yield one_line(f"one run at a time: {', '.join(tests[:3])}{more} ({reason})", 300)
    if session.dropped:
        yield f"{session.dropped} run(s) in flight were dropped when the session stopped"
    if session.unreported:
        yield f"{session.unreported} run(s) had ended when the session stopped, and were recorded, but not reported"


def _write_lines(reporter: Any, text: str) -> None:
    for line in text.splitlines():  # one at a time: pytest escapes what a terminal cannot show, newlines included
        reporter.write_line(line)


def _db(session: ExperimentSession) -> str:
    db = session.settings.db
    if db == str(Path.cwd() / DEFAULT_FILE):
        return ""
    return f" --db {db if '://' in db else os.path.relpath(db)}"


def status_line(report: pytest.TestReport, verbosity: int) -> tuple[str, str, Any] | None:
    """Return category, letter and word of a report; None leaves them to pytest.

    A gate's report is counted, but has no letter: the table shows it. A run's line shows its metrics with -v.
    """
    if getattr(report, QUIET, False):
        return (report.outcome if report.when == "call" else "", "", "")
    note = getattr(report, NOTE, None)
    if note is None or report.when != "call" or hasattr(report, "wasxfail"):
        return None
    metrics = "".join(f" {one_line(name, 40)}={value:g}" for name, value in note["metrics"].items())
    if note["tolerated"]:
        return "tolerated", "t", (f"TOLERATED{metrics}", {"yellow": True})
    if verbosity >= 1 and metrics and report.passed:
        return "passed", ".", (f"PASSED{metrics}", {"green": True})
    return None
