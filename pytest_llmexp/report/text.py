"""The summary as text: tables in ASCII that drop columns by width, and a line per thing worth knowing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from pytest_llmexp.core.gates import parse_gate
from pytest_llmexp.core.models import Run, Summary, Verdict
from pytest_llmexp.core.printable import one_line, printable
from pytest_llmexp.core.summary import IMPLICIT_METRICS
from pytest_llmexp.report.view import ExperimentView, TestView, prompt_labels

_MARKS = {"passed": "ok", "failed": "FAIL", "undecided": "?"}
_MAX_CASES = 12
# columns in the order they are dropped when the table is too wide
_DROPPED_FIRST = (("method",), ("sd",), ("median",), ("min", "max"))


def render_text(view: ExperimentView, *, width: int = 80, verbosity: int = 0) -> str:
    """Return the whole summary. `verbosity` 1 shows every case and metric, 2 every run and prompt hash too."""
    parts = [render_table(view, width=width, verbosity=verbosity)]
    if verbosity >= 2:
        parts.append(render_runs(view, width=width))
    parts.append("\n".join(line.text for line in notes(view)))
    return "\n".join(part for part in parts if part)


class Note(str):
    """A line under the table; `bad` ones are shown in red."""

    bad: bool

    def __new__(cls, text: str, bad: bool = False) -> Note:
        note = super().__new__(cls, text)
        note.bad = bad
        return note

    @property
    def text(self) -> str:
        """The line."""
        return str(self)


def render_table(view: ExperimentView, *, width: int = 80, verbosity: int = 0) -> str:
    """Return the table of metrics, dropping columns until it fits `width` characters."""
    rows = [row for test in view.tests for row in _test_rows(test, view.is_demo, verbosity)]
    if not rows:
        return ""
    columns = ["test", "metric", "n", "missing", "mean [95% CI]", "sd", "min", "median", "max", "method", "gate"]
    for column in ("missing", "gate"):
        if not any(row[column] for row in rows):
            columns.remove(column)
    for dropped in ((), *_DROPPED_FIRST):
        columns = [column for column in columns if column not in dropped]
        table = tabulate(
            [[row[column] for column in columns] for row in rows],
            headers=columns,
            tablefmt="simple",
            disable_numparse=True,
            colalign=["right" if column in ("n", "missing") else "left" for column in columns],
        )
        table = "\n".join(line.rstrip() for line in table.splitlines())
        if max(map(len, table.splitlines())) <= width:
            break
    return table


def _test_rows(test: TestView, demo: bool, verbosity: int) -> Iterator[dict[str, str]]:
    several = len(test.cases) > 1
    gates = _gates_by_metric(test.verdicts, demo)
    only_case = next(iter(test.cases), "")
    label = _short(test.test) + (f" ({len(test.cases)} cases)" if several else f"[{only_case}]" if only_case else "")
    shown = [summary for summary in test.overall if _is_shown(summary, gates, verbosity)]
    placed = {summary.metric for summary in shown}
    for summary in shown:
        yield _row(label, summary, gates.pop(summary.metric, ""))
        label = ""
    for metric, text in gates.items():
        if metric not in placed:
            yield {**dict.fromkeys(_ROW, ""), "test": label, "metric": printable(metric), "gate": text}
            label = ""
    if several:
        yield from _case_rows(test, verbosity)


def _case_rows(test: TestView, verbosity: int) -> Iterator[dict[str, str]]:
    for number, (case_id, summaries) in enumerate(test.cases.items()):
        if number == _MAX_CASES and verbosity < 1:
            more = f"- ... {len(test.cases) - _MAX_CASES} more cases: -v"
            yield {**dict.fromkeys(_ROW, ""), "test": more}
            return
        label = "- " + one_line(f"[{case_id}]", 40)
        for summary in summaries:
            if verbosity >= 1 or summary.metric not in IMPLICIT_METRICS or _is_telling(summary):
                yield _row(label, summary, "")
                label = ""


_ROW = ("test", "metric", "n", "missing", "mean [95% CI]", "sd", "min", "median", "max", "method", "gate")


def _is_shown(summary: Summary, gates: dict[str, str], verbosity: int) -> bool:
    return (
        verbosity >= 1
        or summary.metric in gates
        or summary.metric in ("pass_rate", "latency_s")
        or (summary.metric not in IMPLICIT_METRICS)
    )


def _is_telling(summary: Summary) -> bool:
    """Whether a case's pass rate is worth a row: not every run passed."""
    return summary.metric == "pass_rate" and (summary.mean != 1 or summary.missing > 0)


def _row(label: str, summary: Summary, gate: str) -> dict[str, str]:
    decimals = _decimals(summary.mean, summary.low, summary.high)
    interval = ""
    if summary.low is not None and summary.high is not None:
        interval = f" [{summary.low:.{decimals}f} {summary.high:.{decimals}f}]"
    return {
        "test": label,
        "metric": one_line(summary.metric, 40),
        "n": str(summary.n),
        "missing": str(summary.missing) if summary.missing else "",
        "mean [95% CI]": "-" if summary.mean is None else f"{summary.mean:.{decimals}f}{interval}",
        "sd": _number(summary.sd),
        "min": _number(summary.min),
        "median": _number(summary.median),
        "max": _number(summary.max),
        "method": summary.method,
        "gate": gate,
    }


