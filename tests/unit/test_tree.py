"""One run as a tree: what hangs under what, which run a name means, and what is printed of it."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from pytest_llmexp.core.errors import UnknownRunError
from pytest_llmexp.core.models import Call, Experiment, PromptUse, Run, Step
from pytest_llmexp.report.tree import Node, RunView, find_run, grow
from pytest_llmexp.report.tree_text import render_run

NOW = "2026-01-31T12:00:00.000000Z"


def run(id: str, test: str = "tests/test_a.py::test_title", index: int = 1, **fields: Any) -> Run:
    return Run(**{"id": id, "experiment_id": "exp_1", "test": test, "run_index": index, "started_at": NOW, **fields})


def step(id: str, parent: str | None = None, **fields: Any) -> Step:
    known = {"id": id, "experiment_id": "exp_1", "name": id, "started_at": NOW, "duration_s": 0.5}
    return Step(**{**known, "parent_step_id": parent, **fields})


def call(id: str, step: str | None = None, parent: str | None = None, **fields: Any) -> Call:
    known = {"id": id, "experiment_id": "exp_1", "ordinal": 1, "started_at": NOW, "status": "ok"}
    return Call(**{**known, "step_id": step, "parent_call_id": parent, **fields})


def shape(nodes: list[Node]) -> list[Any]:
    return [(node.record.id, shape(node.children)) if node.children else node.record.id for node in nodes]


def test_steps_and_calls_are_nested_in_the_order_they_began() -> None:
    steps = [step("step_02"), step("step_04", "step_02"), step("step_08")]
    calls = [
        call("call_01"),
        call("call_03", "step_02"),
        call("call_05", "step_04"),
        call("call_06", "step_04", "call_05"),
        call("call_07", "step_02"),
    ]
    assert shape(grow(steps, calls)) == [
        "call_01",
        ("step_02", ["call_03", ("step_04", [("call_05", ["call_06"])]), "call_07"]),
        "step_08",
    ]


def test_what_has_a_parent_that_was_not_recorded_is_a_root() -> None:
    assert shape(grow([step("step_2", "step_1")], [call("call_3", "step_1", "call_1")])) == ["step_2", "call_3"]
    assert shape(grow([step("step_2")], [call("call_3", "step_2", "call_1")])) == [("step_2", ["call_3"])]


RUNS = [
    run("run_aaa1", index=1, case_id="0.0"),
    run("run_aab2", index=2, case_id="0.0"),
    run("run_bbb3", index=1, case_id="1.0"),
    run("run_ccc4", "tests/test_b.py::TestIt::test_title", index=7),
    run("run_ddd5", "tests/test_b.py::test_title", index=7, case_id="x"),
]


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("run_aaa1", "run_aaa1"),
        ("run_aab", "run_aab2"),
        ("run_b", "run_bbb3"),
        ("test_title[0.0-run2]", "run_aab2"),
        ("tests/test_a.py::test_title[1.0-run1]", "run_bbb3"),
        ("1.0-run1", "run_bbb3"),
        ("run2", "run_aab2"),
        ("TestIt::test_title[run7]", "run_ccc4"),
        ("test_title[run7]", "run_ccc4"),
    ],
)
def test_a_run_is_named_by_its_id_its_label_or_the_end_of_it(ref: str, found: str) -> None:
    assert find_run(RUNS, ref).id == found


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (
            "run1",
            r"'run1' names 2 runs, give one of these: 'test_title\[0.0-run1\]' \(run_aaa1\), 'test_title\[1.0-run1\]'",
        ),
        ("run_aa", r"names 2 runs, .*\(run_aaa1\), .*\(run_aab2\)"),
        ("run7", r"\(run_ccc4\), .*\(run_ddd5\)"),
        ("run3", r"id or name 'run3'; its runs: 'test_title\[0.0-run1\]' \(run_aaa1\)"),
        ("", "no run of this experiment"),
        ("itle[run7]", "no run of this experiment"),
    ],
)
def test_what_names_no_single_run_lists_the_candidates(ref: str, message: str) -> None:
    with pytest.raises(UnknownRunError, match=message) as raised:
        find_run(RUNS, ref)
    assert "\n" not in str(raised.value)


def test_each_candidate_has_a_name_that_can_be_given() -> None:
    runs = [
        run("run_1", "tests/test_a.py::test_title"),
        run("run_2", "tests/test_b.py::test_title"),
        run("run_3", "tests/test_b.py::TestIt::test_title"),
        run("run_4", "tests/test_b.py::TestIt::test_other"),
        run("run_5", "tests/test_b.py::test_title", case_id="it's " + "long " * 20),
    ]
    with pytest.raises(UnknownRunError) as raised:
        find_run(runs, "run1")
    names = shlex.split(str(raised.value).partition("these: ")[2])[::2]
    assert names[:2] == ["tests/test_a.py::test_title[run1]", "tests/test_b.py::test_title[run1]"]
    assert names[2:4] == ["TestIt::test_title[run1]", "test_other[run1]"]
    assert [find_run(runs, name).id for name in names] == [each.id for each in runs]


@pytest.mark.parametrize("case", ["with\x1b[1m", "with\ttwo  spaces", "x" * 400])
def test_a_label_that_cannot_be_typed_leaves_the_id(case: str) -> None:
    runs = [run("run_1", case_id=case), run("run_2", case_id="b")]
    with pytest.raises(UnknownRunError) as raised:
        find_run(runs, "run1")
    assert find_run(runs, str(raised.value).partition("(")[2].partition(")")[0]).id == "run_1"
    assert "\x1b" not in str(raised.value)


def test_many_candidates_are_not_all_listed() -> None:
    with pytest.raises(UnknownRunError, match=r"and 12 more") as raised:
        find_run([run(f"run_{index:02}", index=index) for index in range(1, 21)], "run_")
    assert str(raised.value).count("test_title[") == 8
    with pytest.raises(UnknownRunError, match=r"it has no runs"):
        find_run([], "run1")


def test_of_a_run_that_was_executed_twice_the_label_means_the_one_that_counts() -> None:
    twice = [run("run_1", status="crashed"), run("run_2", status="passed")]
    assert find_run(twice, "run1").id == "run_2"
    assert find_run(twice, "run_1").id == "run_1"


def view(*records: Step | Call, run: Run | None = None, **fields: Any) -> RunView:
    experiment = Experiment(id="exp_1", name="main", status="finished", started_at=NOW)
    steps = [record for record in records if isinstance(record, Step)]
    calls = [record for record in records if isinstance(record, Call)]
    return RunView(
        **{"experiment": experiment, "run": run, "metrics": {}, "prompts": [], "tree": grow(steps, calls), **fields}
    )


CHAT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Two\nlines?"}]}
TOOL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"function": {"name": "look", "arguments": '{"at": "é"}'}}],
}


def test_a_line_says_what_there_is_to_say_of_a_step_or_call() -> None:
    full = call(
        "call_2",
        "step_1",
        ordinal=3,
        role="evaluation",
        model_requested="gpt-4o",
        model_returned="gpt-4o-x",
        latency_s=0.314,
        input_tokens=120,
        output_tokens=45,
        cost_usd=0.00123,
        finish_reason="stop",
        attempts=2,
        wait_s=1.5,
        replayed_from="call_0",
    )
    lines = render_run(
        view(
            step("step_1", name="retrieve", kind="tool", error="ValueError: bad"),
            full,
            call("call_3", status="error", error="HTTP 500: no", model_requested="m"),
            call("call_4", status="running"),
            call("call_45", latency_s=0.2, stream={"closed_early": True}),
            step("step_5", duration_s=None),
        )
    ).splitlines()
    assert lines == [
        'what belongs to no run of experiment "main" exp_1',
        "- retrieve  tool  0.50 s  ERROR ValueError: bad",
        "  - call 3  gpt-4o-x  evaluation  0.31 s  120+45 tokens  $0.00123  stop  replayed  2 attempts  waited 1.50 s",
        "- call 1  m  cost -  ERROR HTTP 500: no",
        "- call 1  -  cost -  not finished",
        "- call 1  -  0.20 s  cost -  closed early",
        "- step_5  not finished",
    ]
    assert "  0.048 ms" in render_run(view(step("step_1", duration_s=0.0000482)))


def test_the_head_says_what_the_run_came_to() -> None:
    it = run("run_1", case_id="0.0", status="failed", error="AssertionError: no\nsecond line", duration_s=2.0)
    prompts = [
        PromptUse(id=f"use_{n}", run_id="run_1", hash="sha256:0123456789", name="tests.names.namer") for n in (1, 2)
    ]
    assert render_run(view(run=it, metrics={"words": 3.0, "cool": 0.25}, prompts=prompts)).splitlines() == [
        "test_title[0.0-run1]  failed  2.00 s  run_1",
        'tests/test_a.py::test_title, case 0.0, run 1 of experiment "main" exp_1',
        "failed: AssertionError: no second line",
        "metrics: words=3 cool=0.25",
        "prompts: namer 0123456",
        "no steps and no calls",
    ]


def test_messages_are_shown_on_demand_and_only_once() -> None:
    first = call("call_1", request=CHAT, response={"choices": [{"message": TOOL}]})
    told = {"role": "tool", "content": "an egg"}
    second = call(
        "call_2",
        parent="call_1",
        request={"messages": [*CHAT["messages"], TOOL, told]},
        response={"choices": [{"message": {"role": "assistant", "content": "An egg."}}]},
    )
    other = call("call_3", request={"question": 1}, response=None, status="error", error="no")
    inside = step("step_4", input={"q": 1}, output="two\nlines")
    assert render_run(view(first, second, other, inside), verbosity=1).splitlines()[1:] == [
        "- call 1  -  cost -",
        "    system: Be brief.",
        "    user: Two",
        "      lines?",
        '    assistant calls look({"at": "é"})',
        "  - call 1  -  cost -",
        "      ... 3 messages as above",
        "      tool: an egg",
        "      assistant: An egg.",
        "- call 1  -  cost -  ERROR no",
        '    request: {"question": 1}',
        "- step_4  0.50 s",
        '    input: {"q": 1}',
        "    output: two",
        "      lines",
    ]


def test_messages_that_differ_from_those_before_are_shown_again() -> None:
    first = call("call_1", request=CHAT)
    second = call("call_2", parent="call_1", request={"messages": [{"role": "system", "content": "Be long."}]})
    shown = render_run(view(first, second), verbosity=1)
    assert "as above" not in shown
    assert shown.endswith("\n      system: Be long.")


def test_a_long_value_is_cut_unless_all_is_asked_for() -> None:
    long = view(step("step_1", output="x" * 2010))
    assert render_run(long, verbosity=1).endswith("xxx... 10 more characters: -vv")
    assert render_run(long, verbosity=2).endswith("x" * 2010)
    raw = render_run(view(call("call_1", request=CHAT, response={"choices": []})), verbosity=2)
    assert '"content": "Be brief."' in raw
    assert "response: {" in raw


@pytest.mark.parametrize("verbosity", [0, 1, 2])
def test_no_control_characters_reach_the_terminal(verbosity: int) -> None:
    bad = "\x1b[31mred\x9b\u202e\r"
    evil = view(
        step("step_1", name=bad, kind=bad, error=bad, input={bad: bad}, output=bad, attributes={bad: bad}),
        call(
            "call_2",
            model_requested=bad,
            error=bad,
            status="error",
            finish_reason=bad,
            request={"messages": [{"role": bad, "content": bad}, {"content": [{"type": bad}]}]},
            response={"message": {"content": bad, "tool_calls": [{"function": {"name": bad, "arguments": bad}}]}},
        ),
        call("call_3", request={bad: bad}, response=bad),
        run=run("run_1", bad, case_id=bad, error=bad, input=bad, output={bad: bad}, params={bad: bad}),
        metrics={bad: 1.0},
        prompts=[PromptUse(id="use_1", run_id="run_1", hash=f"sha256:{bad}", name=bad)],
    )
    text = render_run(evil, verbosity=verbosity)
    assert not set(text) & {"\x1b", "\x9b", "\u202e", "\r"}
    assert "\\x1b[31mred" in text
