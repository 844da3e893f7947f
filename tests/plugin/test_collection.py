"""Marked tests become items, one per run; wrong uses are usage errors before a call is made."""

from __future__ import annotations

import pytest

from tests.conftest import Suite


def collected(suite: Suite, *arguments: str) -> list[str]:
    result = suite.run("--collect-only", "-q", *arguments)
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


def test_runs_vary_fastest_beside_other_parameters(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=2)
        @pytest.mark.parametrize("temperature", [0.0, 1.0])
        def test_x(temperature): pass
    """)
    assert collected(suite) == ["test_x[0.0-run1]", "test_x[0.0-run2]", "test_x[1.0-run1]", "test_x[1.0-run2]"]


def test_a_test_without_parameters_has_runs_only(suite: Suite) -> None:
    suite.write("import pytest\n@pytest.mark.experiment(n=3)\ndef test_x(): pass")
    assert collected(suite) == ["test_x[run1]", "test_x[run2]", "test_x[run3]"]


def test_a_bare_mark_means_ten_runs(suite: Suite) -> None:
    suite.write("import pytest\n@pytest.mark.experiment\ndef test_x(): pass")
    assert len(collected(suite)) == 10


def test_parametrized_fixtures_of_wider_scope_stay_outside(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.fixture(scope="module", params=["a", "b"])
        def model(request): return request.param
        @pytest.mark.experiment(n=2)
        def test_x(model): pass
    """)
    assert collected(suite) == ["test_x[a-run1]", "test_x[a-run2]", "test_x[b-run1]", "test_x[b-run2]"]


def test_the_closest_n_wins_and_classes_and_modules_count(suite: Suite) -> None:
    suite.write("""
        import pytest
        pytestmark = pytest.mark.experiment(n=3)
        class TestA:
            pytestmark = pytest.mark.experiment(n=2)
            def test_class(self): pass
            @pytest.mark.experiment(n=1)
            def test_own(self): pass
        def test_module(): pass
    """)
    names = collected(suite)
    assert [sum("test_class" in n for n in names), sum("test_own" in n for n in names)] == [2, 1]
    assert sum("test_module" in n for n in names) == 3


def test_gates_and_tags_of_all_marks_add_up(suite: Suite) -> None:
    suite.write("""
        import pytest
        pytestmark = pytest.mark.experiment(gates=["pass_rate >= 0.5"], tags={"team": "a", "level": "module"})
        @pytest.mark.experiment(n=2, gates=["mean(x) >= 1"], tags={"level": "test"})
        def test_x(record_metric): record_metric("x", 1)
    """)
    suite.run("--experiment-name=x").assert_outcomes(passed=4)
    store = suite.store()
    experiment = store.experiment("x")
    assert {verdict.gate for verdict in store.verdicts(experiment.id)} == {"pass_rate >= 0.5", "mean(x) >= 1"}
    assert store.runs(experiment.id)[0].tags == {"team": "a", "level": "test"}


def test_experiment_runs_overrides_every_mark(suite: Suite) -> None:
    suite.write("import pytest\n@pytest.mark.experiment(n=30)\ndef test_x(): pass")
    assert collected(suite, "--experiment-runs=1") == ["test_x[run1]"]


def test_runs_can_be_selected_like_any_item(suite: Suite) -> None:
    suite.write("import pytest\n@pytest.mark.experiment(n=12)\ndef test_x(): pass\ndef test_plain(): pass")
    assert collected(suite, "-k", "run3") == ["test_x[run3]"]
    assert collected(suite, "-m", "not experiment") == ["test_plain"]
    suite.run("test_suite.py::test_x[run2]").assert_outcomes(passed=1)


def test_case_ids_that_look_like_runs_are_kept_apart(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=2)
        @pytest.mark.parametrize("name", ["run1", "a-run2"])
        def test_x(name): pass
    """)
    suite.run("--experiment-name=x").assert_outcomes(passed=4)
    store = suite.store()
    runs = store.runs(store.experiment("x").id)
    assert [(run.case_id, run.run_index) for run in runs] == [("run1", 1), ("run1", 2), ("a-run2", 1), ("a-run2", 2)]


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ("(n=0)", "n=0"),
        ("(n=True)", "n=True"),
        ("(n='5')", "n='5'"),
        ("(5)", "write n=5"),
        ("(m=5)", "no argument 'm'; allowed: n, gates, tags, timeout"),
        ("(gates='pass_rate > 1')", "gates is a list"),
        ("(gates=[3])", "a gate is a text"),
        ("(gates=['meen(x) >= 1'])", "mean"),
        ("(gates=['mean(x) >= '])", "mean(x) >="),
        ("(tags=['a'])", "tags is a dict"),
        ("(timeout=0)", "timeout=0"),
        ("(timeout='1')", "timeout='1'"),
    ],
)
def test_a_wrong_mark_is_a_usage_error_that_names_the_test(suite: Suite, mark: str, says: str) -> None:
    assert_usage_error(suite, mark, says)


@pytest.mark.xdist
def test_a_wrong_mark_is_the_same_usage_error_with_workers(suite: Suite) -> None:
    assert_usage_error(suite, "(n=0, gates=['mean(x) >= '])", "n=0", "-n", "2")


def assert_usage_error(suite: Suite, mark: str, says: str, *arguments: str) -> None:
    suite.write(f"""
        import pathlib, pytest
        @pytest.mark.experiment{mark}
        def test_wrong(): pathlib.Path("executed").touch()
        def test_other(): pathlib.Path("executed").touch()
    """)
    result = suite.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    output = result.stdout.str() + result.stderr.str()
    assert "test_suite.py::test_wrong" in output
    assert says in output
    assert not (suite.path / "executed").exists()
    assert not (suite.path / "message_log.db").exists()


def test_a_mark_on_a_unittest_case_is_a_usage_error(suite: Suite) -> None:
    suite.write("""
        import pytest, unittest
        @pytest.mark.experiment(n=2)
        class TestOld(unittest.TestCase):
            def test_x(self): pass
    """)
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "TestOld::test_x" in result.stderr.str()
    assert "unittest" in result.stderr.str()


def test_all_wrong_tests_are_named_at_once(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=0)
        def test_a(): pass
        @pytest.mark.experiment(n=-1)
        def test_b(): pass
    """)
    error = suite.run().stderr.str()
    assert "::test_a" in error
    assert "::test_b" in error


def test_collect_only_records_nothing(suite: Suite) -> None:
    suite.write("import pytest\n@pytest.mark.experiment(n=2)\ndef test_x(): pass")
    assert suite.run("--collect-only").ret == 0
    assert not (suite.path / "message_log.db").exists()
