"""Gives each run in flight its own stdout, stderr, log records and explained assertions.

pytest redirects the whole process, one item at a time. The stand-ins here stand where pytest keeps what it switches
between, and pass on what does not come from a run. Imported only to overlap runs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from _pytest.assertion import truncate, util
from _pytest.capture import CaptureIO, TeeCaptureIO
from _pytest.logging import LogCaptureHandler
from _pytest.warnings import catch_warnings_for_item


class RunOutput:
    """What one run wrote to stdout, stderr and the log while its body was in flight."""

    def __init__(self, item: pytest.Item) -> None:
        self.item = item
        self._parts: dict[str, Any] = {}  # made when first written to: most runs write nothing

    @property
    def out(self) -> CaptureIO:
        """What the run wrote to stdout."""
        stream: CaptureIO = self._part("stdout", CaptureIO)
        return stream

    @property
    def err(self) -> CaptureIO:
        """What the run wrote to stderr."""
        stream: CaptureIO = self._part("stderr", CaptureIO)
        return stream

    @property
    def log(self) -> LogCaptureHandler:
        """What the run logged."""
        handler: LogCaptureHandler = self._part("log", self._log_handler)
        return handler

    def _part(self, name: str, make: Callable[[], Any]) -> Any:
        known = self._parts.get(name)
        return self._parts.setdefault(name, make()) if known is None else known  # threads of a run may come together

    def _log_handler(self) -> LogCaptureHandler:
        handler = LogCaptureHandler()
        if (plugin := self.item.config.pluginmanager.get_plugin("logging-plugin")) is not None:
            handler.setFormatter(plugin.formatter)
        return handler

    def sections(self) -> Iterator[tuple[str, str]]:
        """Yield the parts there are, as pytest names them in a report."""
        for name, part in self._parts.items():
            yield name, part.stream.getvalue().strip() if name == "log" else part.getvalue()


Current = Callable[[], RunOutput | None]


class _Stream:
    """Stands for sys.stdout or sys.stderr: what a run writes goes to the run, everything else where it went."""

    def __init__(self, shared: Any, name: str, current: Current) -> None:
        self.__dict__.update(_shared=shared, _name=name, _current=current)

    def _target(self) -> Any:
        run = self._current()
        return self._shared if run is None else getattr(run, self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target(), name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pytest asserts isinstance(tmpfile, CaptureIO)
        return type(self._shared)

    def write(self, text: str) -> Any:
        target = self._target()
        if target is not self._shared and type(self._shared) is TeeCaptureIO:  # --capture=tee-sys shows it at once
            self._shared._other.write(text)
        return target.write(text)


class _LogHandler(logging.Handler):
    def __init__(self, current: Current) -> None:
        super().__init__()
        self._current = current

    def emit(self, record: logging.LogRecord) -> None:
        if (run := self._current()) is not None:
            run.log.handle(record)


@contextlib.contextmanager
def output_per_run(config: pytest.Config, current: Current) -> Iterator[None]:
    """Sort what is written in the body of the with statement; `current` says whose it is, None for nobody's."""
    with _streams(config, current), _logs(config, current), _assertions(config, current), _filters(config):
        yield


@contextlib.contextmanager
def _streams(config: pytest.Config, current: Current) -> Iterator[None]:
    capturing = global_capturing(config)
    replaced = []
    for name in ("out", "err"):
        capture = getattr(capturing, name, None)  # None with -s
        capture = getattr(capture, "syscapture", capture)
        for attribute in ("tmpfile", "_old"):
            if capture is not None and hasattr(capture, attribute):
                shared = getattr(capture, attribute)
                replaced.append((capture, attribute, shared))
                setattr(capture, attribute, _Stream(shared, name, current))
    _switch(config)
    try:
        yield
    finally:
        for capture, attribute, shared in replaced:
            setattr(capture, attribute, shared)
        if global_capturing(config) is capturing:
            _switch(config)


def global_capturing(config: pytest.Config) -> Any:
    """Return pytest's capture of the process, None with `-p no:capture` or when it has ended."""
    return getattr(config.pluginmanager.get_plugin("capturemanager"), "_global_capturing", None)


