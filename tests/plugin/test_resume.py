"""`--experiment-resume`: what is kept, what is executed again, and what may not have changed."""

from __future__ import annotations

import pytest

from pytest_llmexp.core.models import Experiment
from pytest_llmexp.store import open_store
from tests.conftest import Suite

SUITE = """
    import pathlib, pytest
    from pytest_llmexp import prompt

    @prompt("user")
    def ask():
        '''Where is Rome?'''

    @pytest.mark.experiment(n=4, gates=["mean(index) > 0"])
    @pytest.mark.parametrize("t", [0.0, 1.0])
    def test_x(bot, record_metric, experiment_run, t):
        bot("You know.", temperature=t)(ask())
        record_metric("index", experiment_run.index)
        with open("executed", "a") as file: print(t, experiment_run.index, file=file)
        if experiment_run.index == 2 and pathlib.Path("broken").exists(): raise OSError("away")
        if experiment_run.index == 3: assert t == 0
"""


@pytest.fixture
def broken(suite: Suite) -> Suite:
    """A suite of which an experiment `x` was recorded: two runs of eight were errors, one failed."""
    suite.write(SUITE)
    (suite.path / "broken").touch()
    suite.run("--experiment-name=x").assert_outcomes(passed=5, failed=3, skipped=1)
    (suite.path / "broken").unlink()
    (suite.path / "executed").unlink()
    return suite


def executed(suite: Suite) -> list[str]:
    path = suite.path / "executed"
    return sorted(path.read_text().splitlines()) if path.exists() else []


def the_experiment(suite: Suite) -> Experiment:
    (experiment,) = suite.store().experiments()
    return experiment


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_errors_are_executed_again_and_what_ended_is_kept(broken: Suite, workers: tuple[str, ...]) -> None:
    before = the_experiment(broken)
    result = broken.run("--experiment-resume=x", *workers)
    assert executed(broken) == ["0.0 2", "1.0 2"]
    result.stdout.fnmatch_lines(
        ['llmexp: experiment "x" goes on, *', "8 runs (7 passed, 1 failed), 10 calls (2 replayed)*"]
    )
    assert result.ret == 0
    after = the_experiment(broken)
    assert (after.id, after.started_at, after.status, after.exit_status) == (
        before.id,
        before.started_at,
        "finished",
        0,
    )
    assert [set(step) for step in after.metadata["resumed"]] == [{"at", "command", "git_commit"}]
    (verdict,) = broken.store().verdicts(after.id)
    assert (verdict.verdict, verdict.n, verdict.missing) == ("passed", 8, 0)


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_where_nothing_is_left_the_gates_are_judged_again(broken: Suite, workers: tuple[str, ...]) -> None:
    broken.run("--experiment-resume=x")
    (broken.path / "executed").unlink()
    result = broken.run("--experiment-resume=x", "--experiment-gate=max(index) < 2", *workers)
    assert executed(broken) == []
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["GATE FAILED test_x: max(index) < 2, *", "8 runs (7 passed, 1 failed), 10 calls*"])
    assert broken.run("--experiment-resume=x", *workers).ret == 0
    verdicts = broken.store().verdicts(the_experiment(broken).id)
    assert [verdict.gate for verdict in verdicts] == ["mean(index) > 0"]  # nothing is left of the other


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_a_finished_experiment_gets_more_runs(broken: Suite, workers: tuple[str, ...]) -> None:
    broken.run("--experiment-resume=x")
    (broken.path / "executed").unlink()
    result = broken.run("--experiment-resume=x", "--experiment-runs=6", *workers)
    assert executed(broken) == ["0.0 5", "0.0 6", "1.0 5", "1.0 6"]
    result.stdout.fnmatch_lines(["12 runs (11 passed, 1 failed), *"])
    (verdict,) = broken.store().verdicts(the_experiment(broken).id)
    assert (verdict.n, verdict.missing) == (12, 0)


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_a_selection_of_what_is_left_finishes_and_decides_nothing(broken: Suite, workers: tuple[str, ...]) -> None:
    result = broken.run("--experiment-resume=x", "-k", "0.0", *workers)
    assert executed(broken) == ["0.0 2"]
    result.stdout.fnmatch_lines(["8 runs (6 passed, 1 error, 1 failed), *", "interrupted 8/8: gates were not judged"])
    after = the_experiment(broken)
    assert (after.status, broken.store().verdicts(after.id)) == ("interrupted", [])
    broken.run("--experiment-resume", *workers)
    (verdict,) = broken.store().verdicts(after.id)
    assert (verdict.n, verdict.missing, the_experiment(broken).status) == (8, 0, "finished")


