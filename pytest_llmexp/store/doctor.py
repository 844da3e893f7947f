"""Looks a store's file over. Changes nothing."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from pytest_llmexp.core.errors import StoreError
from pytest_llmexp.store import schema, sqlite
from pytest_llmexp.store.opening import found_version, store_path

_WAL_RESET_FIXED = {(3, 50): 7, (3, 44): 6}  # minor versions the fix was back-ported to


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
