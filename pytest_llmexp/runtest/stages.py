"""What happens at each stage of a session with experiments. Imported with the first marked test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from pytest_llmexp.core.errors import LlmexpError, StoreError
from pytest_llmexp.core.spending import early_end
from pytest_llmexp.runtest.collection import plan_items, plan_key, test_name
from pytest_llmexp.runtest.concurrency import runs_overlap
from pytest_llmexp.runtest.distributed import crew_of, is_controller
from pytest_llmexp.runtest.early_end import may_end_early
from pytest_llmexp.runtest.gate_reports import gate_node_id, gate_reports, log_quietly, trouble_reports
from pytest_llmexp.runtest.once import run_experiments_once
from pytest_llmexp.runtest.plans import make_plan
from pytest_llmexp.runtest.private_api import remember_as_failed
from pytest_llmexp.runtest.progress import start_line
from pytest_llmexp.runtest.resuming import find_remainder, leave_out
from pytest_llmexp.runtest.scheduling import is_run
from pytest_llmexp.runtest.session import ExperimentSession
from pytest_llmexp.runtest.spending import forecast
from pytest_llmexp.runtest.state import PluginState
from pytest_llmexp.runtest.stopping import left_behind
from pytest_llmexp.runtest.terminal import header


def check_items(
    config: pytest.Config, state: PluginState, items: list[pytest.Item], collected: list[pytest.Item]
) -> None:
    """Plan every run; wrong marks, gates and options are a usage error, in a worker left for the controller.

    `collected` are the marked items before others were deselected.
    """
    settings = state.settings
    session = state.make_session()
    session.collected = Counter(map(test_name, collected))
    run_experiments_once(config)
    problems = plan_items(items, settings.runs, settings.gates, session.redact)
    try:
        session.source()
    except pytest.UsageError as error:
        problems.append(str(error))
    if not problems and session.resumed is not None:
        problems += leave_out_finished(config, session, items)
    if not problems:
        return
    state.usage_error = "\n".join(problems)
    if not state.worker:
        raise pytest.UsageError(state.usage_error)
    items.clear()


def leave_out_finished(config: pytest.Config, session: ExperimentSession, items: list[pytest.Item]) -> list[str]:
    """Deselect the runs that an experiment which goes on has already; return what forbids to go on."""
    assert session.resumed is not None
    try:
        remainder = find_remainder(
            session.settings.db,
            session.resumed,
            items,
            session.collected,
            folder=config.rootpath,
            redact=session.redact,
            source=None if session.settings.replay == "only" else session.source(),
            anyway=session.settings.resume_anyway,
        )
    except StoreError as error:
        return [str(error)]
    if remainder.problems:
        return [f"{session.resumed.name} ({session.resumed.experiment_id}) cannot be resumed:", *remainder.problems]
    session.kept = remainder.kept
    leave_out(config, items, remainder)
    return []


def keep_plan(state: PluginState, items: list[pytest.Item]) -> None:
    """Remember what is going to be executed, after every deselection."""
    if state.session is not None:
        session = state.session
        session.plan = make_plan([*items, *session.kept], session.collected)
        session.test_files = {item.path for item in [*items, *session.kept]}
        session.note_modules()


def begin_as_controller(config: pytest.Config, state: PluginState, node_ids: Sequence[str]) -> None:
    """Begin the experiment when the first worker collected these items: before any is executed."""
    session = state.make_session()
    if session.experiment is not None:
        return
    session.expected = len(node_ids)
    session.begin()
    session.prepare_end()  # while the workers work
    start_line(config, session.spent, lambda: session.expected)
    if not config.option.collectonly:
        planned = Counter(node_id.partition("[")[0] for node_id in node_ids if is_run(node_id))
        _tell(config, [header(session, config), *forecast(session, planned)])


def _tell(config: pytest.Config, lines: Iterable[str]) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and config.get_verbosity() >= 0:
        for line in lines:
            reporter.ensure_newline()
            reporter.write_line(line)


@contextmanager
def around_loop(session: pytest.Session, state: PluginState) -> Iterator[None]:
    """Begin before the first item, finish and judge after the last."""
    config = session.config
    if config.option.collectonly:
        yield
        return
    if state.worker:
        with _overlapping(session, state):
            yield
        return
    if not is_controller(config) and state.session is not None:
        state.session.begin()
        planned = Counter(item.stash[plan_key].test for item in session.items if plan_key in item.stash)
        _tell(config, forecast(state.session, planned))
        total = len(session.items)
        state.session.line = start_line(config, state.session.spent, lambda: total)
    try:
        with _overlapping(session, state):
            yield
    except BaseException as error:
        _finish(session, state, interrupted=True, judged=not isinstance(error, KeyboardInterrupt))
        raise
    _finish(session, state, interrupted=False)


@contextmanager
def _overlapping(session: pytest.Session, state: PluginState) -> Iterator[None]:
    if state.session is None or is_controller(session.config):
        yield
        return
    with may_end_early(session.config, state.session), runs_overlap(session, state.session):
        yield


def _finish(session: pytest.Session, state: PluginState, *, interrupted: bool, judged: bool = True) -> None:
    if is_controller(session.config) and state.settings.resume is not None and not state.usage_error:
        begin_as_controller(session.config, state, [])  # its workers had nothing left to execute
    experiment = state.session
    if experiment is None or experiment.experiment is None:
        return
    for report in state.worker_reports:
        experiment.take_report(report)
    if interrupted and experiment.store is not None and (crew := crew_of(session.config)) is not None:
        since = experiment.resumed.until if experiment.resumed else ""
        left = left_behind(experiment.store, experiment.experiment_id, crew, since=since)
        experiment.dropped, experiment.unreported = left
    try:
        outcome = experiment.finish(interrupted=interrupted, judged=judged)
    except (LlmexpError, OSError) as error:
        experiment.notices.append(f"the experiment could not be finished: {error}")
        log_quietly(session.config, trouble_reports("summary", f"the experiment could not be summarised: {error}"))
        return
    log_quietly(session.config, gate_reports(outcome.verdicts))
    if experiment.problems:
        lost = f"{len(experiment.problems)} record(s) could not be stored, the first: {experiment.problems[0]}"
        log_quietly(session.config, trouble_reports("recording", lost))
    if line := early_end(outcome.experiment.metadata):
        what = "spending" if "spending_stop" in outcome.experiment.metadata else "provider"
        log_quietly(session.config, trouble_reports(what, line))
    failed = [verdict for verdict in outcome.verdicts if verdict.verdict == "failed"]
    remember_as_failed(
        session.config,
        experiment.node_ids({verdict.test for verdict in failed}),
        instead_of=map(gate_node_id, failed),
    )