def test_the_latest_experiment_is_meant_unless_one_is_named(broken: Suite) -> None:
    result = broken.run("--experiment-resume")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *the latest experiment is 'x' (exp_*), which is finished; --experiment-resume=x *"]
    )
    interrupted = broken.run("--experiment-name=y", "-x")
    assert interrupted.ret == pytest.ExitCode.TESTS_FAILED
    assert broken.run("--experiment-resume").ret == 0
    y = broken.store().experiment("y")
    assert (y.status, len(y.metadata["resumed"])) == ("finished", 1)
    assert broken.run("--experiment-resume=" + y.id).ret == 0


CHANGES = [
    (
        "Where is Rome?",
        "Where is Oslo?",
        "the prompt test_suite.ask has changed: ??????? was used, now it is ???????",
    ),
    ("[0.0, 1.0]", "[0.0, 1.0, 2.0]", "test_suite.py::test_x[[]2.0] is not part of the experiment"),
    ("[0.0, 1.0]", "[0.0]", "test_suite.py::test_x[[]1.0] is part of the experiment, and is not there any more"),
    (
        "def test_x",
        "def test_z",
        "test_suite.py::test_x is part of the experiment, and was not collected: it is gone*",
    ),
    ("def test_x", "def test_z", "test_suite.py::test_z is not part of the experiment; leave it out*"),
    ("n=4", "n=3", "test_suite.py::test_x has 4 runs of each case already, and now n=3; --experiment-runs=4"),
    ("away", "gone", "the code of test_suite.py has changed; --experiment-resume-anyway goes on all the same"),
]


@pytest.mark.parametrize(
    ("old", "new", "said", "workers"),
    [
        *((*change, ()) for change in CHANGES),
        # what is found is one list of reasons, which workers send to the controller
        *(pytest.param(*change, ("-n", "2"), marks=pytest.mark.xdist) for change in CHANGES[:1]),
    ],
)
def test_what_has_changed_is_named_and_nothing_is_done(
    broken: Suite, old: str, new: str, said: str, workers: tuple[str, ...]
) -> None:
    before = the_experiment(broken)
    broken.write(SUITE.replace(old, new))
    anyway = () if "anyway" in said else ("--experiment-resume-anyway",)
    result = broken.run("--experiment-resume=x", *anyway, *workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    printed = result.stdout if workers else result.stderr
    printed.fnmatch_lines([f"ERROR: x ({before.id}) cannot be resumed:", said])
    everything = result.stdout.str() + result.stderr.str()
    assert everything.count("cannot be resumed") == 1
    assert "goes on," not in everything
    assert executed(broken) == []
    assert the_experiment(broken) == before
    assert len(broken.store().verdicts(before.id)) == 1


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_another_model_is_another_experiment(broken: Suite, workers: tuple[str, ...]) -> None:
    other = ("--experiment-model=m2", "--experiment-base-url=http://127.0.0.1:9/v1")
    result = broken.run("--experiment-resume=x", *other, *workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = "the model was local-sampler (not an LLM)* and is m2 at http://127.0.0.1:9/v1; --experiment-resume-anyway *"
    (result.stdout if workers else result.stderr).fnmatch_lines([said])
    assert executed(broken) == []


def test_changed_code_goes_on_if_told_so(broken: Suite) -> None:
    broken.write(SUITE.replace('raise OSError("away")', "pass"))
    assert broken.run("--experiment-resume=x", "--experiment-resume-anyway").ret == 0
    assert executed(broken) == ["0.0 2", "1.0 2"]


def test_another_commit_is_another_version_of_the_code(broken: Suite) -> None:
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    broken.pytester.run(*git, "init", "-q")
    for name in ("one", "two"):
        broken.pytester.run(*git, "commit", "-q", "--allow-empty", "-m", name)
        if name == "one":
            broken.run("--experiment-name=y", "-x")
    result = broken.run("--experiment-resume=y")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["the commit was ?????????? and is ??????????; --experiment-resume-anyway *"])
    assert broken.run("--experiment-resume=y", "--experiment-resume-anyway").ret == 0


APPLICATION = """
    import pathlib, pytest, sys
    import app.parts

    @pytest.mark.experiment(n=4)
    def test_x(bot, experiment_run):
        import late
        sys.path.append("env/lib/python3/site-packages")
        import installed
        bot("You know.")(app.parts.question())
        if experiment_run.index == 2 and pathlib.Path("broken").exists(): raise OSError("away")
"""


@pytest.fixture
def application(suite: Suite) -> Suite:
    """A suite that tests an application beside it, of which an experiment was recorded that has a run to be made."""
    suite.write(APPLICATION)
    suite.write("def test_other(): pass", "test_other.py")
    suite.write("question = lambda: 'Where is Rome?'", "app/parts.py")
    for name in ("app/__init__.py", "late.py", "not_imported.py", "env/lib/python3/site-packages/installed.py"):
        suite.write("", name)
    (suite.path / "broken").touch()
    return suite


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.xdist)])
def test_code_under_test_is_compared_whether_in_git_or_not(application: Suite, workers: tuple[str, ...]) -> None:
    application.run("--experiment-name=x", *workers).assert_outcomes(passed=4, failed=1)
    noted = the_experiment(application).metadata["modules"]
    assert set(noted) == {"app/__init__.py", "app/parts.py", "late.py"}
    for name in ("app/parts.py", "late.py"):
        before = (application.path / name).read_text()
        application.write(before + "\n# changed", name)
        refused = application.run("--experiment-resume=x", *workers)
        assert refused.ret == pytest.ExitCode.USAGE_ERROR
        printed = refused.stdout if workers else refused.stderr
        printed.fnmatch_lines([f"the code of {name} has changed; --experiment-resume-anyway goes on all the same"])
        application.write(before, name)
    for name in ("not_imported.py", "test_other.py", "env/lib/python3/site-packages/installed.py"):
        application.write("def test_other(): assert True", name)
    assert application.run("--experiment-resume=x", *workers).ret == pytest.ExitCode.TESTS_FAILED
    assert the_experiment(application).metadata["modules"] == noted


