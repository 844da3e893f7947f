"""Recorded calls as a source of answers for replay: one narrow read by index for a run, and one by key for a call."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final

from pytest_llmexp.core.forks import renew_lock_in_children
from pytest_llmexp.core.models import ANSWER, Call
from pytest_llmexp.store.codec import encode_text
from pytest_llmexp.store.records import FewColumns
from pytest_llmexp.store.store import Store

Place = tuple[str, str, int]
ByRequest = dict[str, list[tuple[str, str]]]  # ids of runs and calls, the latest run first

_ANSWERED: Final = "c.status = 'ok' AND c.response IS NOT NULL"
# A run that ended as an error, or not at all, did not mean to stop reading there.
_MEANT: Final = (
    "(r.status NOT IN ('error', 'crashed', 'running') OR c.stream IS NULL"
    " OR json_extract(c.stream, '$.closed_early') IS NULL)"
)
_FROM: Final = "FROM experiment_runs AS r CROSS JOIN calls AS c ON c.run_id = r.id WHERE r.test = ?"
_OF_RUNS: Final = f"""
SELECT r.run_index, c.request_key, r.id, c.id {_FROM} AND r.case_id = ? AND r.run_index BETWEEN ? AND ? AND {_ANSWERED}
AND {_MEANT} AND r.experiment_id LIKE ? ORDER BY r.id DESC, c.ordinal
"""
_LOOSE: Final = f"""
SELECT c.experiment_id, c.id FROM calls AS c WHERE c.run_id IS NULL AND c.request_key = ? AND {_ANSWERED}
AND c.experiment_id LIKE ? AND c.experiment_id <> ? ORDER BY c.experiment_id DESC, c.id
"""
_LIKE: Final = f"""
SELECT c.id {_FROM} AND {_ANSWERED} AND r.experiment_id LIKE ?
ORDER BY r.case_id = ? DESC, r.run_index = ? DESC, r.id DESC, c.ordinal LIMIT 20
"""
_LIKE_LOOSE: Final = f"""
SELECT c.id FROM calls AS c WHERE c.run_id IS NULL AND {_ANSWERED} AND c.experiment_id LIKE ?
AND c.experiment_id <> ? ORDER BY c.id DESC LIMIT 20
"""
_SERVED: Final = FewColumns(Call, "id", "ordinal", "replayed_from", *ANSWER)
_ASKING: Final = 256  # runs whose rows are remembered: more do not ask in turns
_AHEAD: Final = 64  # runs whose rows are read at once
_ROWS_AHEAD: Final = 2000  # bounds the memory of that where a run has been repeated often


class StoredAnswers:
    """The answers of a store: of one experiment, or of all but the one that is `recording`."""

    def __init__(self, store: Store, recording: str, experiment_id: str | None = None) -> None:
        self._store = store
        self._recording = recording
        self._experiment = experiment_id or "%"
        self._lock = threading.Lock()
        renew_lock_in_children(self)
        self._asking: dict[str, ByRequest] = {}  # by the run that asks, since when it asked first
        self._ahead: dict[Place, ByRequest] = {}  # of runs that have not asked yet
        self._window = 1  # runs that are read at once

    def find(self, place: Place, request_key: str, nth: int, not_of: str | None) -> Call | None:
        """Return the nth call with this request that the place's latest run with as many has made, if any.

        Only what a call is served is filled in.

        Args:
            place: Test, case and run index; an empty test stands for calls outside of runs.
            request_key: The key of the request.
            nth: From 1.
            not_of: A run's id that is left out.
        """
        if place[0]:
            rows = self._recorded(place, not_of).get(request_key, [])
        else:
            rows = self._rows(_LOOSE, request_key, self._experiment, self._recording)
        for owner, group in groupby(rows, key=itemgetter(0)):
            if owner != not_of and (call_id := next(islice(group, nth - 1, None), (None, None))[1]) is not None:
                (row,) = self._rows(f"SELECT {_SERVED.sql} FROM calls WHERE id = ?", call_id)
                return _SERVED.record(row, experiment_id="", started_at="", status="ok")
        return None

    def _recorded(self, place: Place, asking: str | None) -> ByRequest:
        """Return what is recorded for a place; read once for a run, with that of the runs after it."""
        with self._lock:
            if (known := self._asking.get(asking or "")) is not None:
                return known
            found = self._ahead.pop(place, None)
            if found is None:
                self._read_ahead(place)
                found = self._ahead.pop(place, {})
            if asking is not None:
                self._asking[asking] = found
            if len(self._asking) > _ASKING:
                del self._asking[next(iter(self._asking))]
            return found

    def _read_ahead(self, place: Place) -> None:
        """Read what is recorded for a place and for the next indices: twice as many as before if all were asked for."""
        self._window = min(2 * self._window, _AHEAD) if not self._ahead else max(1, self._window // 2)
        test, case_id, first = place
        names = (encode_text(test), encode_text(case_id))
        rows = self._rows(_OF_RUNS, *names, first, first + self._window - 1, self._experiment)
        self._ahead = {}
        for index, key, *ids in rows:
            of_place = self._ahead.setdefault((test, case_id, index), {})
            of_place.setdefault(key, []).append((ids[0], ids[1]))
        if len(rows) > _ROWS_AHEAD:
            self._window = max(1, self._window // 4)

    def like(self, place: Place) -> Sequence[Call]:
        """Return up to 20 calls of the same test, those of the place first."""
        test, case_id, run_index = place
        if test:
            rows = self._rows(_LIKE, encode_text(test), self._experiment, encode_text(case_id), run_index)
        else:
            rows = self._rows(_LIKE_LOOSE, self._experiment, self._recording)
        return [self._store.call(call_id) for (call_id,) in rows]

    def _rows(self, sql: str, *values: str | int) -> list[tuple[Any, ...]]:
        with self._store.looking_up() as connection:
            return connection.execute(sql, values).fetchall()
