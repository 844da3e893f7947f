"""The whole summary as text: the table, a row per run on demand, and a line per thing worth knowing."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator

from tabulate import tabulate

from pytest_llmexp.core.models import Run
from pytest_llmexp.core.printable import one_line, printable
from pytest_llmexp.report.table import number, render_table
from pytest_llmexp.report.view import ExperimentView, prompt_labels, run_label, run_status, short_name

_MAX_PROBLEMS = 5


class Note(str):
    """A line under the table; `bad` ones are shown in red."""

    __slots__ = ("bad",)
    bad: bool

    def __new__(cls, text: str, bad: bool = False) -> Note:
        note = super().__new__(cls, text)
        note.bad = bad
        return note


def render_text(view: ExperimentView, *, width: int = 80, verbosity: int = 0) -> str:
    """Return the whole summary. `verbosity` 1 shows every case and metric, 2 every run too."""
    parts = [render_table(view, width=width, verbosity=verbosity)]
    if verbosity >= 2:
        parts.append(render_runs(view, width=width))
    parts.extend(notes(view, width=width))
    return "\n".join(part for part in parts if part)


def render_runs(view: ExperimentView, *, width: int = 80) -> str:
    """Return a row per run: status, duration and metrics, or the error."""
    rows = [
        [one_line(run_label(run), 60), run_status(run), number(run.duration_s), one_line(_metrics(view, run), width)]
        for run in view.runs
    ]
    return tabulate(rows, headers=["run", "status", "s", "metrics"], tablefmt="simple", disable_numparse=True)


def notes(view: ExperimentView, *, width: int = 80) -> Iterator[Note]:
    """Yield the lines under the table: gates that did not pass, totals, prompts, what is missing."""
    names = Counter(short_name(test.test) for test in view.tests)
    for verdict in view.verdicts:
        if verdict.verdict != "passed":
            word = {"failed": "GATE FAILED", "undecided": "GATE UNDECIDED"}[verdict.verdict]
            name = verdict.test if names[short_name(verdict.test)] > 1 else short_name(verdict.test)
            text = f"{word} {name}: {verdict.gate}, {verdict.detail}"
            yield Note(printable(text), bad=verdict.verdict == "failed")
    yield Note(_totals(view))
    yield from _held_back(view)
    yield from _explanations(view)
    if view.prompts:
        yield from _wrapped("prompts: " + printable(", ".join(prompt_labels(view.prompts))), width)
    if view.stop is not None:
        yield Note(printable(view.stop), bad=True)
    elif view.experiment.status == "interrupted":
        done = sum(run.status not in ("running", "crashed") for run in view.runs)
        yield Note(f"interrupted {done}/{view.planned or len(view.runs)}: gates were not judged", bad=True)
    if view.calls.unattributed:
        yield Note(f"{view.calls.unattributed} calls were made outside of a run and belong to none")
    for problem in view.problems[:_MAX_PROBLEMS]:
        yield Note(f"NOT RECORDED {one_line(problem, 300)}", bad=True)
    if len(view.problems) > _MAX_PROBLEMS:
        yield Note(f"NOT RECORDED ... and {len(view.problems) - _MAX_PROBLEMS} more", bad=True)


def _held_back(view: ExperimentView) -> Iterator[Note]:
    answers = f"{view.limited} answer{'s' * (view.limited != 1)} 429" if view.limited else ""
    if view.calls.wait_s:
        yield Note(f"held back {view.calls.wait_s:,.1f} s for rate limits" + (f" ({answers})" if answers else ""))
    elif answers:
        yield Note(f"rate limits: {answers}")


def _explanations(view: ExperimentView) -> Iterator[Note]:
    if any(summary.low is not None for test in view.tests for summary in test.overall):
        yield Note("95% CI: Wilson for booleans, Student's t for others; over cases, for more cases like these")
    if view.is_demo and view.verdicts:
        yield Note("demo: the built-in sampler answered, so these gates say nothing of a model")


def _totals(view: ExperimentView) -> str:
    calls = view.calls
    statuses = ", ".join(f"{count} {status}" for status, count in view.statuses.items())
    parts = [f"{max(len(view.runs), view.planned)} runs ({statuses})"]
    marks = [f"{count} {word}" for word, count in (("replayed", calls.replayed), ("failed", calls.failed)) if count]
    parts.append(f"{calls.calls} calls" + (f" ({', '.join(marks)})" if marks else ""))
    if calls.input_tokens is not None or calls.output_tokens is not None:
        parts.append(f"{(calls.input_tokens or 0) + (calls.output_tokens or 0)} tokens")
    parts.append(f"cost {_cost(view)}")
    return ", ".join(parts)


def _cost(view: ExperimentView) -> str:
    calls = view.calls
    if view.is_demo and not calls.cost_usd:
        return "0 (not an LLM)"
    if calls.calls and calls.calls == calls.replayed:
        return "0 (replayed)"
    if calls.cost_usd is None:
        return "-" if calls.calls else "0"
    unpriced = f" + {calls.unpriced} calls of unknown price" if calls.unpriced else ""
    return f"${calls.cost_usd:.4g}{unpriced}"


def _metrics(view: ExperimentView, run: Run) -> str:
    text = " ".join(f"{metric.name}={metric.value:g}" for metric in view.metrics.get(run.id, ()))
    return f"{text} {run.error}".strip() if run.error else text


def _wrapped(text: str, width: int) -> Iterator[Note]:
    lines = textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return map(Note, lines)