def test_code_that_was_accepted_is_what_is_compared_with_later(application: Suite) -> None:
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    application.pytester.run(*git, "init", "-q")
    application.pytester.run(*git, "add", "app")
    application.pytester.run(*git, "commit", "-q", "-m", "one")
    application.run("--experiment-name=x").assert_outcomes(passed=4, failed=1)
    application.write("question = lambda: 'Where is Rome? '", "app/parts.py")
    refused = application.run("--experiment-resume=x")
    refused.stderr.fnmatch_lines(["the code of app/parts.py has changed; *"])
    assert "commit" not in refused.stderr.str()
    assert application.run("--experiment-resume=x", "--experiment-resume-anyway").ret == pytest.ExitCode.TESTS_FAILED
    (application.path / "broken").unlink()
    assert application.run("--experiment-resume=x").ret == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--experiment-resume=z"], "*no experiment has the id or name 'z': did you mean 'x'?*"),
        (["--experiment-resume", "test_suite.py"], "*paths come first: pytest PATH --experiment-resume=NAME"),
        (["--experiment-resume=x", "--experiment-name=y"], "*is the experiment 'x', which keeps its name*"),
        (["--experiment-resume=x", "--experiment-db=none.db"], "*there is no store at*"),
        (["--experiment-resume-anyway"], "--experiment-resume-anyway does nothing without --experiment-resume*"),
        (
            ["--experiment-resume=x", "--experiment-capture=off"],
            "--experiment-resume: this needs the calls*",
        ),
    ],
)
@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "1"), marks=pytest.mark.xdist)])
def test_what_cannot_go_on_is_a_usage_error(
    broken: Suite, arguments: list[str], said: str, workers: tuple[str, ...]
) -> None:
    result = broken.run(*workers, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().count("Traceback") == 0
    result.stderr.fnmatch_lines([f"ERROR: {said}"])


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "1"), marks=pytest.mark.xdist)])
def test_without_an_experiment_to_go_on_with_it_says_where_it_looked(suite: Suite, workers: tuple[str, ...]) -> None:
    suite.write(SUITE)
    path = suite.path / "message_log.db"
    missing = suite.run("--experiment-resume", *workers)
    open_store(path, create=True).close()
    empty = suite.run("--experiment-resume", *workers)
    for result, said in (
        (missing, f"there is no store at {path}: "),
        (empty, f"there is no experiment * yet in {path}"),
    ):
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: --experiment-resume: {said}*"])


def test_an_experiment_that_is_being_recorded_is_left_alone(suite: Suite) -> None:
    suite.write(
        """
        import pytest, subprocess, sys
        @pytest.mark.experiment(n=1)
        def test_x():
            inner = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--experiment-resume"]
            result = subprocess.run(inner, capture_output=True, text=True)
            assert result.returncode == 4
            assert "is still being recorded, by process" in result.stderr
    """
    )
    suite.run(new_process=True).assert_outcomes(passed=1)
