"""Every option there is, with its help: on the command line, in the environment, in the ini file. Light to import."""

from __future__ import annotations

from typing import Any

import pytest

GIVE_UP_AFTER = "5"

# name, what stands for its value, help: each is an option, a variable and an ini value
_GIVEN_ONCE = (
    ("name", "NAME", "Name this session's experiment; the default is the git branch"),
    ("runs", "N", "Execute every case N times, whatever its mark says; 1 makes a smoke test"),
    ("concurrency", "N", "Execute up to N runs at the same time, all workers together (default 8); 1 is in turn"),
    ("db", "PATH", "Record in this SQLite file or SQLAlchemy URL instead of message_log.db in rootdir"),
    ("capture", "http|off", "See the calls of every HTTP client (default), or install no hook and record no call"),
    ("replay", "off|auto|only", "Serve recorded answers where there are (auto), or make no call at all (only)"),
    ("replay-from", "FROM", "Serve answers of this replay file, folder of such, or experiment, not of all the store"),
    ("model", "MODEL", "Ask this model where a bot names none; local-sampler is the built-in stand-in"),
    ("base-url", "URL", "Send calls to this OpenAI-compatible server"),
    ("max-cost", "USD", "Start no call once the experiment's calls cost so much, all workers together"),
    ("max-tokens", "N", "Start no call once so many tokens were sent and received, all workers together"),
    ("rpm", "N", "Send at most N requests per minute, all workers together"),
    ("tpm", "N", "Send and receive about N tokens per minute at most, all workers together"),
)

# the same; the variable and the ini value have an s, and all values add up
_REPEATABLE = (
    ("tag", "K=V", "Tag the experiment; can be given several times"),
    ("gate", "EXPR", "Add a gate to every test, such as 'mean(accuracy) >= 0.8'"),
)

_COMMAND_LINE_ONLY: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "resume",
        {"metavar": "REF", "nargs": "?", "const": "", "default": None},
        "Go on with this experiment, or the latest one: keep finished runs, pay no call again",
    ),
    (
        "resume-anyway",
        {"action": "store_true"},
        "Go on with an experiment although the code has changed since, or its process may still run elsewhere",
    ),
)

# name, pytest's name of its type, default, help
_INI_ONLY: tuple[tuple[str, Any, object, str], ...] = (
    (
        "db_synchronous",
        None,
        "normal",
        "Set to 'full' to survive power cuts too, at one fsync per commit; the default 'normal' survives kill -9",
    ),
    (
        "log_content",
        None,
        "on",
        "Set to 'off' to keep prompts, answers and parameters off the disk; numbers, hashes and metrics are kept",
    ),
    ("timeout", None, None, "Seconds that a run's body may take where its mark gives no timeout"),
    (
        "give_up_after",
        None,
        GIVE_UP_AFTER,
        "Runs in a row that a provider may fail before the experiment ends early (default 5); 0 is never",
    ),
    (
        "prices",
        "linelist",
        [],
        "Prices that win over the known ones, one a line: MODEL = INPUT, OUTPUT in USD per million tokens",
    ),
    (
        "exclusive_fixtures",
        "args",
        [],
        "Fixtures that change the whole process, as monkeypatch does: runs that use them are executed one at a time",
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option with its ini form; the environment form is named in the help."""
    group = parser.getgroup("llmexp", "LLM experiments (pytest-llmexp)")
    for name, metavar, text in _GIVEN_ONCE:
        word = name.replace("-", "_")
        where = f"[LLMEXP_{word.upper()}; ini experiment_{word}]"
        group.addoption(f"--experiment-{name}", metavar=metavar, default=None, help=f"{text} {where}")
        parser.addini(f"experiment_{word}", text, default=None)
    for name, metavar, text in _REPEATABLE:
        where = f"repeatable [LLMEXP_{name.upper()}S, separated by ';'; ini experiment_{name}s]"
        group.addoption(f"--experiment-{name}", metavar=metavar, action="append", default=[], help=f"{text}; {where}")
        parser.addini(f"experiment_{name}s", f"{text}; one a line", type="linelist", default=[])
    for name, how, text in _COMMAND_LINE_ONLY:
        group.addoption(f"--experiment-{name}", help=text, **how)
    for name, kind, default, text in _INI_ONLY:
        parser.addini(f"experiment_{name}", text, type=kind, default=default)
