"""What happens at each stage of a session with experiments. Imported with the first marked test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_llmexp.core.errors import LlmexpError
from pytest_llmexp.runtest.collection import plan_items, test_name
from pytest_llmexp.runtest.distributed import forbid_lossy_restarts, is_controller
from pytest_llmexp.runtest.gate_reports import gate_node_id, gate_reports, log_quietly, trouble_reports
from pytest_llmexp.runtest.once import run_experiments_once
from pytest_llmexp.runtest.private_api import remember_as_failed
from pytest_llmexp.runtest.session import make_plan
from pytest_llmexp.runtest.state import PluginState
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
    if not problems:
        return
    state.usage_error = "\n".join(problems)
    if not state.worker:
        raise pytest.UsageError(state.usage_error)
    items.clear()


def keep_plan(state: PluginState, items: list[pytest.Item]) -> None:
    """Remember what is going to be executed, after every deselection."""
    if state.session is not None:
        state.session.plan = make_plan(items, state.session.collected)


def begin_as_controller(config: pytest.Config, state: PluginState) -> None:
    """Begin the experiment when the first worker collected runs: before any worker executes one."""
    session = state.make_session()
    if session.experiment is not None:
        return
    session.begin()
    if note := forbid_lossy_restarts(config):
        session.crash_notice = note
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and config.get_verbosity() >= 0 and not config.option.collectonly:
        reporter.ensure_newline()
        reporter.write_line(header(session, config))


@contextmanager
def around_loop(session: pytest.Session, state: PluginState) -> Iterator[None]:
    """Begin before the first item, finish and judge after the last."""
    config = session.config
    if state.worker or config.option.collectonly:
        yield
        return
    if not is_controller(config) and state.session is not None:
        state.session.begin()
    try:
        yield
    except BaseException as error:
        _finish(session, state, interrupted=True, judged=not isinstance(error, KeyboardInterrupt))
        raise
    _finish(session, state, interrupted=False)


def _finish(session: pytest.Session, state: PluginState, *, interrupted: bool, judged: bool = True) -> None:
    experiment = state.session
    if experiment is None or experiment.experiment is None:
        return
    experiment.problems.extend(state.worker_problems)
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
    failed = [verdict for verdict in outcome.verdicts if verdict.verdict == "failed"]
    remember_as_failed(
        session.config,
        experiment.node_ids({verdict.test for verdict in failed}),
        instead_of=map(gate_node_id, failed),
    )
