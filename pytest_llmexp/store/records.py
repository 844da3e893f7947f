"""Which record lives in which table, and the two ways between them: upserts and rows.

Knows the tables and the codec, opens no database.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Dialect, Table, delete, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import Select
from sqlalchemy.sql.expression import ClauseElement, bindparam

from pytest_llmexp.core.errors import RecordingError
from pytest_llmexp.core.models import (
    Annotation,
    BotSpec,
    Call,
    Experiment,
    Metric,
    PromptUse,
    PromptVersion,
    Record,
    Run,
    Step,
    Summary,
    Verdict,
)
from pytest_llmexp.store import schema
from pytest_llmexp.store.codec import Redact, decoder, encoder

R = TypeVar("R", bound=Record)
_UNFIT = (TypeError, ValueError, OverflowError, RecursionError, AttributeError)


class Home(NamedTuple):
    """Where one type of record lives: its table, and the key under which a later record replaces an earlier one."""

    table: Table
    key: tuple[str, ...]
    keep_first: bool = False  # an earlier row stays as it is
    replace: bool = False  # the key may hold NULL, which no upsert finds: delete, then insert


HOMES: dict[type[Any], Home] = {  # parents before their children
    Experiment: Home(schema.experiments, ("id",)),
    PromptVersion: Home(schema.prompt_versions, ("name", "hash"), keep_first=True),
    BotSpec: Home(schema.bots, ("id",)),
    Run: Home(schema.experiment_runs, ("id",)),
    Step: Home(schema.steps, ("id",)),
    Call: Home(schema.calls, ("id",)),
    PromptUse: Home(schema.prompt_uses, ("run_id", "id")),
    Metric: Home(schema.metrics, ("run_id", "name")),
    Summary: Home(schema.summaries, ("experiment_id", "test", "case_id", "metric"), replace=True),
    Verdict: Home(schema.verdicts, ("experiment_id", "test", "case_id", "gate"), replace=True),
    Annotation: Home(schema.annotations, ("id",), keep_first=True),
}


class Insert(NamedTuple):
    """Statements for the rows of one table, in order: SQL text and one sequence of values per row."""

    sql: str
    rows: Sequence[Sequence[Any]]


class RecordEncoder:
    """Turns records into statements of one dialect, compiled once.

    Every text and JSON value passes `redact` before it becomes a value to bind.
    """

    def __init__(self, dialect: Dialect, redact: Redact | None) -> None:
        self._tables = {record: _TableEncoder(home, dialect, redact) for record, home in HOMES.items()}

    def statements(self, records: Iterable[Record]) -> list[Insert]:
        """Return what writes the records; of several with one key the last one wins.

        Raises RecordingError that names the column for a value that cannot be stored.
        """
        found: dict[type[Record], list[Record]] = {}
        for record in records:
            found.setdefault(type(record), []).append(record)
        return [
            insert
            for kind, table in self._tables.items()
            if kind in found
            for insert in table.statements(found.pop(kind))
        ]


class _TableEncoder:
    def __init__(self, home: Home, dialect: Dialect, redact: Redact | None) -> None:
        self._home = home
        names = _names(home)
        self._get = attrgetter(*names)
        self._key_of = attrgetter(*home.key)
        self._key = [names.index(name) for name in home.key]
        self._steps = [
            (position, encode)
            for position, column in enumerate(home.table.columns)
            if (encode := encoder(column.info["kind"], redact)) is not None
        ]
        self._insert = _compiled(_insert(home), dialect)
        self._delete = _compiled(_delete(home), dialect) if home.replace else None

    def statements(self, records: list[Record]) -> list[Insert]:
        rows = [self._row(record) for record in self._distinct(records)]
        insert = Insert(self._insert, rows)
        if self._delete is None:
            return [insert]
        return [Insert(self._delete, [[row[position] for position in self._key] for row in rows]), insert]

    def _distinct(self, records: list[Record]) -> list[Record]:
        """Return one record per key, before any is encoded: a call's two rows often wait for the same commit."""
        if len(records) == 1:
            return records
        found: dict[Any, Record] = {}
        for record in records:
            try:
                key = self._key_of(record)
                if not self._home.keep_first or key not in found:
                    found[key] = record
            except TypeError:  # a key that is no text: `_row` has the words for it
                self._row(record)
                raise
        return list(found.values())

    def _row(self, record: Record) -> tuple[Any, ...]:
        values = list(self._get(record))
        position = 0
        try:
            for position, encode in self._steps:
                if values[position] is not None:
                    values[position] = encode(values[position])
        except _UNFIT as error:
            table = self._home.table
            key = " ".join(str(getattr(record, name)) for name in self._home.key)
            column = list(table.columns)[position].name
            raise RecordingError(f"{table.name}.{column} of {key!a} cannot be stored: {error}") from error
        return tuple(values)


class RecordDecoder(Generic[R]):
    """Turns rows into records of one type: `select` names the columns in the order that `records` takes."""

    def __init__(self, kind: type[R]) -> None:
        columns = HOMES[kind].table.columns
        self._kind = kind
        self._columns = [columns[field.name] for field in fields(kind)]
        self._decoders = [decoder(column.info["kind"]) for column in self._columns]
        # The records are frozen: filling their slots costs a fifth of 28 keyword arguments, and they check nothing.
        self._slots: list[Callable[[Any, Any], None]] = [getattr(kind, field.name).__set__ for field in fields(kind)]

    def select(self) -> Select[Any]:
        """Return a select of every column a record needs."""
        return select(*self._columns)

    def records(self, rows: Sequence[Sequence[Any]]) -> list[R]:
        """Return one record per row. Works on whole columns: a loop over rows and fields takes five times as long."""
        kind = self._kind
        records = [kind.__new__(kind) for _ in rows]
        for column, decode, fill in zip(zip(*rows, strict=True), self._decoders, self._slots, strict=False):
            deque(map(fill, records, column if decode is None else decode(column)), maxlen=0)
        return records


class FewColumns(Generic[R]):
    """Turns rows of some columns into records of one type, one at a time: `sql` is what a select names."""

    def __init__(self, kind: type[R], *names: str) -> None:
        columns = HOMES[kind].table.columns
        self.sql = ", ".join(names)
        self._kind = kind
        self._names = names
        self._decoders = [decoder(columns[name].info["kind"]) for name in names]

    def record(self, row: Sequence[Any], **rest: Any) -> R:
        """Return the record of a row; `rest` are further fields."""
        values = (v if decode is None else decode((v,))[0] for v, decode in zip(row, self._decoders, strict=True))
        return self._kind(**dict(zip(self._names, values, strict=True)), **rest)


def _names(home: Home) -> list[str]:
    return [column.name for column in home.table.columns]


def _insert(home: Home) -> ClauseElement:
    """Return the upsert of a table; SQLite and PostgreSQL share its syntax."""
    insert = sqlite.insert(home.table)
    if home.replace:
        return insert
    if home.keep_first:
        return insert.on_conflict_do_nothing(index_elements=home.key)
    rest = {name: insert.excluded[name] for name in _names(home) if name not in home.key}
    return insert.on_conflict_do_update(index_elements=home.key, set_=rest)


def _delete(home: Home) -> ClauseElement:
    return delete(home.table).where(
        *(home.table.columns[name].is_not_distinct_from(bindparam(name)) for name in home.key)
    )


def _compiled(statement: ClauseElement, dialect: Dialect) -> str:
    """Return the SQL text, its parameters in the order of the columns."""
    return str(statement.compile(dialect=dialect))
