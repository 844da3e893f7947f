"""Ways in which a session could look better than it was, and does not."""

from __future__ import annotations

import sqlite3

import pytest

from pytest_llmexp.core.models import Verdict
from tests.conftest import Suite


def verdicts(suite: Suite) -> list[Verdict]:
    store = suite.store()
    return store.verdicts(store.experiments()[0].id)


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_a_secret_that_looks_like_a_test_hides_no_failed_gate(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PROJECT_KEY", "test_tickets")
    suite.write(
        """
        import pytest
        @pytest.mark.experiment(n=2, gates=["pass_rate >= 0.9"])
        def test_bad(): assert False
        """,
        "test_tickets.py",
    )
    assert suite.run(*workers).ret == pytest.ExitCode.TESTS_FAILED
    assert [verdict.verdict for verdict in verdicts(suite)] == ["failed"]


def test_cases_whose_ids_hold_secrets_stay_apart_and_are_not_stored(suite: Suite) -> None:
    suite.write("""
        import pytest
        KEYS = ["sk-aaaaaaaaaaaaaaaaaaaaaaaa11111", "sk-bbbbbbbbbbbbbbbbbbbbbbbb22222"]
        @pytest.mark.experiment(n=2, gates=["mean(m) >= 0.9"])
        @pytest.mark.parametrize("key", KEYS)
        def test_x(key, record_metric): record_metric("m", key == KEYS[0])
    """)
    assert suite.run(new_process=True).ret == pytest.ExitCode.TESTS_FAILED
    assert b"sk-aaaa" not in (suite.path / "message_log.db").read_bytes()
    (verdict,) = verdicts(suite)
    assert (verdict.n, verdict.missing, verdict.estimate) == (4, 0, 0.5)


def test_secrets_in_names_tags_commands_and_addresses_are_not_stored(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GH_TOKEN", "plainsecretvalue99")
    suite.write("import pytest\n@pytest.mark.experiment(n=1)\ndef test_x(): pass")
    result = suite.run(
        "--experiment-name=nightly-plainsecretvalue99",
        "--experiment-tag=t=plainsecretvalue99",
        "--experiment-model=m",
        "--experiment-base-url=http://user:hunter2secret@127.0.0.1:9/v1",
        new_process=True,
    )
    assert result.ret == 0
    content = (suite.path / "message_log.db").read_bytes()
    assert b"plainsecretvalue99" not in content
    assert b"hunter2secret" not in content
    assert "hunter2secret" not in result.stdout.str()


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="subtests came with pytest 9")
def test_a_failed_subtest_is_a_failed_run(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=2, gates=["pass_rate >= 1"])
        def test_x(subtests):
            with subtests.test("never right"): assert False
    """)
    assert suite.run().ret == pytest.ExitCode.TESTS_FAILED
    assert [verdict.verdict for verdict in verdicts(suite)] == ["failed"]


def test_reruns_do_not_hide_failed_runs(suite: Suite) -> None:
    suite.write("""
        import pytest
        attempts = []
        @pytest.mark.experiment(n=2, gates=["mean(pass_rate) >= 1"])
        def test_x(record_metric, experiment_run):
            attempts.append(experiment_run.index)
            record_metric("m", 1)
            assert attempts.count(experiment_run.index) > 1
        def test_plain():
            attempts.append("plain")
            assert attempts.count("plain") > 1
    """)
    result = suite.run("--reruns=1")
    result.assert_outcomes(passed=1, failed=3)
    assert "rerun" in result.stdout.str()
    assert verdicts(suite)[0].estimate == 0


def test_a_skip_in_the_body_is_missing_evidence_and_a_skip_before_it_leaves_the_case_out(suite: Suite) -> None:
    suite.write("""
        import pytest
        gates = ["pass_rate >= 0.9"]
        @pytest.mark.experiment(n=2, gates=gates)
        @pytest.mark.parametrize("language", ["en", "de"])
        def test_body(language):
            if language == "de": pytest.skip("looks bad")
        @pytest.mark.experiment(n=2, gates=gates)
        @pytest.mark.parametrize("language", ["en", pytest.param("de", marks=pytest.mark.skip)])
        def test_before(language): pass
    """)
    suite.run()
    assert [(verdict.verdict, verdict.missing) for verdict in verdicts(suite)] == [("passed", 0), ("undecided", 2)]


@pytest.mark.parametrize(
    "selection", [("-k", "run1"), ("-k", "good"), ("--deselect", "test_suite.py::test_x[bad-run2]")]
)
def test_a_selection_of_runs_decides_no_gate(suite: Suite, selection: tuple[str, ...]) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=2, gates=["pass_rate >= 0.9"])
        @pytest.mark.parametrize("case", ["good", "bad"])
        def test_x(case): assert case == "good"
    """)
    suite.run(*selection)
    (verdict,) = verdicts(suite)
    assert verdict.verdict == "undecided"
    assert "only a part of the 4 runs was selected" in verdict.detail
    assert suite.run("--experiment-runs=1").ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("table", ["calls", "metrics", "experiment_runs"])
def test_records_that_the_store_refuses_fail_the_session(suite: Suite, table: str) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=1)
        def test_x(bot, record_metric):
            bot("You.")("Hello")
            record_metric("m", 1)
    """)
    suite.run()
    connection = sqlite3.connect(suite.path / "message_log.db")
    connection.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'refused'); END")
    connection.commit()
    connection.close()
    result = suite.run(new_process=True)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*record(s) could not be stored*", "NOT RECORDED*refused*"])


def test_a_gate_on_a_metric_that_nobody_records_fails(suite: Suite) -> None:
    suite.write("""
        import pytest
        @pytest.mark.experiment(n=2, gates=["mean(lenght) >= 1"])
        def test_x(record_metric): record_metric("length", 1)
    """)
    result = suite.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["GATE FAILED*did you mean 'length'?"])


def test_an_unmarked_test_with_the_client_breaks_no_experiment(suite: Suite) -> None:
    suite.write("""
        import pytest
        def test_plain(llm_client): pass
        @pytest.mark.experiment(n=1)
        def test_x(bot): bot("You.")("Hello")
    """)
    suite.run().assert_outcomes(passed=2)


def test_doctests_of_a_marked_module_stay_doctests(suite: Suite) -> None:
    suite.write("""
        import pytest
        pytestmark = pytest.mark.experiment(n=2)
        def double(x):
            '''
            >>> double(2)
            4
            '''
            return 2 * x
        def test_x(): pass
    """)
    suite.run("--doctest-modules").assert_outcomes(passed=3)


def test_calls_of_shared_fixtures_belong_to_no_run(suite: Suite) -> None:
    suite.write("""
        import pytest
        from pytest_llmexp import SimpleBot
        @pytest.fixture(scope="module")
        def story(): return SimpleBot("You.")("Tell me a story.")
        @pytest.fixture
        def own(bot): return bot("You.")("Tell me another.")
        @pytest.mark.experiment(n=2)
        def test_x(story, own): assert story
    """)
    result = suite.run()
    store = suite.store()
    calls = store.calls(store.experiments()[0].id)
    assert sorted(call.run_id is None for call in calls) == [False, False, True]
    result.stdout.fnmatch_lines(["1 calls were made outside of a run and belong to none"])
