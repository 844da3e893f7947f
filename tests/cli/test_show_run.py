"""`llmexp show REF --run ID` on a store that pytest recorded."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from pytest_llmexp.cli import main
from tests.conftest import Suite

SUITE = """
    import pytest
    from pytest_llmexp import prompt, step

    @prompt("user")
    def asking(what):
        \"\"\"Tell me of {{ what }}.\"\"\"

    @step
    def retrieve(query):
        return [query, query]

    @pytest.fixture(scope="module")
    def index(bot_outside):
        return bot_outside

    @pytest.fixture(scope="module")
    def bot_outside():
        from pytest_llmexp import SimpleBot
        with step("build index"):
            return SimpleBot("You index.")("Shared")

    @pytest.mark.experiment(n=2)
    @pytest.mark.parametrize("topic", ["tea", "ale"])
    def test_title(bot, topic, index, record_metric):
        with step("answer", topic=topic) as s:
            documents = retrieve(topic)
            s.output = bot("You answer.")(asking(documents[0]))
        record_metric("words", len(s.output.split()))
        assert topic == "tea", "only tea"
"""


@pytest.fixture
def recorded(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A store with one experiment, `x`, in the current folder."""
    suite.write(SUITE)
    suite.run("--experiment-name=x")
    monkeypatch.chdir(suite.path)
    return suite


def show(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["show", "x", *arguments])


def test_a_run_is_shown_with_its_tree(recorded: Suite) -> None:
    result = show("--run", "test_title[ale-run2]")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].startswith("test_title[ale-run2]  failed  ")
    assert lines[1].startswith('test_suite.py::test_title, case ale, run 2 of experiment "x" exp_')
    assert lines[2].startswith("failed: AssertionError: only tea")
    assert lines[3].startswith("metrics: words=")
    assert lines[4].startswith("prompts: asking ")
    tree = [line.partition("  ")[0] if not line.startswith(" ") else line[:12] for line in lines[5:]]
    assert tree == ["- answer", "  - retrieve", "  - call 1  "]
    assert "local-sampler (not an LLM)" in lines[7]
    assert "$0" in lines[7]
    run_id = lines[0].split()[-1]
    assert show("--run", run_id).output == show("--run", run_id[:-1]).output == result.output


def test_messages_and_raw_json_are_shown_on_demand(recorded: Suite) -> None:
    shown = show("--run", "tea-run1", "-v").output
    assert '    input: {"topic": "tea"}\n' in shown
    assert '      output: ["tea", "tea"]\n' in shown
    assert "      system: You answer.\n      user: Tell me of tea.\n      assistant: " in shown
    raw = show("--run", "tea-run1", "-vv").output
    assert '"content": "Tell me of tea."' in raw
    assert '"finish_reason"' in raw


def test_what_belongs_to_no_run_is_a_tree_too(recorded: Suite) -> None:
    lines = show("--run", "unattributed", "-v").output.splitlines()
    assert lines[0].startswith('what belongs to no run of experiment "x" exp_')
    assert lines[1].startswith("- build index  ")
    assert lines[2].startswith("  - call 1  ")
    assert "      user: Shared" in lines
    assert not any("answer" in line for line in lines if line.lstrip().startswith("- "))
    assert sum(line.lstrip().startswith("- ") for line in lines) == 2


def test_a_run_as_json(recorded: Suite) -> None:
    document = json.loads(show("--run", "tea-run2", "--json").output)
    assert (document["experiment"]["name"], document["run"]["case_id"], document["run"]["run_index"]) == ("x", "tea", 2)
    assert document["metrics"] == {"words": document["metrics"]["words"]}
    assert document["prompts"][0]["variables"] == {"what": "tea"}
    (answer,) = document["tree"]
    assert (answer["type"], answer["name"], answer["input"]) == ("step", "answer", {"topic": "tea"})
    retrieve, call = answer["children"]
    assert (retrieve["type"], retrieve["output"], retrieve["children"]) == ("step", ["tea", "tea"], [])
    assert (call["type"], call["step_id"], call["status"]) == ("call", answer["id"], "ok")
    assert call["request"]["messages"][-1]["content"] == "Tell me of tea."


def test_a_run_that_cannot_be_told_is_one_line(recorded: Suite) -> None:
    for ref, message in {"run1": "'run1' names 2 runs, ", "run9": "has the id or name 'run9'; its runs: "}.items():
        result = show("--run", ref)
        assert result.exit_code == 1
        (line,) = result.output.splitlines()
        assert message in line
        assert "'test_title[tea-run1]' (run_" in line
    for name in ("test_title[tea-run1]", "test_title[ale-run1]"):
        assert name in show("--run", "run1").output
        assert show("--run", name).exit_code == 0
