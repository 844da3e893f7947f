"""Narrow reads for summaries: what an experiment's runs came to, and the values of each of its metrics.

A million rows as records take eight seconds; here SQLite hands each metric's values to a list, row after row inside
one step of one statement. SQL text for the driver's connection: even a cursor costs more per row than the rest.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from pytest_llmexp.core.summary import Evidence, MetricValue, Recorded, RunOutcome
from pytest_llmexp.store.codec import decode_text

_RUNS: Final = (
    "SELECT id, test, case_id, run_index, status, phase FROM experiment_runs WHERE experiment_id = ? ORDER BY id"
)
_BETWEEN: Final = "SELECT count(*) FROM experiment_runs WHERE id BETWEEN ? AND ?"
# DISTINCT would read the whole index; this makes one search per name.
_NAMES: Final = """
WITH RECURSIVE found(name) AS (
  SELECT min(name) FROM metrics
  UNION ALL
  SELECT (SELECT min(name) FROM metrics WHERE name > found.name) FROM found WHERE found.name IS NOT NULL
)
SELECT name FROM found WHERE name IS NOT NULL
"""
_ONE: Final = "FROM metrics INDEXED BY ix_metrics_name WHERE name = ? AND run_id BETWEEN ? AND ?"
_FIRST: Final = f"SELECT kind, better, detail {_ONE} LIMIT 1"
_LIKE_FIRST: Final = "FILTER (WHERE kind = ? AND better IS ? AND detail = ?)"
_VALUES: Final = f"SELECT count(*), collect(value) {_LIKE_FIRST} {_ONE}"  # in the index's order: that of run_id
_RUN_IDS: Final = f"SELECT collect(run_id) {_ONE}"
_MIXED: Final = f"SELECT kind, better, detail, run_id, value {_ONE} ORDER BY 1, 2, 3"
_BY_RUN: Final = """
SELECT m.run_id, m.name, m.value FROM experiment_runs AS r CROSS JOIN metrics AS m ON m.run_id = r.id
WHERE r.experiment_id = ? ORDER BY r.id, m.name
"""


def read_evidence(connection: sqlite3.Connection, experiment_id: str) -> Evidence:
    """Return an experiment's runs in the order they were begun, and its metrics."""
    with _one_moment(connection):
        rows = connection.execute(_RUNS, (experiment_id,)).fetchall()
        if not rows:
            return Evidence([], [])
        metrics = _MetricReader(connection, [row[0] for row in rows])
        return Evidence(
            _outcomes(rows), [each for (name,) in connection.execute(_NAMES) for each in metrics.read(name)]
        )


def read_outcomes(connection: sqlite3.Connection, experiment_id: str) -> list[RunOutcome]:
    """Return an experiment's runs in the order they were begun, without what they recorded."""
    return _outcomes(connection.execute(_RUNS, (experiment_id,)).fetchall())


def read_values_by_run(connection: sqlite3.Connection, experiment_id: str) -> dict[str, list[MetricValue]]:
    """Return the values of each run that has any, ordered by name."""
    rows = connection.execute(_BY_RUN, (experiment_id,))
    return {
        decode_text(run_id): [MetricValue(decode_text(name), value) for _, name, value in group]
        for run_id, group in groupby(rows, key=itemgetter(0))
    }


class _MetricReader:
    """Reads one metric after the other in the range of an experiment's run ids, where others may have runs too."""

    def __init__(self, connection: sqlite3.Connection, run_ids: Sequence[str]) -> None:
        self._connection = connection
        self._run_ids = run_ids
        self._range = (run_ids[0], run_ids[-1])
        (between,) = connection.execute(_BETWEEN, self._range).fetchone()
        self._alone = between == len(run_ids)
        self._places: dict[str, int] = {}
        self._collected: list[list[Any]] = []
        connection.create_aggregate("collect", 1, _collector(self._collected))

    def read(self, name: str) -> list[Recorded]:
        """Return the metric's values; apart where its runs differ in kind, direction or bounds."""
        where = (name, *self._range)
        first = self._connection.execute(_FIRST, where).fetchone()
        if first is None:
            return []
        rows, values = self._collect(_VALUES, (*first, *where))
        if len(values) != rows:
            return self._mixed(where)
        if self._alone and rows == len(self._run_ids):  # one for each run, in the order of the runs
            return [_recorded(name, first, values)]
        _, run_ids = self._collect(_RUN_IDS, where)
        return self._placed(name, first, run_ids, values)

    def _collect(self, sql: str, parameters: Sequence[Any]) -> tuple[int, list[Any]]:
        self._collected.clear()
        row = self._connection.execute(sql, parameters).fetchone()
        return row[0], self._collected[0]

    def _mixed(self, where: tuple[str, str, str]) -> list[Recorded]:
        rows = self._connection.execute(_MIXED, where)
        found = []
        for variant, group in groupby(rows, key=itemgetter(0, 1, 2)):
            run_ids, values = zip(*((row[3], row[4]) for row in group), strict=True)
            found += self._placed(where[0], variant, run_ids, values)
        return found

    def _placed(
        self, name: str, variant: tuple[str, str | None, str], run_ids: Sequence[str], values: Sequence[float]
    ) -> list[Recorded]:
        self._places = self._places or {run_id: place for place, run_id in enumerate(self._run_ids)}
        placed = dict(zip(map(self._places.get, run_ids), values, strict=True))
        placed.pop(None, None)  # of other experiments
        mine: dict[int, float] = placed  # type: ignore[assignment]
        return [_recorded(name, variant, mine)] if mine else []


def _collector(collected: list[list[Any]]) -> Any:
    class Collector:
        """An aggregate whose step is a list's own append: no Python code runs per row."""

        def __init__(self) -> None:
            values: list[Any] = []
            collected.append(values)
            self.step = values.append

        def finalize(self) -> None: ...

    return Collector


def _recorded(name: str, variant: Sequence[Any], values: dict[int, float] | list[float]) -> Recorded:
    kind, better, detail = variant
    return Recorded(decode_text(name), kind, better, json.loads(detail), values)


def _outcomes(rows: Sequence[tuple[Any, ...]]) -> list[RunOutcome]:
    if any("\x1a" in text for text in {text for row in rows for text in row[:3]}):
        rows = [(*map(decode_text, row[:3]), *row[3:]) for row in rows]
    return list(map(partial(tuple.__new__, RunOutcome), rows))  # a third of the time of _make


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Let the statements of the block see the same state of the file."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")
