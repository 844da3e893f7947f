"""Every use of what pytest and pytest-xdist do not promise to keep, each with what happens where it is gone.

`items` falls back by itself. `parking`, `output` and `workers` are what lets runs overlap: they are imported only
for that, and where they do not fit the installed versions, runs are executed one at a time.
"""

from pytest_llmexp.runtest.private_api.items import (
    TerminalLine,
    body_arguments,
    interactive_exception,
    plain_protocol,
    plugin_timeout,
    plugin_timer,
    remember_as_failed,
    terminal_width,
)

__all__ = [
    "TerminalLine",
    "body_arguments",
    "interactive_exception",
    "plain_protocol",
    "plugin_timeout",
    "plugin_timer",
    "remember_as_failed",
    "terminal_width",
]