def _gates_by_metric(verdicts: Sequence[Verdict], demo: bool) -> dict[str, str]:
    texts: dict[str, str] = {}
    for verdict in verdicts:
        text = f"{_demand(verdict)} {_MARKS[verdict.verdict]}" + (" demo" if demo else "")
        metric = gate_metric(verdict.gate)
        texts[metric] = f"{texts[metric]}; {text}" if metric in texts else text
    return texts


def gate_metric(gate: str) -> str:
    """Return the metric that a gate is about, for placing it in the table."""
    return parse_gate(gate).metric


def _demand(verdict: Verdict) -> str:
    """The gate without the metric's name where the row says it already: `mean(words) <= 6` as `<= 6`."""
    metric = gate_metric(verdict.gate)
    return printable(verdict.gate.removeprefix(f"mean({metric}) ").removeprefix(f"{metric} "))


def _decimals(*values: float | None) -> int:
    """Two decimals, none for large numbers, and so many for small ones that two digits of the largest show."""
    scale = max((abs(value) for value in values if value is not None), default=0.0)
    if scale >= 10_000:
        return 0
    return 2 if scale >= 0.1 or scale == 0 else min(1 - math.floor(math.log10(scale)), 9)


def _number(value: float | None) -> str:
    """A number by itself; a dash for what is not known."""
    return "-" if value is None else f"{value:.{_decimals(value)}f}"


def render_runs(view: ExperimentView, *, width: int = 80) -> str:
    """Return a row per run: status, duration and metrics."""
    rows = [
        [one_line(run_label(run), 60), run.status, _number(run.duration_s), one_line(_metrics(view, run), width)]
        for run in view.runs
    ]
    return tabulate(rows, headers=["run", "status", "s", "metrics"], tablefmt="simple", disable_numparse=True)


def run_label(run: Run) -> str:
    """Return a run's short name, such as `test_title[0.0-run3]`."""
    case = f"{run.case_id}-" if run.case_id else ""
    return f"{_short(run.test)}[{case}run{run.run_index}]"


def _metrics(view: ExperimentView, run: Run) -> str:
    text = " ".join(f"{metric.name}={metric.value:g}" for metric in view.metrics.get(run.id, ()))
    return f"{text} {run.error}".strip() if run.error else text


def _short(test: str) -> str:
    return test.rpartition("::")[2]


def notes(view: ExperimentView) -> Iterator[Note]:
    """Yield the lines under the table: gates that did not pass, totals, prompts, what is missing."""
    for verdict in view.verdicts:
        if verdict.verdict != "passed":
            word = {"failed": "GATE FAILED", "undecided": "GATE UNDECIDED"}[verdict.verdict]
            text = f"{word} {_short(verdict.test)}: {verdict.gate}, {verdict.detail}"
            yield Note(printable(text), bad=verdict.verdict == "failed")
    yield Note(_totals(view))
    if any(summary.method.startswith(("Wilson", "t")) for test in view.tests for summary in test.overall):
        yield Note("95% CI: Wilson for booleans, Student's t for the rest, over cases where a test has several")
    if view.prompts:
        yield Note("prompts: " + printable(", ".join(prompt_labels(view.prompts))))
    if view.experiment.status == "interrupted":
        done = sum(run.status not in ("running", "crashed") for run in view.runs)
        yield Note(f"interrupted {done}/{view.planned or len(view.runs)}: gates were not judged", bad=True)
    if view.calls.unattributed:
        yield Note(f"{view.calls.unattributed} calls were made outside of a run and belong to none")
    for problem in view.problems[:5]:
        yield Note(f"NOT RECORDED {one_line(problem, 300)}", bad=True)
    if len(view.problems) > 5:
        yield Note(f"NOT RECORDED ... and {len(view.problems) - 5} more", bad=True)


def _totals(view: ExperimentView) -> str:
    calls = view.calls
    statuses = ", ".join(f"{count} {status}" for status, count in view.statuses.items())
    parts = [f"{max(len(view.runs), view.planned)} runs ({statuses})"]
    parts.append(f"{calls.calls} calls" + (f" ({calls.failed} failed)" if calls.failed else ""))
    if calls.input_tokens is not None or calls.output_tokens is not None:
        parts.append(f"{(calls.input_tokens or 0) + (calls.output_tokens or 0)} tokens")
    parts.append(f"cost {_cost(view)}")
    return ", ".join(parts)


def _cost(view: ExperimentView) -> str:
    calls = view.calls
    if view.is_demo:
        return "0 (not an LLM)"
    if calls.cost_usd is None:
        return "-" if calls.calls else "0"
    unpriced = f" + {calls.unpriced} calls of unknown price" if calls.unpriced else ""
    return f"${calls.cost_usd:.4g}{unpriced}"
