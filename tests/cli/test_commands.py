"""The `llmexp` command on a store that pytest recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_llmexp.cli import main
from tests.conftest import Suite


@pytest.fixture
def recorded(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A store with two experiments, `first` and `second`, in the current folder."""
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=3, gates=["mean(score) >= 2"], tags={"team": "a"})
        def test_x(bot, experiment_run, record_metric):
            bot("You.")("Hello")
            record_metric("score", experiment_run.index)
    """)
    suite.run("--experiment-name=first", "--experiment-tag=k=v")
    suite.run("--experiment-name=second", "--experiment-gate=max(score) <= 2")
    monkeypatch.chdir(suite.path)
    return suite


def llmexp(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_list_shows_the_newest_first(recorded: Suite) -> None:
    lines = llmexp("list").output.splitlines()
    assert lines[0].split() == ["name", "status", "started", "(UTC)", "runs", "gates", "tags", "id"]
    assert lines[2].startswith("second")
    assert "1 passed, 1 failed" in lines[2] or "1 failed, 1 passed" in lines[2]
    assert "k=v" in lines[3]


def test_list_and_show_as_json(recorded: Suite) -> None:
    listed = json.loads(llmexp("list", "--json").output)
    assert [row["name"] for row in listed] == ["second", "first"]
    shown = json.loads(llmexp("show", "second", "--json").output)
    assert [run["metrics"]["score"] for run in shown["runs"]] == [1, 2, 3]
    assert {verdict["verdict"] for verdict in shown["verdicts"]} == {"passed", "failed"}
    summary = next(row for row in shown["summaries"] if row["metric"] == "score" and row["case_id"] is None)
    assert (summary["mean"], summary["n"], summary["method"]) == (2.0, 3, "t")


def test_show_prints_the_table_of_the_session(recorded: Suite) -> None:
    session = recorded.run("--experiment-name=third").outlines
    shown = llmexp("show", "third").output.splitlines()
    table = [line for line in session if line.startswith(("test", "---", "      "))]
    assert len(table) > 3
    assert set(table[1:]) <= set(shown) | {line for line in table if line.startswith("test_suite")}


def test_a_name_means_its_latest_and_tilde_an_earlier_one(recorded: Suite) -> None:
    recorded.run("--experiment-name=first")
    newest, oldest = (json.loads(llmexp("show", ref, "--json").output)["experiment"] for ref in ("first", "first~1"))
    assert newest["started_at"] > oldest["started_at"]
    assert llmexp("show", oldest["id"]).exit_code == 0


def test_unknown_references_and_stores_are_one_line(recorded: Suite, tmp_path: Path) -> None:
    result = llmexp("show", "frist")
    assert result.exit_code == 1
    assert "did you mean 'first'" in result.output
    missing = llmexp("list", "--db", str(tmp_path / "none.db"))
    assert missing.exit_code == 1
    assert "none.db" in missing.output
    assert "--db" in missing.output
    assert not (tmp_path / "none.db").exists()


def test_the_store_is_named_by_option_or_environment(
    recorded: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(recorded.path / "message_log.db")
    monkeypatch.chdir(tmp_path)
    assert llmexp("list").exit_code == 1
    assert llmexp("list", "--db", path).exit_code == 0
    monkeypatch.setenv("LLMEXP_DB", path)
    assert llmexp("list").exit_code == 0


def test_doctor_tells_a_whole_file_from_a_damaged_one_and_saves_rows(recorded: Suite) -> None:
    whole = llmexp("doctor")
    assert whole.exit_code == 0
    assert "the file is whole" in whole.output
    assert "SQLite" in whole.output
    path = recorded.path / "message_log.db"
    damaged = recorded.path / "damaged.db"
    damaged.write_bytes(path.read_bytes()[:-8192])
    result = llmexp("doctor", str(damaged), "--salvage", "saved.db")
    assert result.exit_code == 1
    assert "saved into saved.db" in result.output
    assert "saved 6 rows of experiment_runs" in result.output
    assert llmexp("list", "--db", "saved.db").exit_code == 0


def test_help_is_short_and_lists_every_command() -> None:
    result = llmexp("--help")
    assert result.exit_code == 0
    for name in ("list", "show", "doctor", "serve-local"):
        assert f"  {name}" in result.output
        assert llmexp(name, "--help").exit_code == 0
    assert llmexp("--version").output.startswith("llmexp, version")
