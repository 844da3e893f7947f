"""Saves what can still be read of a damaged store into a new one. Leaves the damaged file as it is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from pytest_llmexp.core.clock import utc_now
from pytest_llmexp.core.errors import CorruptStoreError, StoreError
from pytest_llmexp.store import schema, sqlite
from pytest_llmexp.store.columns import JSON_KINDS
from pytest_llmexp.store.opening import open_store, store_path

# What has lost its parent: a call costs money and is kept without its run; a metric means nothing without its run.
_EXPERIMENTS_LOST = """
INSERT INTO experiments (id, name, status, started_at, command, python_version, platform, packages, tags, metadata,
                         model_source)
SELECT lost.experiment_id, 'salvaged', 'interrupted', ?, '', '', '', '{}', '{}', '{}', ''
FROM (SELECT experiment_id FROM experiment_runs UNION SELECT experiment_id FROM calls
      UNION SELECT experiment_id FROM bots UNION SELECT experiment_id FROM summaries
      UNION SELECT experiment_id FROM verdicts) AS lost
WHERE lost.experiment_id NOT IN (SELECT id FROM experiments)
"""
_CHILDREN_LOST = (
    "UPDATE calls SET run_id = NULL WHERE run_id NOT IN (SELECT id FROM experiment_runs)",
    "DELETE FROM metrics WHERE run_id NOT IN (SELECT id FROM experiment_runs)",
    "DELETE FROM prompt_uses WHERE run_id NOT IN (SELECT id FROM experiment_runs)",
    "DELETE FROM prompt_uses WHERE (name, hash) NOT IN (SELECT name, hash FROM prompt_versions)",
    "DELETE FROM annotations WHERE run_id NOT IN (SELECT id FROM experiment_runs)",
    "DELETE FROM annotations WHERE call_id NOT IN (SELECT id FROM calls)",
)


def salvage(path: str | Path, target: str | Path) -> dict[str, int]:
    """Copy every readable row of a damaged store into a new one at `target`; return the rows of each table.

    A lost experiment of which runs or calls are left is named `salvaged`, a call of a lost run is unattributed;
    metrics and prompt uses of a lost run are left out.
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
            return _fill(copy, damaged)
        finally:
            copy.close()
    finally:
        damaged.close()


def _fill(copy: sqlite3.Connection, damaged: sqlite3.Connection) -> dict[str, int]:
    tables = schema.metadata.sorted_tables
    copy.execute("PRAGMA foreign_keys = OFF")
    copy.execute("BEGIN IMMEDIATE")
    for table in tables:
        _copy(table, damaged, copy)
    copy.execute(_EXPERIMENTS_LOST, (utc_now(),))
    for statement in _CHILDREN_LOST:
        copy.execute(statement)
    copy.execute("COMMIT")
    return {table.name: copy.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0] for table in tables}


def _readable(path: Path) -> sqlite3.Connection:
    """Open a damaged file for reading; where its WAL cannot be used, without it."""
    if not path.is_file():
        raise StoreError(f"there is no file at {path}")
    cause = ""
    for immutable in (False, True):
        connection = sqlite.connect_reading(path, immutable=immutable)
        try:
            # so that SQLite reads a file that is shorter than its header says
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            connection.close()
            cause = str(error)
        else:
            return connection
    raise CorruptStoreError(f"nothing of {path} can be read ({cause})")


def _copy(table: Table, damaged: sqlite3.Connection, copy: sqlite3.Connection) -> None:
    names = [column.name for column in table.columns]
    columns = ", ".join(f'"{name}"' for name in names)
    insert = f'INSERT OR IGNORE INTO "{table.name}" ({columns}) VALUES ({", ".join("?" * len(names))})'
    parsed = [place for place, column in enumerate(table.columns) if column.info["kind"] in JSON_KINDS]
    for row in _rows(table, columns, damaged):
        try:
            for place in parsed:
                json.loads(row[place] or "null")  # SQLite does not see damage at the end of a long row
            copy.execute(insert, row)
        except (sqlite3.IntegrityError, ValueError, TypeError):  # its values are damaged
            continue


def _rows(table: Table, columns: str, damaged: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Read forwards until the damage, backwards until the damage, then row by row in between.

    Rows may come twice: their keys tell.
    """
    by_rowid = bool(table.dialect_options["sqlite"]["with_rowid"])
    keys = ["rowid"] if by_rowid else [f'"{column.name}"' for column in table.primary_key.columns]
    select = f'SELECT {keys[0]}, {columns} FROM "{table.name}"'
    reached: list[Any] = []
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{key} {direction}" for key in keys)
        last = None
        try:
            for last, *row in damaged.execute(f"{select} ORDER BY {order}"):  # noqa: B007
                yield tuple(row)
        except sqlite3.Error:
            reached.append(last)
        else:
            return
    if by_rowid:
        yield from _between(f"{select} WHERE rowid = ?", damaged, *reached)


def _between(select: str, damaged: sqlite3.Connection, low: int | None, high: int | None) -> Iterator[tuple[Any, ...]]:
    if low is None or high is None:
        return
    for rowid in range(low + 1, high):
        try:
            row = damaged.execute(select, (rowid,)).fetchone()
        except sqlite3.Error:
            continue
        if row is not None:
            yield row[1:]