@contextlib.contextmanager
def captured_together(config: pytest.Config) -> Iterator[None]:
    """Capture all that happens in the body of the with statement, the phases of items in one go.

    pytest redirects the file descriptors of the process at the start and the end of each phase, which takes as
    long as all else in a phase that does nothing. Here a phase only takes what was written since the last one.
    """
    manager: Any = config.pluginmanager.get_plugin("capturemanager")
    capturing = global_capturing(config)
    if capturing is None:
        yield
        return

    @contextlib.contextmanager
    def item_capture(when: str, item: pytest.Item) -> Iterator[None]:
        try:
            yield
        finally:
            written = capturing.readouterr()
            item.add_report_section(when, "stdout", written.out)
            item.add_report_section(when, "stderr", written.err)

    capturing.resume_capturing()
    manager.item_capture = item_capture
    try:
        yield
    finally:
        del manager.item_capture
        capturing.suspend_capturing()


@contextlib.contextmanager
def suspended(config: pytest.Config) -> Iterator[None]:
    """Let the body of the with statement write to the terminal."""
    capturing = global_capturing(config)
    if capturing is None or not capturing.is_started():
        yield
        return
    capturing.suspend_capturing()
    try:
        yield
    finally:
        capturing.resume_capturing()


class CallHooks:
    """`pytest_runtest_call` without the wrappers that redirect the output of the whole process."""

    def __init__(self, config: pytest.Config) -> None:
        self._manager = config.pluginmanager
        self._known: dict[frozenset[Any], Any] = {}

    def of(self, item: pytest.Item) -> Any:
        """Return the hook with the conftest files of an item."""
        removed = frozenset(getattr(item.ihook, "remove_mods", ()))
        if removed not in self._known:
            redirecting = [self._manager.get_plugin("capturemanager"), self._manager.get_plugin("logging-plugin")]
            without = [plugin for plugin in (*redirecting, *removed) if plugin is not None]
            self._known[removed] = self._manager.subset_hook_caller("pytest_runtest_call", without)
        return self._known[removed]


def _switch(config: pytest.Config) -> None:
    """Let pytest put what it keeps into sys.stdout and sys.stderr: capturing is suspended between items."""
    if (capturing := global_capturing(config)) is not None:
        capturing.resume_capturing()
        capturing.suspend_capturing()


@contextlib.contextmanager
def _logs(config: pytest.Config, current: Current) -> Iterator[None]:
    plugin = config.pluginmanager.get_plugin("logging-plugin")
    shared = [] if plugin is None else [plugin.caplog_handler, plugin.report_handler]
    root, handler = logging.getLogger(), _LogHandler(current)
    level = root.level

    def of_nobody(record: logging.LogRecord) -> bool:
        return current() is None

    root.addHandler(handler)
    for other in shared:
        other.addFilter(of_nobody)
    if plugin is not None and plugin.log_level is not None:
        root.setLevel(min(level, plugin.log_level))  # pytest sets it for the phases of the item in turn only
    try:
        yield
    finally:
        root.setLevel(level)
        for other in shared:
            other.removeFilter(of_nobody)
        root.removeHandler(handler)


@contextlib.contextmanager
def _assertions(config: pytest.Config, current: Current) -> Iterator[None]:
    """Explain `assert a == b` between two items too, where pytest takes its hook away."""

    def explain(op: str, left: object, right: object) -> str | None:
        run = current()
        hook = config.hook if run is None else run.item.ihook
        for lines in hook.pytest_assertrepr_compare(config=config, op=op, left=left, right=right):
            if lines:
                truncated = getattr(truncate, "materialize_with_truncation", None)  # since pytest 9.1
                shown = truncated(lines, config) if truncated else list(lines)
                return "\n~".join(line.replace("\n", "\\n") for line in shown).replace("%", "%%")
        return None

    saved = util._reprcompare
    util._reprcompare = explain
    try:
        yield
    finally:
        util._reprcompare = saved


@contextlib.contextmanager
def _filters(config: pytest.Config) -> Iterator[None]:
    """Keep pytest's warning filters between two items too."""
    with catch_warnings_for_item(config=config, ihook=config.hook, when="runtest", item=None, record=False):
        yield


def fits(config: pytest.Config) -> None:
    """Raise AttributeError or TypeError if pytest lacks what is replaced here."""
    manager = config.pluginmanager.get_plugin("capturemanager")
    if manager is not None and (capturing := manager._global_capturing) is not None:
        _ = capturing.resume_capturing, capturing.suspend_capturing, capturing.out, capturing.err
        _ = capturing.readouterr, capturing.is_started, manager.item_capture
    if (plugin := config.pluginmanager.get_plugin("logging-plugin")) is not None:
        _ = plugin.caplog_handler, plugin.report_handler, plugin.log_level, plugin.formatter
    _ = util._reprcompare
