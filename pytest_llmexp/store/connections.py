"""The connections of one Store: write transactions under the file lock, reads, and what a fork must not share."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, Pool, PoolProxiedConnection
from sqlalchemy.exc import SQLAlchemyError, StatementError

from pytest_llmexp.core.errors import StoreError, UnwritableStoreError
from pytest_llmexp.store.lock import FileLock
from pytest_llmexp.store.sqlite import in_words

# A forked child must neither use nor close its parent's connections (sqlite.org/howtocorrupt.html, 2.6):
# this keeps them from the garbage collector.
_LEFT_TO_PARENT: Final[list[Pool | PoolProxiedConnection | None]] = []


class Connections:
    """Hands out connections of an engine; without a lock they are for reading only."""

    def __init__(self, path: Path, engine: Engine, lock: FileLock | None) -> None:
        self._path = path
        self._engine = engine
        self._lock = lock
        self._file = path.stat()
        self._closed = False
        self._inserting: PoolProxiedConnection | None = None
        self._looking_up: PoolProxiedConnection | None = None
        self._lock_of_lookups = threading.Lock()
        if hasattr(os, "register_at_fork"):
            connections = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forget(connections))

    @property
    def engine(self) -> Engine:
        """The engine, for its dialect."""
        return self._engine

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Run the block as one write transaction, alone among all processes, committed at its end.

        Raises StoreError for what the database refuses, RecordingError for what it refuses of a record.
        After any error the connection is dropped: a driver may report success on one that has failed before.
        """
        self._check_open()
        if self._lock is None:
            raise UnwritableStoreError(f"{self._path} was opened for reading")
        with self._in_words(), self._lock.held(), self._engine.connect() as connection:
            try:
                self._check_same_file()
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
            except BaseException:
                connection.invalidate()
                raise

    @contextmanager
    def inserting(self) -> Iterator[sqlite3.Connection]:
        """Do as `writing` for SQL that is compiled already: the driver's connection, one for all transactions.

        To get one from the pool and give it back for every commit takes as long as the commit.
        """
        self._check_open()
        if self._lock is None:
            raise UnwritableStoreError(f"{self._path} was opened for reading")
        with self._in_words(), self._lock.held():
            try:
                self._check_same_file()
                if self._inserting is None:
                    self._inserting = self._engine.raw_connection()
                connection: sqlite3.Connection = self._inserting.driver_connection  # type: ignore[assignment]
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
            except BaseException:
                kept, self._inserting = self._inserting, None
                if kept is not None:
                    kept.invalidate()
                raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Run the block with a connection outside any transaction: each statement sees what was committed before it."""
        self._check_open()
        with self._in_words(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def driver(self) -> Iterator[sqlite3.Connection]:
        """Run the block with the driver's connection, for reads where every microsecond per row counts."""
        with self.reading() as connection:
            found: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
            yield found

    @contextmanager
    def looking_up(self) -> Iterator[sqlite3.Connection]:
        """Do as `driver` for reads of a few rows: one connection for all of them, used by one thread at a time."""
        self._check_open()
        with self._in_words(), self._lock_of_lookups:
            if self._looking_up is None:
                self._looking_up = self._engine.raw_connection()
            connection: sqlite3.Connection = self._looking_up.driver_connection  # type: ignore[assignment]
            yield connection

    def close(self) -> None:
        """Close every connection; the last one of all processes moves the WAL into the file, so this is locked too."""
        if self._closed:
            return
        self._closed = True
        if self._lock is None:
            self._dispose()
            return
        try:
            with self._lock.held():
                self._dispose()
        finally:
            self._dispose()
            self._lock.close()

    def _dispose(self) -> None:
        kept = (self._inserting, self._looking_up)
        self._inserting = self._looking_up = None
        for connection in kept:
            if connection is not None:
                connection.close()  # gives it back to the pool, which closes it
        self._engine.dispose()

    def forget(self) -> None:
        """Leave the connections to the parent process; new ones are opened when needed."""
        _LEFT_TO_PARENT.extend((self._engine.pool, self._inserting, self._looking_up))
        self._inserting = self._looking_up = None
        self._lock_of_lookups = threading.Lock()
        self._engine.dispose(close=False)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except StatementError as error:
            raise in_words(self._path, error.orig or error) from error
        except (SQLAlchemyError, sqlite3.Error, OverflowError) as error:
            raise in_words(self._path, error) from error

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self._path} is closed")

    def _check_same_file(self) -> None:
        try:
            same = os.path.samestat(self._path.stat(), self._file)
        except FileNotFoundError:
            same = False
        if not same:  # on POSIX, writes to a removed file succeed, and are lost
            raise StoreError(f"{self._path} was removed or replaced while in use: what comes now cannot be recorded")


def _forget(connections: weakref.ref[Connections]) -> None:
    if (alive := connections()) is not None:
        alive.forget()
