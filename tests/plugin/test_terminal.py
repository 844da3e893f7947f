"""What a person reads: the header line, the table at any width and verbosity, and nothing that is not ASCII."""

from __future__ import annotations

import pytest

from tests.conftest import Suite

TWO_CASES = """
    import pytest
    @pytest.mark.experiment(n=3, gates=["mean(words) <= 2", "pass_rate >= 0.5"])
    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_title(bot, record_metric, experiment_run, temperature):
        bot("You name jobs.", temperature=temperature, seed=1)("a job")
        record_metric("words", experiment_run.index)
        record_metric("good", True)
"""


def test_the_header_says_what_is_recorded_where_and_who_answers(suite: Suite) -> None:
    suite.write(TWO_CASES)
    result = suite.run("--experiment-name=first")
    result.stdout.fnmatch_lines(
        ['llmexp: experiment "first", model local-sampler (not an LLM): no model or API key*, db message_log.db']
    )


def test_the_table_has_a_row_per_metric_and_case_with_gates(suite: Suite) -> None:
    suite.write(TWO_CASES)
    result = suite.run("--experiment-name=first")
    result.stdout.fnmatch_lines(
        [
            "*= llmexp: experiment first =*",
            "test *metric *n  mean [[]95% CI[]]*gate",
            "test_title (2 cases)  good *6  1.00 [[]*",
            "*words *6  2.00*<= 2 ok demo",
            "*pass_rate *6  1.00 [[]*>= 0.5 ok demo",
            "- [[]0.0[]] *good *3  1.00 [[]*",
            "*words *3  2.00 [[]-0.48 4.48[]]*",
            "6 runs (6 passed), 6 calls, * tokens, cost 0 (not an LLM)",
            "95% CI: Wilson for booleans, Student's t for others*",
            "*more: llmexp show first",
        ],
    )


@pytest.mark.parametrize("width", [60, 80, 90, 200])
def test_columns_drop_by_width_and_gates_stay(suite: Suite, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    suite.write(TWO_CASES)
    monkeypatch.setenv("COLUMNS", str(width))
    lines = suite.run("-v").outlines
    header = next(line for line in lines if line.startswith("test  "))
    assert "gate" in header
    assert ("median" in header) == (width >= 200)
    assert ("method" in header) == (width >= 200)
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_verbose_shows_the_metrics_of_a_run_on_its_line(suite: Suite, workers: tuple[str, ...]) -> None:
    suite.write(TWO_CASES)
    result = suite.run("-v", *workers)
    lines = [line for line in result.outlines if "PASSED" in line]
    assert len(lines) == 6
    assert all("words=" in line and "good=1" in line for line in lines)


def test_more_verbose_adds_a_row_per_run(suite: Suite) -> None:
    suite.write(TWO_CASES)
    result = suite.run("-vv")
    result.stdout.fnmatch_lines(["test_title[[]0.0-run1[]]  passed * good=1 words=1"])


def test_quiet_keeps_the_table_and_quieter_only_failed_gates(suite: Suite) -> None:
    suite.write(TWO_CASES)
    suite.run("-q").stdout.fnmatch_lines(["test_title (2 cases)*"])
    quiet = suite.run("-qq", "--experiment-gate=mean(words) <= 1").stdout.str()
    assert "test_title (2 cases)" not in quiet
    assert "GATE FAILED test_title: mean(words) <= 1, got 2.00" in quiet


def test_control_characters_of_models_and_exceptions_never_reach_the_terminal(suite: Suite) -> None:
    suite.write(r"""
        import pytest
        EVIL = "\x1b]0;owned\x07 \x1b[2J \u202eevil\u200f \x9b31m"
        @pytest.mark.experiment(n=2, gates=["mean(score) >= 9"])
        @pytest.mark.parametrize("case", ["a"], ids=["\x1b[31mcase"])
        def test_x(case, record_metric, experiment_run):
            print(EVIL)
            record_metric("score", 1)
            record_metric("\x1b[2Jname", 1)
            if experiment_run.index == 1: raise ValueError(EVIL)
            assert EVIL == "", EVIL
    """)
    result = suite.run("-vv", "-ra", "--color=no", "--junitxml=junit.xml", new_process=True)
    output = result.stdout.str() + result.stderr.str()
    assert not set(output) & set("\x1b\x07\x9b\u202e\u200f")
    assert "\\x1b]0;owned\\x07" in output
    from xml.etree import ElementTree

    ElementTree.parse(suite.path / "junit.xml")
