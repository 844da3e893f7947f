"""S9: names are stored and found verbatim, and nothing in the package evaluates what it reads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from click.testing import CliRunner

import pytest_llmexp
from pytest_llmexp.cli import main
from tests.conftest import Suite

NAMES = ["it's", 'say "hi"', "a; DROP TABLE experiments --", "100%", "under_score", "*", "a\\b", "ünïcode 名", "-v"]
FORBIDDEN = {"pickle", "marshal", "shelve", "dill"}


def test_names_are_stored_and_found_verbatim(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=1)
        def test_x(record_metric, experiment_run):
            record_metric("it's; 100% \\"x\\" *", 1)
            experiment_run.tag(**{"k'": "v%_"})
    """)
    for name in NAMES:
        suite.run(f"--experiment-name={name}", "--experiment-tag", f"name={name}")
    store = suite.store()
    assert [experiment.name for experiment in store.experiments()] == NAMES[::-1]
    for name in NAMES:
        experiment = store.experiment(name)
        assert (experiment.name, experiment.tags) == (name, {"name": name})
        assert [metric.name for metric in store.metrics(experiment.id)] == ['it\'s; 100% "x" *']
        assert store.runs(experiment.id)[0].tags == {"k'": "v%_"}
        shown = CliRunner().invoke(main, ["show", "--db", str(suite.path / "message_log.db"), "--", name])
        assert shown.exit_code == 0, shown.output
        assert experiment.id in shown.output


def test_a_wildcard_is_no_name(suite: Suite) -> None:
    suite.write("import pytest\n@pytest.mark.experiment(n=1)\ndef test_x(): pass")
    suite.run("--experiment-name=plain")
    shown = CliRunner().invoke(main, ["show", "pl%", "--db", str(suite.path / "message_log.db")])
    assert shown.exit_code == 1


@pytest.mark.parametrize("path", sorted(Path(pytest_llmexp.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_evaluates_or_unpickles(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.partition(".")[0] for alias in node.names} | {getattr(node, "module", None) or ""}
            assert not names & FORBIDDEN
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}
