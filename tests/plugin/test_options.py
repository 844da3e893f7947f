"""Options: command line before environment before ini, and clear errors for what cannot work."""

from __future__ import annotations

import pytest

from tests.conftest import Suite

ONE_RUN = "import pytest\n@pytest.mark.experiment(n=2)\ndef test_x(): pass"


def names(suite: Suite, path: str = "message_log.db") -> list[str]:
    return [experiment.name for experiment in suite.store(path).experiments()]


def test_the_command_line_beats_the_environment_beats_the_ini_file(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.write(ONE_RUN)
    suite.pytester.makeini("[pytest]\nexperiment_name = from-ini\nexperiment_runs = 1")
    suite.run().assert_outcomes(passed=1)
    monkeypatch.setenv("LLMEXP_NAME", "from-environment")
    monkeypatch.setenv("LLMEXP_RUNS", "3")
    suite.run().assert_outcomes(passed=3)
    suite.run("--experiment-name=from-command", "--experiment-runs=4").assert_outcomes(passed=4)
    assert names(suite) == ["from-command", "from-environment", "from-ini"]


def test_without_a_name_it_is_the_git_branch_else_default(suite: Suite) -> None:
    suite.write(ONE_RUN)
    suite.run()
    suite.pytester.run("git", "init", "-q", "-b", "shorter-prompt")
    suite.run()
    assert names(suite) == ["shorter-prompt", "default"]


def test_tags_and_gates_of_all_places_add_up(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.write(ONE_RUN)
    suite.pytester.makeini("[pytest]\nexperiment_tags =\n  a=1\n  b=1\nexperiment_gates = pass_rate >= 0.1")
    monkeypatch.setenv("LLMEXP_TAGS", "b=2;c=2")
    monkeypatch.setenv("LLMEXP_GATES", "pass_rate >= 0.2")
    suite.run("--experiment-name=x", "--experiment-tag", "c=3=x", "--experiment-gate", "pass_rate>=0.3")
    store = suite.store()
    experiment = store.experiment("x")
    assert experiment.tags == {"a": "1", "b": "2", "c": "3=x"}
    gates = [verdict.gate for verdict in store.verdicts(experiment.id)]
    assert gates == ["pass_rate >= 0.1", "pass_rate >= 0.2", "pass_rate >= 0.3"]


def test_the_store_can_be_elsewhere(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.write(ONE_RUN)
    suite.run("--experiment-db=one.db")
    monkeypatch.setenv("LLMEXP_DB", str(suite.path / "two.db"))
    suite.run("--experiment-name=second")
    assert names(suite, "one.db") == ["default"]
    assert names(suite, "two.db") == ["second"]
    assert not (suite.path / "message_log.db").exists()


def test_a_store_of_the_ini_file_is_relative_to_it(suite: Suite) -> None:
    suite.write(ONE_RUN, "sub/test_suite.py")
    suite.pytester.makeini("[pytest]\nexperiment_db = kept.db")
    suite.pytester.chdir()
    suite.run("sub")
    assert names(suite, "kept.db") == ["default"]


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--experiment-runs=0", "--experiment-runs is '0'"),
        ("--experiment-runs=many", "'many'"),
        ("--experiment-name=", "--experiment-name is ''"),
        ("--experiment-name=x~1", "'x~1'"),
        ("--experiment-tag=novalue", "KEY=VALUE"),
        ("--experiment-base-url=localhost", "'localhost'; it is an address such as http://127.0.0.1:11434/v1"),
        ("--experiment-base-url=http://", "--experiment-base-url is 'http://'; it is an address such as http://"),
        ("--experiment-base-url=http://h:none/v1", "'http://h:none/v1'; it is an address such as http://"),
        ("--experiment-db=", "--experiment-db is empty"),
        ("--experiment-gate=mean(x) ~ 3", "mean(x)"),
        ("--experiment-gate=lower(x) >= 3", "not available"),
        ("--experiment-model=gpt-4o", "neither a key nor a base URL"),
    ],
)
def test_a_wrong_option_is_a_usage_error(suite: Suite, argument: str, says: str) -> None:
    suite.write(ONE_RUN)
    result = suite.run(argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert says in result.stderr.str()


@pytest.mark.parametrize(("name", "value"), [("LLMEXP_RUNS", "-1"), ("OPENAI_BASE_URL", "http://")])
def test_a_wrong_environment_variable_is_named(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    suite.write(ONE_RUN)
    monkeypatch.setenv(name, value)
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"{name} is '{value}'" in result.stderr.str()


def test_help_lists_every_option_with_its_other_forms(suite: Suite) -> None:
    text = " ".join(suite.run("--help").stdout.str().split())
    for name in ("name", "runs", "db", "model", "base-url", "tag", "gate"):
        assert f"--experiment-{name}=" in text
    for variable in ("LLMEXP_NAME", "LLMEXP_RUNS", "LLMEXP_DB", "LLMEXP_MODEL", "LLMEXP_BASE_URL", "LLMEXP_TAGS"):
        assert variable in text


def test_the_marker_and_the_fixtures_are_documented(suite: Suite) -> None:
    assert "@pytest.mark.experiment(n=10, gates=[...]" in suite.run("--markers").stdout.str()
    fixtures = suite.run("--fixtures").stdout.str()
    for name in ("bot ", "async_bot", "record_metric", "experiment_run", "llm_client"):
        assert name in fixtures
