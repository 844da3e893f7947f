"""START HERE. The hooks of the plugin, each handing over to a function of `runtest`.

Imports nothing heavy: a session without experiments pays for the options only. What experiments need is
imported inside the hooks (start-up cost) once the first marked test was seen.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_llmexp.runtest import distributed
from pytest_llmexp.runtest.ending import end_session
from pytest_llmexp.runtest.fixtures import async_bot, bot, experiment_run, llm_client, record_metric
from pytest_llmexp.runtest.option_table import add_options
from pytest_llmexp.runtest.state import PluginState, state_key

__all__ = ["async_bot", "bot", "experiment_run", "llm_client", "record_metric"]

MARK = "experiment"
_ASYNC = 0x280  # inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR; asked for every fixture of every run
MARKER_LINE = (
    "experiment(n=10, gates=[...], tags={...}, timeout=seconds, concurrency=N): execute the test n times as runs of an "
    "experiment, record them, and judge the gates (such as 'mean(accuracy) >= 0.8') when the session ends. "
    "Works on functions, classes and modules: the closest n, timeout and concurrency win, gates and tags add up."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER_LINE)
    config.stash[state_key] = state = PluginState(config)
    config.add_cleanup(state.garbage.end)  # after pytest has collected all garbage: else that would be done twice


@pytest.hookimpl(trylast=True)  # after all other parameters, so that runs vary fastest
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker(MARK):
        from pytest_llmexp.runtest.collection import multiply

        state = metafunc.config.stash[state_key]
        state.garbage.begin()
        multiply(metafunc, state.settings.runs)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # sees the items before other plugins deselect some, and after
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, object, object]:
    marked = [item for item in items if item.get_closest_marker(MARK)]
    result = yield
    if any(item.get_closest_marker(MARK) for item in items):
        from pytest_llmexp.runtest.stages import check_items

        check_items(config, config.stash[state_key], items, marked)
    return result


@pytest.hookimpl(tryfirst=True)  # before the reporter prints the header
def pytest_collection_finish(session: pytest.Session) -> None:
    state = session.config.stash[state_key]
    if state.session is not None:
        from pytest_llmexp.runtest.stages import keep_plan

        keep_plan(state, session.items)


def pytest_report_collectionfinish(config: pytest.Config, start_path: Path) -> str | None:
    state = config.stash[state_key]
    if state.session is None or state.usage_error or config.option.collectonly or config.get_verbosity() < 0:
        return None
    from pytest_llmexp.runtest.terminal import header

    return header(state.session, config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    state = session.config.stash[state_key]
    if state.session is None and not distributed.is_controller(session.config):
        return (yield)
    from pytest_llmexp.runtest.stages import around_loop

    with around_loop(session, state):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    state = item.config.stash[state_key]
    if state.session is None:
        return (yield)
    from pytest_llmexp.runtest.execution import run_in_progress

    with run_in_progress(item, state.session):
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)  # inside the wrappers of pytest-asyncio and anyio, who go first
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    session = request.config.stash[state_key].session
    if session is None or (fixturedef.scope == "function" and not is_async(fixturedef.func)):
        return (yield)
    from pytest_llmexp.runtest.execution import fixture_in_place

    with fixture_in_place(fixturedef, request, session):
        return (yield)


def is_async(function: Any) -> bool:
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & _ASYNC)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    state = pyfuncitem.config.stash[state_key]
    if state.session is None:
        return None
    from pytest_llmexp.runtest.execution import call_body

    return call_body(pyfuncitem, state.session)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    session = item.config.stash[state_key].session
    if session is not None:
        from pytest_llmexp.runtest.execution import note_phase

        note_phase(item, report, call, session)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> Any:
    if config.stash[state_key].session is None:
        return None
    from pytest_llmexp.runtest.terminal import status_line

    return status_line(report, config.get_verbosity())


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    state = config.stash[state_key]
    if state.usage_error:
        if distributed.is_controller(config):  # elsewhere pytest prints what was raised
            terminalreporter.write_line(f"ERROR: {state.usage_error}", red=True)
    elif state.session is not None:
        from pytest_llmexp.runtest.terminal import write_summary

        write_summary(terminalreporter, state.session, config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    with end_session(session):
        return (yield)


def pytest_unconfigure(config: pytest.Config) -> None:
    state = config.stash.get(state_key, None)
    if state is not None and state.session is not None:
        state.session.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    state = node.config.stash[state_key]
    distributed.equip_worker(node, state.settings, state.experiment_id, state.board, state.resumed)


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_make_scheduler(config: pytest.Config) -> Generator[None, Any, Any]:
    return distributed.make_scheduler(config, (yield))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    if distributed.may_hold_experiments(ids):
        from pytest_llmexp.runtest.stages import begin_as_controller

        begin_as_controller(node.config, node.config.stash[state_key], ids)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    state = node.config.stash[state_key]
    report, usage_error = distributed.read_report(node)
    if report is not None:
        state.worker_reports.append(report)
    state.usage_error = state.usage_error or usage_error
