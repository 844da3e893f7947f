"""Brings an older store up to date with Alembic, after a backup. Imported only when there is one."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from pytest_llmexp.store import sqlite

MIGRATIONS = Path(__file__).with_name("migrations")


def migrate(connection: Connection, target: str = "head") -> None:
    """Run the missing migrations inside the transaction that the connection is in."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def back_up(path: Path, version: str) -> Path:
    """Copy a store to `<file>.backup-<version>`, or the next free name with a number; return the copy's path.

    The copy is whole or absent: it gets its name when it is complete.
    """
    part = path.with_name(f"{path.name}.backup-{version}.part")
    part.unlink(missing_ok=True)  # left by a crash; only the holder of the file lock comes here
    sqlite.create_private(part)
    source, copy = sqlite.connect_reading(path), sqlite3.connect(part)
    try:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a -wal beside it
    finally:
        source.close()
        copy.close()
    _sync(part)
    target = _free_name(path, version)
    part.rename(target)
    return target


def _free_name(path: Path, version: str) -> Path:
    target, number = path.with_name(f"{path.name}.backup-{version}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.backup-{version}-{number}")
    return target


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
