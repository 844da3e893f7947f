"""SQLite connections as the store wants them: WAL, foreign keys, read back after setting; and its errors in words."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, QueuePool, create_engine

from pytest_llmexp.core.errors import CorruptStoreError, RecordingError, StoreError, UnwritableStoreError

Synchronous = Literal["normal", "full"]

BUSY_TIMEOUT_S = 30.0
_SYNCHRONOUS = {"normal": 1, "full": 2}
_WAL_SIZE_KEPT = 64 * 1024 * 1024  # bytes of a WAL file that grew by large answers, kept after a checkpoint
_PAGE_SIZE = 1024  # rows of calls take some kB and seldom share a page: the larger the page, the more lies empty
_WAL_BYTES = 8 * 1024 * 1024  # until a checkpoint, which syncs: SQLite's default of 1000 pages is too often
_WAL_SWITCH_MS = 2000  # another program may hold the file open; then its mode stays


def make_engine(path: Path, synchronous: Synchronous) -> Engine:
    """Return an engine for an existing file that is written; its transactions begin by hand."""
    return _engine(path, lambda: connect(path, synchronous))


def make_reading_engine(path: Path) -> tuple[Engine, str | None]:
    """Return an engine that never changes the file, and a warning or None.

    A WAL file in a folder that may not be written can only be read as a snapshot without its WAL.
    """
    try:
        _probe(connect_reading(path))
    except sqlite3.OperationalError as error:
        if os.access(path.parent, os.W_OK) or not os.access(path, os.R_OK):
            raise
        _probe(connect_reading(path, immutable=True))
        warning = f"{path} is read without its latest rows, as its folder cannot be written ({error})"
        return _engine(path, lambda: connect_reading(path, immutable=True)), warning
    return _engine(path, lambda: connect_reading(path)), None


def connect(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """Open an existing file for writing.

    Raises StoreError where a setting does not hold: a driver that ignores one would lose rows silently.
    """
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    wanted = {
        "foreign_keys": 1,
        "busy_timeout": int(BUSY_TIMEOUT_S * 1000),
        "synchronous": _SYNCHRONOUS[synchronous],
        "journal_size_limit": _WAL_SIZE_KEPT,
    }
    try:
        wanted["wal_autocheckpoint"] = _WAL_BYTES // int(pragma(connection, "page_size"))
        for name, value in wanted.items():
            connection.execute(f"PRAGMA {name} = {value}")
            if (got := pragma(connection, name)) != value:
                raise StoreError(f"{path}: SQLite keeps {name} at {got}, not {value}; another SQLite build is needed")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reading(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """Open an existing file so that it cannot be changed."""
    flags = "mode=ro&immutable=1" if immutable else "mode=ro"
    return sqlite3.connect(
        f"{path.as_uri()}?{flags}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )


def pragma(connection: sqlite3.Connection, name: str) -> int | str:
    """Return what SQLite says of a setting."""
    row = connection.execute(f"PRAGMA {name}").fetchone()
    value: int | str = row[0]
    return value


def switch_to_wal(connection: sqlite3.Connection) -> str:
    """Ask for WAL, which stays with the file; return the journal mode that is in force."""
    connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")  # of an empty file; others keep theirs
    connection.execute(f"PRAGMA busy_timeout = {_WAL_SWITCH_MS}")
    try:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    except sqlite3.OperationalError:  # locked by another program
        mode = pragma(connection, "journal_mode")
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    return str(mode)


def create_private(path: Path) -> bool:
    """Make an empty file that only its owner may read, whatever the umask; False where one is there already.

    SQLite gives its -wal and -shm files the mode of the database file.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def mode_warning(path: Path) -> str | None:
    """Say when others may read a file; None where they may not, or the system has no such modes."""
    mode = path.stat().st_mode & 0o777
    if os.name != "posix" or not mode & 0o077:
        return None
    return f"{path} can be read by others (mode {mode:04o}): prompts and answers are in it; chmod 600 closes it"


def in_words(path: Path, error: BaseException) -> StoreError | RecordingError:
    """Return the error of this package for an error of SQLite, naming the file, the cause and what to do."""
    name: str = getattr(error, "sqlite_errorname", "")
    if isinstance(error, (sqlite3.OperationalError, sqlite3.DatabaseError)):
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return corrupt(path, str(error))
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
            return UnwritableStoreError(f"{path} cannot be written ({error}): check its folder and permissions")
        if name.startswith("SQLITE_FULL"):
            return StoreError(f"{path} cannot grow, the disk is full ({error}): free space and run again")
        if name.startswith("SQLITE_IOERR"):
            return StoreError(f"{path} cannot be written ({error}, {name}): the disk may be full or failing")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreError(f"{path} is locked by another program ({error}): close it and run again")
    if isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        return RecordingError(f"{path} refuses a record: {error}")
    if isinstance(error, (OverflowError, TypeError)):
        return RecordingError(f"{path} cannot hold a value: {error}")
    return StoreError(f"{path}: {error}")


def corrupt(path: Path, cause: str) -> CorruptStoreError:
    """Return the error for a damaged file."""
    return CorruptStoreError(
        f"{path} is damaged or no database ({cause}); it was not changed. See what can be saved with: "
        f"llmexp doctor {path}"
    )


def _engine(path: Path, open_connection: object) -> Engine:
    # pool_size 0: connections are kept until the engine is disposed of, which the store does under its lock
    return create_engine("sqlite://", creator=open_connection, poolclass=QueuePool, pool_size=0)


def _probe(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    finally:
        connection.close()
