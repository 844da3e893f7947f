"""The live line: on a terminal only, gone before pytest writes, and pytest's own progress beside it."""

from __future__ import annotations

import os
import re
import sys

import pytest

from pytest_llmexp.lifecycle import Spent
from pytest_llmexp.runtest.progress import line_parts
from tests.conftest import PLAIN, Suite

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")

SLOW = """
    import pytest, time
    @pytest.mark.experiment(n=8)
    def test_x(bot, experiment_run):
        bot("You.")("Hello")
        time.sleep(3 if experiment_run.index == 1 else 0.01)
"""


def on_a_terminal(suite: Suite, *arguments: str) -> str:
    """Run pytest on a pseudo-terminal of 80 columns and return what it wrote."""
    import pty

    child, terminal = pty.fork()
    if not child:
        os.chdir(suite.path)
        os.environ.update(TERM="xterm", COLUMNS="80")
        options = (*PLAIN, "--experiment-concurrency=8", *arguments)
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *options])
    written = b""
    while True:
        try:
            some = os.read(terminal, 65536)
        except OSError:  # Linux's way of saying that the other end is closed
            some = b""
        if not some:
            break
        written += some
    os.close(terminal)
    os.waitpid(child, 0)
    return written.decode()


@pytest.mark.parametrize("mode", [("-p", "no:xdist"), pytest.param(("-n", "1"), marks=pytest.mark.xdist)], ids=str)
def test_a_terminal_shows_a_line_that_is_taken_away(suite: Suite, mode: tuple[str, ...]) -> None:
    suite.write(SLOW)
    written = on_a_terminal(suite, *mode)
    shown = re.findall(r"\x1bD\x1b\[A\x1b7\r+\n([^\x1b]*)\x1b\[K\x1b8", written)
    assert any("/8 done" in line for line in shown)
    if mode == ("-p", "no:xdist"):
        assert any(line.startswith("1 running, 0/8 done") and "tokens" in line for line in shown)
    for line in shown:  # before anything else is written, its place is cleared
        after = written[written.index(line) + len(line) + len("\x1b[K\x1b8") :].replace("\r\r", "\r")
        assert after.startswith(("\x1b7\r\n\x1b[K\x1b8", "\x1bD\x1b[A\x1b7"))
    assert "8 passed" in written


def test_the_line_tells_of_calls_that_wait_for_a_rate_limit(suite: Suite) -> None:
    suite.write(
        """
        import pytest
        @pytest.mark.experiment(n=8)
        def test_x(bot): bot("You.")("Hello")
        """
    )
    written = on_a_terminal(suite, "-p", "no:xdist", "--experiment-rpm=60")
    assert re.search(r"\r\n(\d) running \(\1 waiting for the rate limit\), \d/8 done", written)
    assert "8 passed" in written


def test_no_line_in_a_log(suite: Suite) -> None:
    suite.write(SLOW)
    result = suite.run("-p", "no:xdist", new_process=True)
    assert "running" not in result.stdout.str().partition("= llmexp")[0]
    assert "\x1b" not in result.stdout.str()


def test_progress_of_terminals_works_beside(suite: Suite) -> None:
    pytest.importorskip("_pytest.terminalprogress")
    suite.write(SLOW)
    written = on_a_terminal(suite, "-p", "no:xdist", "-p", "terminalprogress")
    percentages = [int(found) for found in re.findall(r"\x1b\]9;4;1;(\d+)", written)]
    assert percentages == sorted(percentages)
    assert len(percentages) >= 7


def test_the_parts_are_what_matters_most_first() -> None:
    assert line_parts(8, 20, 100, 30.0, Spent(4500, 0.0123)) == [
        "8 running",
        "20/100 done",
        "2:00 left",
        "4,500 tokens",
        "$0.0123",
    ]
    assert line_parts(None, 0, 100, 3.0, Spent(0, None)) == ["0/100 done"]
