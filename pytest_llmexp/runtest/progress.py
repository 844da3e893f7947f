"""One line on a terminal while runs are awaited: running, done, spent, time left. Nothing of it in a log.

pytest's own dots and percentage stay as they are: the line stands below them and is gone before pytest writes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pytest_llmexp.lifecycle import Spent
from pytest_llmexp.runtest.private_api import TerminalLine

_AFTER_S = 2.0  # short sessions need no line
_EVERY_S = 0.25
_SPENT_EVERY_S = 1.0


class LiveLine:
    """The line, and the hooks that keep it away from what pytest writes. `spent` asks the store."""

    def __init__(self, line: TerminalLine, spent: Callable[[], Spent], total: Callable[[], int]) -> None:
        self._line = line
        self._spent = spent
        self._total = total
        self._done = 0
        self._known = Spent(0, None)
        self._began = self._shown_at = self._asked_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to show the line: late enough, and not too often."""
        now = time.monotonic()
        return now - self._began >= _AFTER_S and now - self._shown_at >= _EVERY_S

    def show(self, running: int | None = None, waiting: int = 0) -> None:
        """Show how things stand, if it is time; `waiting` calls are held back."""
        if not self.is_due:
            return
        self._shown_at = now = time.monotonic()
        if now - self._asked_at >= _SPENT_EVERY_S:
            self._known, self._asked_at = self._spent(), now
        self._line.show(line_parts(running, self._done, self._total(), now - self._began, self._known, waiting))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Make room for pytest."""
        self._line.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count, and make room for pytest."""
        self._line.clear()
        self._done += report.when == "teardown"

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """Show the line again: where others execute the runs, this is the time for it."""
        self.show()


def line_parts(
    running: int | None, done: int, total: int, elapsed_s: float, spent: Spent, waiting: int = 0
) -> list[str]:
    """Return the parts of the line, the most important first.

    >>> line_parts(8, 20, 100, 30.0, Spent(4500, 0.0123), waiting=3)
    ['8 running (3 waiting for the rate limit)', '20/100 done', '2:00 left', '4,500 tokens', '$0.0123']
    """
    held = f" ({waiting} waiting for the rate limit)" if waiting else ""
    parts = [] if running is None else [f"{running} running{held}"]
    parts.append(f"{done}/{total} done")
    if 0 < done < total:
        minutes, seconds = divmod(round(elapsed_s / done * (total - done)), 60)
        parts.append(f"{minutes}:{seconds:02} left")
    if spent.tokens:
        parts.append(f"{spent.tokens:,} tokens")
    if spent.cost_usd:
        parts.append(f"${spent.cost_usd:.3g}")
    return parts


def start_line(config: pytest.Config, spent: Callable[[], Spent], total: Callable[[], int]) -> LiveLine | None:
    """Return a line for this session's terminal, registered for its hooks; None where it would be in the way."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if not getattr(reporter, "isatty", False) or config.get_verbosity() < 0 or config.getoption("capture") == "no":
        return None
    line = TerminalLine.of(reporter)
    if line is None:
        return None
    made = LiveLine(line, spent, total)
    config.pluginmanager.register(made, "llmexp-line")
    return made
