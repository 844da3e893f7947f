"""One run as text: what it came to, and its tree, a line per step and call; on demand what was said in them.

Everything that a model, a tool or a test wrote passes `printable`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from pytest_llmexp.core.ids import short_hash
from pytest_llmexp.core.models import Call, Json, Run, Step
from pytest_llmexp.core.printable import one_line, printable
from pytest_llmexp.report.conversation import Turn, read_request, read_response
from pytest_llmexp.report.table import number
from pytest_llmexp.report.tree import Node, RunView
from pytest_llmexp.report.view import run_label, run_status

_SHORT = 2000  # characters of a JSON value where the whole is not asked for
_ERROR = 300


def render_run(view: RunView, *, verbosity: int = 0) -> str:
    """Return the run. `verbosity` 1 shows inputs, outputs and messages too, 2 the JSON of requests and responses."""
    lines = [*_head(view, verbosity)]
    for node in view.tree:
        lines += _branch(node, None, "", verbosity)
    if not view.tree:
        lines.append("no steps and no calls")
    return "\n".join(lines)


def _head(view: RunView, verbosity: int) -> Iterator[str]:
    experiment = f'experiment "{one_line(view.experiment.name, 200)}" {view.experiment.id}'
    if view.run is None:
        yield f"what belongs to no run of {experiment}"
        return
    run = view.run
    yield "  ".join([one_line(run_label(run), 200), *_ending(run), run.id])
    case = f", case {one_line(run.case_id, 200)}" if run.case_id else ""
    yield f"{printable(run.test)}{case}, run {run.run_index} of {experiment}"
    if run.error:
        word = "failed" if run.status == "failed" else "error"
        named = run.error.startswith(f"{run_status(run)}: ")
        yield ("" if named else f"{word}: ") + one_line(run.error, _ERROR)
    if view.metrics:
        yield "metrics: " + printable(" ".join(f"{name}={value:g}" for name, value in view.metrics.items()))
    if view.prompts:
        used = dict.fromkeys(f"{use.name.rpartition('.')[2]} {short_hash(use.hash)}" for use in view.prompts)
        yield "prompts: " + printable(", ".join(used))
    if verbosity:
        for name, part in {
            "params": run.params,
            "input": run.input,
            "output": run.output,
            "expected": run.expected,
        }.items():
            yield from _value(name, part, "", verbosity)


def _ending(run: Run) -> Iterator[str]:
    yield run_status(run)
    if run.duration_s is not None:
        yield _time(run.duration_s)


def _branch(node: Node, above: Call | None, indent: str, verbosity: int) -> Iterator[str]:
    record, inner = node.record, f"{indent}  "
    if isinstance(record, Step):
        yield f"{indent}- " + "  ".join(_step_parts(record))
        if verbosity:
            yield from _value("input", record.input, f"{inner}  ", verbosity)
            yield from _value("output", record.output, f"{inner}  ", verbosity)
        if verbosity >= 2:
            yield from _value("attributes", record.attributes, f"{inner}  ", verbosity)
    else:
        yield f"{indent}- " + "  ".join(_call_parts(record))
        if verbosity == 1:
            yield from _conversation(record, above, f"{inner}  ")
        elif verbosity:
            yield from _value("request", record.request, f"{inner}  ", verbosity)
            yield from _value("response", record.response, f"{inner}  ", verbosity)
    for child in node.children:
        yield from _branch(child, record if isinstance(record, Call) else None, inner, verbosity)


def _step_parts(step: Step) -> Iterator[str]:
    yield one_line(step.name, 100)
    if step.kind != "step":
        yield one_line(step.kind, 30)
    yield "not finished" if step.duration_s is None else _time(step.duration_s)
    if step.error:
        yield f"ERROR {one_line(step.error, _ERROR)}"


def _call_parts(call: Call) -> Iterator[str]:
    yield f"call {call.ordinal}"
    yield one_line(call.model_returned or call.model_requested or "-", 80)
    if call.role != "generation":
        yield call.role
    if call.latency_s is not None:
        yield _time(call.latency_s)
    if call.input_tokens is not None or call.output_tokens is not None:
        yield f"{call.input_tokens or 0}+{call.output_tokens or 0} tokens"
    yield "cost -" if call.cost_usd is None else f"${call.cost_usd:.4g}"
    if call.finish_reason:
        yield one_line(call.finish_reason, 40)
    if call.closed_early:
        yield "closed early"
    if call.replayed_from:
        yield "replayed"
    if call.attempts > 1:
        yield f"{call.attempts} attempts"
    if call.wait_s:
        yield f"waited {_time(call.wait_s)}"
    if call.status == "running":
        yield "not finished"
    elif call.status == "error":
        yield f"ERROR {one_line(call.error or '', _ERROR)}"


def _conversation(call: Call, above: Call | None, indent: str) -> Iterator[str]:
    """Yield what was asked and answered; of a call that follows from another only what is new."""
    asked = read_request(call.request)
    known = [*read_request(above.request), *read_response(above.response)] if above else []
    same = next((place for place, (old, new) in enumerate(zip(known, asked, strict=False)) if old != new), len(known))
    if same:
        yield f"{indent}... {min(same, len(asked))} messages as above"
    for turn in asked[same:]:
        yield from _turn(turn, indent)
    if not asked:
        yield from _value("request", call.request, indent, 1)
    answers = read_response(call.response)
    for turn in answers:
        yield from _turn(turn, indent)
    if not answers:
        yield from _value("response", call.response, indent, 1)


def _turn(turn: Turn, indent: str) -> Iterator[str]:
    if turn.text or not turn.tools:
        yield from _lines(f"{turn.role}: {turn.text}", indent)
    for tool in turn.tools:
        yield from _lines(f"{turn.role} calls {tool.name}({_json(tool.arguments)})", indent)


def _value(name: str, value: Json, indent: str, verbosity: int) -> Iterator[str]:
    if value is None or value == {}:
        return
    if isinstance(value, str):
        text = value
    else:
        text = _json(value) if verbosity == 1 else json.dumps(value, indent=2, ensure_ascii=False)
    if verbosity == 1 and len(text) > _SHORT:
        text = f"{text[:_SHORT]}... {len(text) - _SHORT} more characters: -vv"
    yield from _lines(f"{name}: {text}", indent)


def _lines(text: str, indent: str) -> Iterator[str]:
    first, *others = printable(text).splitlines() or [""]
    yield f"{indent}{first}".rstrip()
    yield from (f"{indent}  {line}".rstrip() for line in others)


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def _time(seconds: float) -> str:
    return f"{number(seconds)} s" if seconds >= 0.1 else f"{number(seconds * 1000)} ms"
