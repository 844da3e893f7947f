"""What is asked of pytest's items, terminal and cache; each function says what it does where that is gone."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from _pytest import runner


def body_arguments(item: pytest.Function) -> dict[str, Any]:
    """Return the fixture values that a test function takes. Without pytest's list: those its signature names."""
    info = getattr(item, "_fixtureinfo", None)
    names = item.fixturenames if info is None else info.argnames
    return {name: item.funcargs[name] for name in names if name in item.funcargs}


def terminal_width(reporter: Any) -> int:
    """Return the columns of pytest's terminal, else those of the process."""
    width = getattr(getattr(reporter, "_tw", None), "fullwidth", None)
    return width if isinstance(width, int) else shutil.get_terminal_size().columns


def remember_as_failed(config: pytest.Config, node_ids: Iterable[str], instead_of: Iterable[str]) -> None:
    """Let `--lf` select these items in place of ids that are no items. Without the cache plugin: nothing to do."""
    last_failed = getattr(config.pluginmanager.get_plugin("lfplugin"), "lastfailed", None)
    if isinstance(last_failed, dict):
        for node_id in instead_of:
            last_failed.pop(node_id, None)
        last_failed.update(dict.fromkeys(node_ids, True))


def plain_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> object:
    """Execute an item as pytest itself does, whatever other plugins would do with it."""
    return runner.pytest_runtest_protocol(item, nextitem)


def interactive_exception(call: pytest.CallInfo[Any], report: pytest.TestReport) -> bool:
    """Say whether plugins are to be told of an exception through `pytest_exception_interact`. Else: never."""
    check = getattr(runner, "check_interactive_exception", None)
    return bool(check and check(call, report))


def plugin_timeout(item: pytest.Item) -> float | None:
    """Return the seconds that pytest-timeout allows the item. Without the plugin, or its function: None."""
    read = getattr(item.config.pluginmanager.get_plugin("timeout"), "_get_item_settings", None)
    return getattr(read(item), "timeout", None) or None if read else None


@contextmanager
def plugin_timer(item: pytest.Item) -> Iterator[None]:
    """Let pytest-timeout end what its limit is over for in the body of the with statement, in the main thread.

    Without the plugin or its functions, or where its limit is for test functions only: nothing does.
    """
    plugin: Any = item.config.pluginmanager.get_plugin("timeout")
    names = ("_get_item_settings", "pytest_timeout_set_timer", "pytest_timeout_cancel_timer")
    functions: list[Any] = [getattr(plugin, name, None) for name in names]
    read, begin, end = functions
    settings = read(item) if all(functions) else None
    if not getattr(settings, "timeout", None) or getattr(settings, "func_only", True):
        yield
        return
    begin(item, settings)
    try:
        yield
    finally:
        end(item)


class TerminalLine:
    """A line of text below what pytest's reporter wrote last; the cursor stays where it was.

    ESC D makes room below, scrolling at the bottom of the screen; ESC 7 and 8 keep the cursor (ECMA-48, DEC VT100).
    """

    def __init__(self, reporter: Any) -> None:
        self._writer = reporter._tw
        self._file = self._writer._file
        self._shown = False

    @classmethod
    def of(cls, reporter: Any) -> TerminalLine | None:
        """Return the line of a reporter; None where its parts are gone."""
        try:
            line = cls(reporter)
            _ = line._writer.fullwidth, line._file.write, line._file.flush
        except AttributeError:
            return None
        return line

    def show(self, parts: Iterable[str]) -> None:
        """Show as many of the parts as there is room for."""
        text = ""
        for part in parts:
            longer = f"{text}, {part}" if text else part
            if len(longer) >= self._writer.fullwidth:
                break
            text = longer
        self._write(f"\x1bD\x1b[A\x1b7\r\n{text}\x1b[K\x1b8")
        self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._write("\x1b7\r\n\x1b[K\x1b8")
            self._shown = False

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()
