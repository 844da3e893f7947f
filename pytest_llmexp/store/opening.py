"""Opening a store: which file it is, whether it is ours and of this version, and making or migrating it.

A file that is damaged, another program's or newer than this package is looked at read-only and left as it is.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from pytest_llmexp.core.errors import ForeignStoreError, NewerStoreError, StoreError, UnwritableStoreError
from pytest_llmexp.store import schema, sqlite
from pytest_llmexp.store.lock import FileLock
from pytest_llmexp.store.store import Store

_SMALLEST = 512  # bytes, the smallest page (sqlite.org/fileformat.html, 1.3.2)
_LLAMABOT = {"message_log", "prompts", "runs", "spans", "alembic_version"}


def open_store(
    url: str | Path,
    *,
    create: bool = False,
    read_only: bool = False,
    redact: Callable[[str], str] | None = None,
    synchronous: sqlite.Synchronous = "normal",
) -> Store:
    """Open the store at a path or SQLAlchemy URL.

    `create` makes a missing one and migrates an older one: for the process that started pytest.
    `redact` is applied to every text and JSON value before it is written. `synchronous` "full" makes
    commits survive power cuts, at one fsync each; "normal" lets them survive every killed process.
    What the user should know but need not act on is in `Store.warnings`.

    Raises UnwritableStoreError, CorruptStoreError, ForeignStoreError or NewerStoreError, the file untouched;
    StoreError where the store is missing or older and `create` is not given, or the database is not supported.
    """
    path = store_path(url)
    try:
        if read_only:
            return _open_reading(path, redact)
        _check_place(path, create)
        if path.exists():
            found_version(path)  # a file that is not ours is refused before the first lock file beside it
        return _open_writing(path, create, redact, synchronous)
    except DBAPIError as error:
        raise sqlite.in_words(path, error.orig or error) from error
    except sqlite3.Error as error:
        raise sqlite.in_words(path, error) from error


def store_path(url: str | Path) -> Path:
    """Return the file of an SQLite store, symbolic links resolved: all its users must meet at one lock file.

    Raises StoreError for a URL of another database.
    """
    if isinstance(url, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+]*://", url):
        url = _path_of_url(url)
    return Path(url).expanduser().resolve()


def found_version(path: Path) -> str | None:
    """Return the schema version of an existing file; None for an empty one or LlamaBot's.

    Raises CorruptStoreError, ForeignStoreError or NewerStoreError. Never opens the file but through SQLite: closing
    it would end the locks that other connections of this process hold (sqlite.org/howtocorrupt.html, 2.2).
    """
    size = path.stat().st_size
    if size == 0:
        return None
    if size < _SMALLEST:  # SQLite takes a file of a few bytes for an empty database
        raise sqlite.corrupt(path, f"{size} bytes are no SQLite file")
    connection = sqlite.connect_reading(path)
    try:
        return _version(path, connection)
    except sqlite3.OperationalError as error:
        if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise
    finally:
        connection.close()
    return _version_of_locked_away(path)


def _version_of_locked_away(path: Path) -> str | None:
    """Return the version of a file that SQLite cannot read without writing: no -shm file, or a journal to undo."""
    writable = os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)
    connection = sqlite.connect(path, "normal") if writable else sqlite.connect_reading(path, immutable=True)
    try:
        return _version(path, connection)
    finally:
        connection.close()


def _version(path: Path, connection: sqlite3.Connection) -> str | None:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    tables = {name for (name,) in rows if not name.startswith("sqlite_")}
    if schema.VERSION_TABLE not in tables:
        if strange := sorted(tables - _LLAMABOT):
            raise ForeignStoreError(
                f"{path} belongs to another program (it has the tables {', '.join(strange[:5])}); "
                f"it was not changed. Choose another file with --experiment-db"
            )
        return None
    row = connection.execute(f"SELECT version_num FROM {schema.VERSION_TABLE}").fetchone()
    version = None if row is None else str(row[0])
    if version is not None and version not in schema.VERSIONS:
        raise NewerStoreError(
            f"{path} has schema version {version}, this package knows up to {schema.VERSIONS[-1]}; it was not changed. "
            f"Upgrade pytest-llmexp, or choose another file with --experiment-db"
        )
    return version


def _open_reading(path: Path, redact: Callable[[str], str] | None) -> Store:
    if not path.is_file():
        _missing(path)
    if not os.access(path, os.R_OK):
        raise StoreError(f"{path} cannot be read: check its permissions")
    if (version := found_version(path)) != schema.VERSIONS[-1]:
        _outdated(path, version)
    engine, warning = sqlite.make_reading_engine(path)
    return Store(path, engine, lock=None, redact=redact, warnings=[warning] if warning else [])


def _open_writing(
    path: Path, create: bool, redact: Callable[[str], str] | None, synchronous: sqlite.Synchronous
) -> Store:
    lock = FileLock(path.with_name(path.name + ".lock"))
    warnings: list[str] = []
    try:
        with lock.held():
            if create:
                _create_private(path)
            engine = _prepared(path, create, synchronous, warnings)
    except BaseException:
        lock.close()
        raise
    return Store(path, engine, lock=lock, redact=redact, warnings=warnings)


def _prepared(path: Path, create: bool, synchronous: sqlite.Synchronous, warnings: list[str]) -> Engine:
    """Bring the file to WAL and the current schema, under the lock; return its engine."""
    version = found_version(path)
    if create:
        _check_after_crash(path)
    warnings += [text for text in [sqlite.mode_warning(path)] if text]
    connection = sqlite.connect(path, "full")
    try:
        mode = sqlite.switch_to_wal(connection)
    finally:
        connection.close()
    if mode != "wal":
        warnings.append(f"{path} cannot use SQLite's WAL here (journal mode {mode}): every commit is slower")
        synchronous = "full"  # a rollback journal is only safe with it
    engine = sqlite.make_engine(path, synchronous)
    try:
        _bring_up_to_date(path, engine, version, create)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _bring_up_to_date(path: Path, engine: Engine, version: str | None, create: bool) -> None:
    if version == schema.VERSIONS[-1]:
        return
    if not create:
        _outdated(path, version)
    if version is not None:
        from pytest_llmexp.store.migration import back_up  # start-up cost: only an older file needs Alembic

        back_up(path, version)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        if version is None:
            _create_schema(connection)
        else:
            from pytest_llmexp.store.migration import migrate  # as above

            migrate(connection)
        connection.commit()


def _create_schema(connection: Connection) -> None:
    schema.metadata.create_all(connection, checkfirst=False)
    for view in schema.VIEWS.values():
        connection.exec_driver_sql(view)
    schema.version.create(connection)
    connection.execute(schema.version.insert(), {"version_num": schema.VERSIONS[-1]})


def _check_after_crash(path: Path) -> None:
    """Look for damage when the last writer left its WAL behind; a clean end removes it."""
    wal = path.with_name(path.name + "-wal")
    if not wal.exists() or wal.stat().st_size == 0:
        return
    connection = sqlite.connect_reading(path)
    try:
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    finally:
        connection.close()
    if answer != "ok":
        raise sqlite.corrupt(path, str(answer))


def _check_place(path: Path, create: bool) -> None:
    folder = path.parent
    if path.is_dir():
        raise UnwritableStoreError(f"{path} is a folder: name a file with --experiment-db")
    if path.exists() and not path.is_file():
        raise UnwritableStoreError(f"{path} is no ordinary file: name another one with --experiment-db")
    if not folder.is_dir():
        raise UnwritableStoreError(f"{path} cannot be made, as {folder} is no folder: make it, or use --experiment-db")
    if not path.exists() and not create:
        _missing(path)
    for place in (folder, path):
        if place.exists() and not os.access(place, os.W_OK):
            raise UnwritableStoreError(f"{place} cannot be written: check its permissions, or use --experiment-db")


def _create_private(path: Path) -> None:
    try:
        sqlite.create_private(path)
    except OSError as error:
        raise UnwritableStoreError(
            f"{path} cannot be made ({error.strerror}): choose another file with --experiment-db"
        ) from error


def _path_of_url(url: str) -> str:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(f"the store's URL cannot be read ({error}): write a path, or sqlite:///path") from error
    if parsed.get_backend_name() == "postgresql":
        raise StoreError(f"{parsed!r}: PostgreSQL is not available in this version; write a path or sqlite:///path")
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise StoreError(f"{parsed!r} is no store: write a path, or sqlite:///path")
    return str(parsed.database)


def _missing(path: Path) -> NoReturn:
    raise StoreError(f"there is no store at {path}: pytest makes it when it records its first experiment")


def _outdated(path: Path, version: str | None) -> NoReturn:
    have = "no schema yet" if version is None else f"schema version {version}, older than {schema.VERSIONS[-1]}"
    raise StoreError(f"{path} has {have}: pytest brings it up to date when it next records an experiment")
