"""What the README shows is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_llmexp.cli import main
from tests.conftest import Suite

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def test_the_first_example_gives_the_output_shown(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    suite.write(blocks("python")[0], "test_job_names.py")
    result = suite.run("--experiment-name=first")
    assert result.ret == 0
    shown = next(text for text in blocks("console") if "--experiment-name=first\ncollected" in text)

    def shape(lines: list[str]) -> list[str]:
        """The words and the columns, without numbers."""
        lines = lines[next(i for i, line in enumerate(lines) if line.startswith("collected")) :]
        return [re.sub(r"[][\d. =-]+|exp_\w+", "", line) for line in lines]

    assert shape(result.outlines) == shape(shown.splitlines())


def test_the_example_without_pytest_runs(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(blocks("python")[1], encoding="utf-8")
    result = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.search(r"name_generator +words +10 ", result.stdout)
    assert "10 runs (10 passed), 10 calls" in result.stdout
    assert (tmp_path / "message_log.db").exists()


def test_the_steps_shown_are_those_of_the_example(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.write(blocks("python")[2], "test_answers.py")
    (shown,) = (text.splitlines() for text in blocks("console") if "test_answers.py" in text)
    assert shown[0].startswith("$ pytest ")
    assert suite.run(*shown[0].split()[2:]).ret == 0
    monkeypatch.chdir(suite.path)
    printed = CliRunner().invoke(main, shown[1].split()[2:]).output.splitlines()

    def shape(lines: list[str]) -> list[str]:
        """The words, without numbers, ids and what the sampler said."""
        lines = [re.sub(r"(output|assistant): \w.*", r"\1: something", line) for line in lines]
        return [re.sub(r"[\d.]+( m?s\b)?|(run|exp)_\w+", "", line) for line in lines]

    assert shape(printed) == shape(shown[2:])


def test_the_conftest_shown_makes_spans_of_frameworks_steps(suite: Suite) -> None:
    pytest.importorskip("opentelemetry.sdk")
    suite.write(blocks("python")[3], "conftest.py")
    suite.write("""
        import pytest
        from opentelemetry import trace
        from pytest_llmexp import step

        @pytest.mark.experiment(n=2)
        def test_agent(bot):
            tracer = trace.get_tracer("a-framework")
            chat = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "in-process"}
            with tracer.start_as_current_span("agent", attributes={"gen_ai.operation.name": "invoke_agent"}):
                with step("look up"), tracer.start_as_current_span("chat", attributes=chat):
                    pass
                bot()("hello")
    """)
    assert suite.run("--experiment-name=x", new_process=True).ret == 0
    store = suite.store()
    experiment = store.experiment("x").id
    for run in store.runs(experiment):
        agent, look_up, chat = store.steps(experiment, run.id)
        assert [each.name for each in (agent, look_up, chat)] == ["agent", "look up", "chat"]
        assert (look_up.parent_step_id, chat.parent_step_id) == (agent.id, look_up.id)
        told, sent = store.calls(experiment, run.id)
        assert (told.step_id, told.client, sent.step_id) == (chat.id, "otel", agent.id)


def test_the_documented_gate_fails(suite: Suite) -> None:
    suite.write(blocks("python")[0], "test_job_names.py")
    command = next(line for line in README.splitlines() if "# exits with 1" in line)
    gate = re.search(r'--experiment-gate="([^"]+)"', command)
    assert gate
    assert suite.run(f"--experiment-gate={gate[1]}").ret == pytest.ExitCode.TESTS_FAILED


def test_the_documented_limit_stops(suite: Suite) -> None:
    suite.write(blocks("python")[0], "test_job_names.py")
    (arguments,) = re.findall(r"^\$ pytest (.*--experiment-max-tokens=.*)$", README, re.MULTILINE)
    result = suite.run(*arguments.split())
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    shown = next(line for line in README.splitlines() if line.startswith("SPENDING LIMIT"))
    assert re.sub(r"[\d,]+", "", shown) in [re.sub(r"[\d,]+", "", line) for line in result.outlines]


def test_the_documented_prices_are_read(suite: Suite) -> None:
    suite.pytester.makeini(blocks("ini")[0])
    suite.write("import pytest\n@pytest.mark.experiment(n=1)\ndef test_x(): pass")
    assert suite.run().ret == 0


def test_ci_runs_the_line_of_the_readme() -> None:
    (line,) = re.findall(r"^\$ (.*bin/tox)$", README, re.MULTILINE)
    assert line in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()


def test_every_option_is_in_the_readme(suite: Suite) -> None:
    options = set(re.findall(r"--experiment-[a-z-]+", suite.run("--help").stdout.str()))
    assert options == set(re.findall(r"`(--experiment-[a-z-]+)", README))
    assert set(re.findall(r"LLMEXP_[A-Z_]+", suite.run("--help").stdout.str())) <= set(
        re.findall(r"LLMEXP_[A-Z_]+", README)
    )


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
