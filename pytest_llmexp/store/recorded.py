"""Recorded calls as a source of answers for replay: narrow reads, one by index and one by key per call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Final

from pytest_llmexp.core.models import Call
from pytest_llmexp.store.codec import encode_text
from pytest_llmexp.store.store import Store

_ANSWERED: Final = "c.status = 'ok' AND c.response IS NOT NULL"
# A run that ended as an error, or not at all, did not mean to stop reading there.
_MEANT: Final = (
    "(r.status NOT IN ('error', 'crashed', 'running') OR c.stream IS NULL"
    " OR json_extract(c.stream, '$.closed_early') IS NULL)"
)
_FROM: Final = "FROM experiment_runs AS r CROSS JOIN calls AS c ON c.run_id = r.id WHERE r.test = ?"
_OF_RUNS: Final = f"""
SELECT r.id, c.id {_FROM} AND r.case_id = ? AND r.run_index = ? AND c.request_key = ? AND {_ANSWERED}
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


class StoredAnswers:
    """The answers of a store: of one experiment, or of all but the one that is `recording`."""

    def __init__(self, store: Store, recording: str, experiment_id: str | None = None) -> None:
        self._store = store
        self._recording = recording
        self._experiment = experiment_id or "%"

    def find(self, place: tuple[str, str, int], request_key: str, nth: int, not_of: str | None) -> Call | None:
        """Return the nth call with this request that the place's latest run with as many has made, if any.

        Args:
            place: Test, case and run index; an empty test stands for calls outside of runs.
            request_key: The key of the request.
            nth: From 1.
            not_of: A run's id that is left out.
        """
        test, case_id, run_index = place
        if test:
            rows = self._rows(
                _OF_RUNS, encode_text(test), encode_text(case_id), run_index, request_key, self._experiment
            )
        else:
            rows = self._rows(_LOOSE, request_key, self._experiment, self._recording)
        for owner, group in groupby(rows, key=itemgetter(0)):
            if owner != not_of and (call_id := next(islice(group, nth - 1, None), (None, None))[1]) is not None:
                return self._store.call(call_id)
        return None

    def like(self, place: tuple[str, str, int]) -> Sequence[Call]:
        """Return up to 20 calls of the same test, those of the place first."""
        test, case_id, run_index = place
        if test:
            rows = self._rows(_LIKE, encode_text(test), self._experiment, encode_text(case_id), run_index)
        else:
            rows = self._rows(_LIKE_LOOSE, self._experiment, self._recording)
        return [self._store.call(call_id) for (call_id,) in rows]

    def _rows(self, sql: str, *values: str | int) -> Iterable[tuple[str, ...]]:
        with self._store.driver() as connection:
            return connection.execute(sql, values).fetchall()
