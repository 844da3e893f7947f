"""The `--db` option that every command shares, and opening what it names for reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pytest_llmexp.core.errors import StoreError
from pytest_llmexp.store import Store, open_store

DEFAULT = "message_log.db"


def db_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--db` to a command."""
    return click.option(
        "--db",
        envvar="LLMEXP_DB",
        default=DEFAULT,
        show_default=True,
        show_envvar=True,
        metavar="PATH",
        help="The store: an SQLite file or a database URL",
    )(function)


def open_for_reading(db: str) -> Store:
    """Open the store read-only; says how to name another one if it is not there."""
    try:
        return open_store(db, read_only=True)
    except StoreError as error:
        raise type(error)(f"{error} (the store is chosen by --db, else LLMEXP_DB, else ./{DEFAULT})") from None
