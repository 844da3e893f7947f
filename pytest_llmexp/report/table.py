"""The table of metrics as text: ASCII, a row per metric, columns that are dropped until it fits the width."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tabulate import tabulate

from pytest_llmexp.core.gates import parse_gate
from pytest_llmexp.core.models import Summary, Verdict
from pytest_llmexp.core.printable import one_line, printable
from pytest_llmexp.core.summary import IMPLICIT_METRICS
from pytest_llmexp.report.view import ExperimentView, TestView, short_name

_COLUMNS = ("test", "metric", "n", "missing", "mean [95% CI]", "sd", "min", "median", "max", "method", "gate")
_DROPPED_FIRST = (("method",), ("sd",), ("median",), ("min", "max"))
_ONLY_IF_FILLED = ("missing", "gate")
_MARKS = {"passed": "ok", "failed": "FAIL", "undecided": "?"}
_MAX_CASES = 12

Row = dict[str, str]


def render_table(view: ExperimentView, *, width: int = 80, verbosity: int = 0) -> str:
    """Return the table. `verbosity` 1 shows every case and every implicit metric."""
    names = Counter(short_name(test.test) for test in view.tests)
    rows = [
        row
        for test in view.tests
        for row in _test_rows(test, view.is_demo, verbosity, by_path=names[short_name(test.test)] > 1)
    ]
    if not rows:
        return ""
    columns = [column for column in _COLUMNS if column not in _ONLY_IF_FILLED or any(row[column] for row in rows)]
    table = ""
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


def _test_rows(test: TestView, demo: bool, verbosity: int, *, by_path: bool) -> Iterator[Row]:
    """Yield a test's rows: each metric with its first gate, its other gates below, then the cases."""
    gates = _gates_by_metric(test.verdicts, demo)
    label = _label(test, by_path)
    for metric, summary in _shown_metrics(test, gates, verbosity).items():
        first, *others = gates.get(metric, [""])
        yield _row(label, summary, first) if summary else _blank(test=label, metric=printable(metric), gate=first)
        yield from (_blank(gate=gate) for gate in others)
        label = ""
    if len(test.cases) > 1:
        yield from _case_rows(test, verbosity)


def _shown_metrics(test: TestView, gates: Mapping[str, object], verbosity: int) -> dict[str, Summary | None]:
    """Choose the metrics with a row: recorded ones, gated ones, a pass rate that tells something."""
    recorded = any(summary.metric not in IMPLICIT_METRICS for summary in test.overall)
    chosen: dict[str, Summary | None] = {}
    for summary in test.overall:
        metric = summary.metric
        telling = metric == "pass_rate" and (not recorded or _is_telling(summary))
        if verbosity >= 1 or metric not in IMPLICIT_METRICS or metric in gates or telling:
            chosen[metric] = summary
    return {**chosen, **{metric: None for metric in gates if metric not in chosen}}


def _case_rows(test: TestView, verbosity: int) -> Iterator[Row]:
    for number, (case_id, summaries) in enumerate(test.cases.items()):
        if number == _MAX_CASES and verbosity < 1:
            yield _blank(test=f"- {len(test.cases) - _MAX_CASES} more cases: -v")
            return
        label = "- " + one_line(f"[{case_id}]", 40)
        recorded = any(summary.metric not in IMPLICIT_METRICS for summary in summaries)
        for summary in summaries:
            telling = _is_telling(summary) or (summary.metric == "pass_rate" and not recorded)
            if verbosity >= 1 or summary.metric not in IMPLICIT_METRICS or telling:
                yield _row(label, summary, "")
                label = ""


def _is_telling(summary: Summary) -> bool:
    return summary.metric == "pass_rate" and (summary.mean != 1 or summary.missing > 0)


def _label(test: TestView, by_path: bool) -> str:
    """Return a test's name with its case, or with how many it has; with its file where others have the same name."""
    only_case = next(iter(test.cases), "")
    name = printable(test.test) if by_path else short_name(test.test)
    if len(test.cases) > 1:
        return f"{name} ({len(test.cases)} cases)"
    return one_line(f"{name}[{only_case}]" if only_case else name, 60)


def _row(label: str, summary: Summary, gate: str) -> Row:
    places = _decimals(summary.mean, summary.low, summary.high)
    known = summary.low is not None and summary.high is not None
    interval = f" [{_fixed(summary.low, places)} {_fixed(summary.high, places)}]" if known else ""
    return {
        "test": label,
        "metric": one_line(summary.metric, 40),
        "n": str(summary.n),
        "missing": str(summary.missing) if summary.missing else "",
        "mean [95% CI]": "-" if summary.mean is None else f"{_fixed(summary.mean, places)}{interval}",
        "sd": number(summary.sd),
        "min": number(summary.min),
        "median": number(summary.median),
        "max": number(summary.max),
        "method": summary.method,
        "gate": gate,
    }


def _blank(**filled: str) -> Row:
    return {**dict.fromkeys(_COLUMNS, ""), **filled}


def _gates_by_metric(verdicts: Sequence[Verdict], demo: bool) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for verdict in verdicts:
        metric = parse_gate(verdict.gate).metric
        # where the row names the metric already, `mean(words) <= 6` is shown as `<= 6`
        demand = printable(verdict.gate.removeprefix(f"mean({metric}) ").removeprefix(f"{metric} "))
        text = f"{demand} {_MARKS[verdict.verdict]}" + (" demo" if demo else "")
        texts.setdefault(metric, []).append(text)
    return texts


def number(value: float | None) -> str:
    """A number by itself; a dash for what is not known."""
    return "-" if value is None else _fixed(value, _decimals(value))


def _fixed(value: float | None, places: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{places}f}" if abs(value) < 1e9 else f"{value:.4g}"


def _decimals(*values: float | None) -> int:
    """Two decimals, none for large numbers, and so many for small ones that two digits of the largest show."""
    scale = max((abs(value) for value in values if value is not None), default=0.0)
    if scale >= 10_000:
        return 0
    return 2 if scale >= 0.1 or scale == 0 else min(1 - math.floor(math.log10(scale)), 9)
