"""The one small interface to what is recorded: writes of a recording process, reads of everyone else.

Opens nothing itself (see opening.py). A Store may be shared by threads, and used on after a fork.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import URL, ColumnElement, Engine, bindparam, case, func, select, update

from pytest_llmexp.core.errors import StoreError, UnknownExperimentError
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
    RunTotals,
    Step,
    Summary,
    Verdict,
)
from pytest_llmexp.core.summary import Evidence, MetricValue
from pytest_llmexp.store import schema
from pytest_llmexp.store.codec import Redact, decode_text, encode_text
from pytest_llmexp.store.connections import Connections
from pytest_llmexp.store.evidence import read_evidence, read_values_by_run
from pytest_llmexp.store.lock import FileLock
from pytest_llmexp.store.records import RecordDecoder, RecordEncoder

R = TypeVar("R", bound=Record)
NOT_AN_LLM = "(not an LLM)"  # how the built-in server signs its answers
_CRASHED = "the process that ran this ended before the run did"
_CHUNK = 10_000  # rows turned into records at a time
_END = "\U0010ffff"  # sorts after whatever an id begins with


class UnpricedCall(NamedTuple):
    """A call without a cost, and what a price is found by."""

    id: str
    model_requested: str | None
    model_returned: str | None
    endpoint: str
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    started_at: str


class CallTotals(NamedTuple):
    """What the calls of an experiment added up to. Sums leave out what a call did not say: `unpriced` tells."""

    calls: int
    failed: int
    unattributed: int
    replayed: int
    local: int
    unpriced: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None


class Store:
    """What experiments recorded. Made by `open_store`.

    `warnings` holds sentences about the file that the user should see once.
    """

    def __init__(
        self, path: Path, engine: Engine, *, lock: FileLock | None, redact: Redact | None, warnings: list[str]
    ) -> None:
        self.path: Path | None = path
        self.url = URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
        self.warnings = warnings
        self._redact = redact
        self._connections = Connections(path, engine, lock)
        self._encoder = RecordEncoder(engine.dialect, redact)

    def write(self, records: Iterable[Record]) -> None:
        """Write the records in one transaction, replacing those of the same key; writing them twice changes nothing.

        Raises RecordingError for a record that cannot be stored, StoreError where the store cannot be written;
        in both cases nothing of `records` is stored.
        """
        inserts = self._encoder.statements(records)
        if not inserts:
            return
        with self._connections.inserting() as connection:
            for sql, rows in inserts:
                connection.executemany(sql, rows)

    def close(self) -> None:
        """Close the connections; a closed store raises StoreError."""
        self._connections.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def experiments(self, *, limit: int | None = None) -> list[Experiment]:
        """Return the experiments, newest first."""
        return self._read(Experiment, order=[schema.experiments.c.id.desc()], limit=limit)

    def experiment(self, ref: str) -> Experiment:
        """Return the experiment with this id; or the latest finished one of this name, `name~1` the one before it.

        A name of which none has finished means the latest one. Raises UnknownExperimentError.
        """
        if exact := self._read(Experiment, schema.experiments.c.id == encode_text(ref)):
            return exact[0]
        named = self._named(ref)
        back = 0
        if not named and (match := re.fullmatch(r"(.*)~(\d{1,9})", ref, re.DOTALL)):
            named, back = self._named(match[1]), int(match[2])
            if back >= len(named) > 0:
                raise UnknownExperimentError(f"{ref!r} goes too far back: {len(named)} named {match[1]!r} are stored")
        if not named:
            raise UnknownExperimentError(self._unknown(ref))
        return named[back]

    def running_experiments(self) -> list[Experiment]:
        """Return the experiments that nobody has finished yet, oldest first."""
        rows = schema.experiments.c
        return self._read(Experiment, rows.status == "running", order=[rows.id])

    def runs(self, experiment_id: str) -> list[Run]:
        """Return the runs of an experiment, in the order they were begun."""
        runs = schema.experiment_runs.c
        return self._read(Run, runs.experiment_id == experiment_id, order=[runs.id])

    def run(self, run_id: str) -> Run:
        """Return the run with this id, or with the only id that begins so. Raises StoreError."""
        start, ids = encode_text(run_id), schema.experiment_runs.c.id
        found = self._read(Run, ids >= start, ids < start + _END, order=[ids], limit=2)
        if not found or (len(found) > 1 and found[0].id != run_id):
            raise StoreError(f"{'several runs have ids' if found else 'no run has an id'} that begin with {run_id!r}")
        return found[0]

    def calls(self, experiment_id: str, run_id: str | None = None, *, unattributed: bool = False) -> list[Call]:
        """Return the calls of an experiment, of one of its runs, or those of no run, in the order they were begun."""
        calls = schema.calls.c
        of_run = _of_run(calls.run_id, run_id, unattributed)
        return self._read(Call, calls.experiment_id == experiment_id, *of_run, order=[calls.id])

    def steps(self, experiment_id: str, run_id: str | None = None, *, unattributed: bool = False) -> list[Step]:
        """Return the steps of an experiment, of one of its runs, or those of no run, in the order they were begun."""
        steps = schema.steps.c
        of_run = _of_run(steps.run_id, run_id, unattributed)
        return self._read(Step, steps.experiment_id == experiment_id, *of_run, order=[steps.id])

    def metrics(self, experiment_id: str, run_id: str | None = None) -> list[Metric]:
        """Return every metric of an experiment's runs, or of one of them, ordered by run and name."""
        metrics = schema.metrics.c
        of_run = _of_run(metrics.run_id, run_id)
        order = [metrics.run_id, metrics.name]
        return self._read(Metric, _of_runs(metrics.run_id, experiment_id), *of_run, order=order)

    def evidence(self, experiment_id: str) -> Evidence:
        """Return what a summary needs of an experiment's runs and metrics, and nothing more."""
        with self._connections.driver() as connection:
            return read_evidence(connection, encode_text(experiment_id))

    def metric_values(self, experiment_id: str) -> dict[str, list[MetricValue]]:
        """Return the names and values of the metrics of each run that has any, ordered by name."""
        with self._connections.driver() as connection:
            return read_values_by_run(connection, encode_text(experiment_id))

    def bots(self, experiment_id: str) -> list[BotSpec]:
        """Return the bots of an experiment, ordered by name."""
        bots = schema.bots.c
        return self._read(BotSpec, bots.experiment_id == experiment_id, order=[bots.name, bots.id])

    def prompt_versions(self, experiment_id: str) -> list[PromptVersion]:
        """Return the prompt versions used in an experiment, ordered by name and first sight."""
        versions, uses = schema.prompt_versions.c, schema.prompt_uses.c
        used = select(uses.name).where(
            uses.name == versions.name, uses.hash == versions.hash, _of_runs(uses.run_id, experiment_id)
        )
        order = [versions.name, versions.first_seen_at, versions.hash]
        return self._read(PromptVersion, used.exists(), order=order)

    def prompt_uses(self, experiment_id: str, run_id: str | None = None) -> list[PromptUse]:
        """Return which prompt version was used in which run, or in one of them, ordered by run."""
        uses = schema.prompt_uses.c
        of_run = _of_run(uses.run_id, run_id)
        return self._read(PromptUse, _of_runs(uses.run_id, experiment_id), *of_run, order=[uses.run_id, uses.id])

    def summaries(self, experiment_id: str) -> list[Summary]:
        """Return the summaries of an experiment; a test's own (`case_id` None) before those of its cases."""
        rows = schema.summaries.c
        order = [rows.test, rows.case_id.is_not(None), rows.case_id, rows.metric]
        return self._read(Summary, rows.experiment_id == experiment_id, order=order)

    def verdicts(self, experiment_id: str) -> list[Verdict]:
        """Return the verdicts of an experiment; a test's own (`case_id` None) before those of its cases."""
        rows = schema.verdicts.c
        order = [rows.test, rows.case_id.is_not(None), rows.case_id, rows.gate]
        return self._read(Verdict, rows.experiment_id == experiment_id, order=order)

    def annotations(self, experiment_id: str) -> list[Annotation]:
        """Return people's judgements of an experiment's runs and calls, in the order they were given."""
        rows = schema.annotations.c
        of_calls = select(schema.calls.c.id).where(schema.calls.c.experiment_id == experiment_id)
        mine = _of_runs(rows.run_id, experiment_id) | rows.call_id.in_(of_calls)
        return self._read(Annotation, mine, order=[rows.id])

    def run_totals(self, experiment_id: str) -> list[RunTotals]:
        """Return what the generation calls of each run added up to; a sum is None if any of its calls did not say."""
        calls = schema.calls.c
        sums = [
            case((func.count(column) == func.count(), func.sum(column)))
            for column in (calls.latency_s, calls.input_tokens, calls.output_tokens, calls.cost_usd)
        ]
        statement = (
            select(calls.run_id, func.count(), *sums)
            .where(calls.role == "generation", _of_runs(calls.run_id, experiment_id))
            .group_by(calls.run_id)
            .order_by(calls.run_id)
        )
        with self._connections.reading() as connection:
            return [RunTotals(*row) for row in connection.execute(statement)]

    def unpriced_calls(self, experiment_id: str) -> list[UnpricedCall]:
        """Return the calls of an experiment that have no cost."""
        calls = schema.calls.c
        statement = (
            select(*(calls[name] for name in UnpricedCall._fields))
            .where(calls.experiment_id == experiment_id, calls.cost_usd.is_(None))
            .order_by(calls.id)
        )
        with self._connections.reading() as connection:
            rows = connection.execute(statement).all()
        return [UnpricedCall._make(decode_text(v) if isinstance(v, str) else v for v in row) for row in rows]

    def set_costs(self, costs: Iterable[tuple[str, float, str]]) -> None:
        """Write costs found later: call id, USD and where the price is from."""
        rows = [{"call": call, "cost": cost, "source": self._text(source)} for call, cost, source in costs]
        calls = schema.calls
        statement = (
            update(calls)
            .where(calls.c.id == bindparam("call"))
            .values(cost_usd=bindparam("cost"), price_source=bindparam("source"))
        )
        if rows:
            with self._connections.writing() as connection:
                connection.execute(statement, rows)

    def call_totals(self, experiment_id: str) -> CallTotals:
        """Return what all calls of an experiment added up to, evaluation and unattributed ones included."""
        calls = schema.calls.c
        statement = select(
            func.count(),
            func.count(case((calls.status == "error", 1))),
            func.count(case((calls.run_id.is_(None), 1))),
            func.count(case((calls.replayed_from.is_not(None), 1))),
            func.count(case((calls.model_returned.endswith(NOT_AN_LLM), 1))),
            func.count(case((calls.cost_usd.is_(None), 1))),
            func.sum(calls.input_tokens),
            func.sum(calls.output_tokens),
            func.sum(calls.cost_usd),
        ).where(calls.experiment_id == experiment_id)
        with self._connections.reading() as connection:
            return CallTotals(*connection.execute(statement).one())

    def usage(self, experiment_id: str) -> list[tuple[str | None, str, int | None, int | None, int | None]]:
        """Return model, endpoint and the sums of input, output and cached tokens, by model and endpoint."""
        calls = schema.calls.c
        model = func.coalesce(calls.model_returned, calls.model_requested)
        sums = (func.sum(calls.input_tokens), func.sum(calls.output_tokens), func.sum(calls.cached_tokens))
        statement = (
            select(model, calls.endpoint, *sums)
            .where(calls.experiment_id == experiment_id, calls.status != "running")
            .group_by(model, calls.endpoint)
        )
        with self._connections.reading() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    def crash_open_runs(self, experiment_id: str) -> int:
        """Turn the runs still running into crashed ones, and return how many there were."""
        runs = schema.experiment_runs
        statement = (
            update(runs)
            .where(runs.c.experiment_id == experiment_id, runs.c.status == "running")
            .values(status="crashed", error=func.coalesce(runs.c.error, _CRASHED))
        )
        with self._connections.writing() as connection:
            return connection.execute(statement).rowcount

    def _read(
        self,
        kind: type[R],
        *where: ColumnElement[bool],
        order: Sequence[ColumnElement[Any]] = (),
        limit: int | None = None,
    ) -> list[R]:
        decoder = RecordDecoder(kind)
        statement = decoder.select().where(*where).order_by(*order).limit(limit)
        records: list[R] = []
        with self._connections.reading() as connection:
            for rows in connection.execute(statement).partitions(_CHUNK):
                records += decoder.records(rows)
        return records

    def _named(self, name: str) -> list[Experiment]:
        """Return the finished experiments of a name, newest first; if none finished, all of that name."""
        rows = schema.experiments.c
        found = self._read(Experiment, rows.name == self._text(name), order=[rows.id.desc()])
        return [experiment for experiment in found if experiment.status == "finished"] or found

    def _unknown(self, ref: str) -> str:
        rows = schema.experiments.c
        statement = select(rows.name).group_by(rows.name).order_by(func.max(rows.id).desc())
        with self._connections.reading() as connection:
            names = [decode_text(name) for name in connection.execute(statement).scalars()]
        close = difflib.get_close_matches(ref, names, n=5, cutoff=0.5) or names[:5]
        known = f"did you mean {', '.join(map(repr, close))}?" if close else "the store holds no experiment yet"
        return f"no experiment has the id or name {ref!r}: {known}"

    def _text(self, text: str) -> str:
        """Return text as its column holds it."""
        return encode_text(text if self._redact is None else self._redact(text))


def _of_runs(run_id: ColumnElement[Any], experiment_id: str) -> ColumnElement[bool]:
    runs = schema.experiment_runs.c
    return run_id.in_(select(runs.id).where(runs.experiment_id == experiment_id))


def _of_run(column: ColumnElement[Any], run_id: str | None, unattributed: bool = False) -> list[ColumnElement[bool]]:
    if unattributed:
        return [column.is_(None)]
    return [] if run_id is None else [column == run_id]
