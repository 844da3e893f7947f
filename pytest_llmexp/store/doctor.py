"""Looks a store's file over, and saves what can still be read of a damaged one. Changes nothing it looks at."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from pytest_llmexp.core.errors import CorruptStoreError, StoreError
from pytest_llmexp.store import schema, sqlite
from pytest_llmexp.store.opening import found_version, open_store, store_path

_WAL_RESET_FIXED = {(3, 50): 7, (3, 44): 6}  # minor versions the fix was back-ported to
_CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is known of a store's file.

    `problem` says why it cannot be used as a store (None: it can), `damage` holds what SQLite's quick_check found.
    `wal_reset_bug` is true for an SQLite that can corrupt a WAL file which two processes write at once
    (sqlite.org/wal.html, "The WAL-Reset Bug"); the store's file lock keeps it from happening.
    """

    path: Path
    size: int
    sqlite_version: str
    wal_reset_bug: bool
    schema_version: str | None
    newest_schema_version: str
    journal_mode: str | None
    modes: dict[str, str]
    warnings: tuple[str, ...]
    damage: tuple[str, ...]
    problem: str | None


def diagnose(path: str | Path) -> Diagnosis:
    """Return what is known of the file at `path`, whatever state it is in. Raises StoreError where there is none."""
    file = store_path(path)
    if not file.is_file():
        raise StoreError(f"there is no file at {file}")
    version, problem = None, None
    try:
        version = found_version(file)
    except (StoreError, sqlite3.Error, OSError) as error:
        problem = str(error if isinstance(error, StoreError) else sqlite.in_words(file, error))
    journal_mode, damage = _checked(file)
    files = [file.with_name(file.name + ending) for ending in ("", "-wal", "-shm", ".lock")]
    there = [each for each in files if each.exists()]
    return Diagnosis(
        path=file,
        size=file.stat().st_size,
        sqlite_version=sqlite3.sqlite_version,
        wal_reset_bug=has_wal_reset_bug(sqlite3.sqlite_version),
        schema_version=version,
        newest_schema_version=schema.VERSIONS[-1],
        journal_mode=journal_mode,
        modes={each.name: f"{each.stat().st_mode & 0o777:04o}" for each in there},
        warnings=tuple(text for each in there if (text := sqlite.mode_warning(each))),
        damage=damage,
        problem=problem,
    )


def has_wal_reset_bug(version: str) -> bool:
    """Say whether an SQLite of this version has the WAL-reset bug: 3.7.0 to 3.51.2, but 3.50.7 and 3.44.6."""
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    fixed = (major, minor, patch) >= (3, 51, 3) or patch >= _WAL_RESET_FIXED.get((major, minor), 1000)
    return not fixed and (major, minor) >= (3, 7)


def salvage(path: str | Path, target: str | Path) -> dict[str, int]:
    """Copy every readable row of a damaged store into a new one at `target`; return the rows of each table.

    Rows whose parent cannot be read are left out, since nothing could find them.
    Raises StoreError where `target` exists or nothing of `path` can be read.
    """
    source, new = store_path(path), store_path(target)
    if new.exists():
        raise StoreError(f"{new} exists: name a file that does not")
    damaged = _readable(source)
    try:
        open_store(new, create=True).close()
        copy = sqlite.connect(new, "full")
        try:
            return {table.name: _copy(table, damaged, copy) for table in schema.metadata.sorted_tables}
        finally:
            copy.close()
    finally:
        damaged.close()


def _readable(path: Path) -> sqlite3.Connection:
    """Open a damaged file for reading; with a WAL that cannot be used, without it."""
    if not path.is_file():
        raise StoreError(f"there is no file at {path}")
    cause = ""
    for immutable in (False, True):
        connection = sqlite.connect_reading(path, immutable=immutable)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            connection.close()
            cause = str(error)
        else:
            return connection
    raise CorruptStoreError(f"nothing of {path} can be read ({cause})")


def _copy(table: Table, damaged: sqlite3.Connection, copy: sqlite3.Connection) -> int:
    names = [column.name for column in table.columns]
    columns = ", ".join(f'"{name}"' for name in names)
    insert = f'INSERT OR IGNORE INTO "{table.name}" ({columns}) VALUES ({", ".join("?" * len(names))})'
    copied = 0
    copy.execute("BEGIN IMMEDIATE")
    for row in _rows(table, columns, damaged):
        try:
            copied += copy.execute(insert, row).rowcount
        except sqlite3.IntegrityError:  # its parent is lost, or its values are damaged
            continue
    copy.execute("COMMIT")
    return copied


def _rows(table: Table, columns: str, damaged: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Read forwards until the damage, then backwards until it; rows seen twice are ignored by their keys."""
    key = ", ".join(f'"{column.name}"' for column in table.primary_key.columns) or "rowid"
    order = "rowid" if table.dialect_options["sqlite"]["with_rowid"] else key
    for direction in ("ASC", "DESC"):
        ordering = ", ".join(f"{part} {direction}" for part in order.split(", "))
        cursor = damaged.cursor()
        try:
            cursor.execute(f'SELECT {columns} FROM "{table.name}" ORDER BY {ordering}')
            while rows := cursor.fetchmany(_CHUNK):
                yield from rows
        except (sqlite3.Error, UnicodeDecodeError):
            continue
        finally:
            cursor.close()
        return


def _checked(path: Path) -> tuple[str | None, tuple[str, ...]]:
    """Return the journal mode and what quick_check finds."""
    try:
        writable = os.access(path.parent, os.W_OK)
        connection = sqlite.connect_reading(path, immutable=not writable)
        try:
            mode = str(sqlite.pragma(connection, "journal_mode"))
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)")]
        finally:
            connection.close()
    except sqlite3.Error as error:
        return None, (str(error),)
    return mode, tuple(line for line in found if line != "ok")
