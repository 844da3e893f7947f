"""The one small interface to what is recorded: writes of a recording process, reads of everyone else.

Opens nothing itself (see opening.py). A Store may be shared by threads, and used on after a fork.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, ColumnElement, Engine, bindparam, case, delete, func, select, update

from pytest_llmexp.core.errors import StoreError
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
from pytest_llmexp.core.spending import Spending
from pytest_llmexp.core.summary import Evidence, MetricValue, RunOutcome
from pytest_llmexp.store import schema
from pytest_llmexp.store.codec import Redact, decode_text, encode_text
from pytest_llmexp.store.connections import Connections
from pytest_llmexp.store.evidence import read_evidence, read_outcomes, read_values_by_run
from pytest_llmexp.store.lock import FileLock
from pytest_llmexp.store.naming import find_experiment
from pytest_llmexp.store.records import RecordDecoder, RecordEncoder
from pytest_llmexp.store.usage import (
    CallTotals,
    ModelUsage,
    UnpricedCall,
    UsageByTest,
    read_spending,
    read_test_usage,
    read_usage,
)

R = TypeVar("R", bound=Record)
NOT_AN_LLM = "(not an LLM)"  # how the built-in server signs its answers
_CRASHED = "the process that ran this ended before the run did"
_CHUNK = 10_000  # rows turned into records at a time
_TOTALS = ("latency_s", "input_tokens", "output_tokens", "cost_usd")
_END = "\U0010ffff"  # sorts after whatever an id begins with


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
        return find_experiment(self, ref)

    def experiment_of_id(self, experiment_id: str) -> Experiment | None:
        """Return the experiment with exactly this id."""
        found = self._read(Experiment, schema.experiments.c.id == encode_text(experiment_id))
        return found[0] if found else None

    def experiments_named(self, name: str) -> list[Experiment]:
        """Return the experiments of a name, newest first."""
        rows = schema.experiments.c
        return self._read(Experiment, rows.name == self._text(name), order=[rows.id.desc()])

    def names(self) -> list[str]:
        """Return the names of the experiments, the one used last first."""
        rows = schema.experiments.c
        statement = select(rows.name).group_by(rows.name).order_by(func.max(rows.id).desc())
        with self._connections.reading() as connection:
            return [decode_text(name) for name in connection.execute(statement).scalars()]

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

    def call(self, call_id: str) -> Call:
        """Return the call with this id. Raises StoreError."""
        found = self._read(Call, schema.calls.c.id == encode_text(call_id))
        if not found:
            raise StoreError(f"no call has the id {call_id!r}")
        return found[0]

    def looking_up(self) -> AbstractContextManager[sqlite3.Connection]:
        """Return the driver's connection for the body of a with statement: for reads of a few rows, one at a time."""
        return self._connections.looking_up()

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

    def outcomes(self, experiment_id: str) -> list[RunOutcome]:
        """Return how the runs of an experiment ended, in the order they were begun."""
        with self._connections.driver() as connection:
            return read_outcomes(connection, encode_text(experiment_id))

    def forget_conclusions(self, experiment_id: str) -> None:
        """Remove the summaries and verdicts of an experiment that goes on."""
        with self._connections.writing() as connection:
            for table in (schema.summaries, schema.verdicts):
                connection.execute(delete(table).where(table.c.experiment_id == encode_text(experiment_id)))

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
        """Return what the generation calls of each run added up to; a sum is None if any of its calls did not say.

        Nor is there a cost where a call was replayed, which took no time and was paid for elsewhere.
        """
        calls = schema.calls.c
        told = {name: func.count(calls[name]) == func.count() for name in _TOTALS}
        told["cost_usd"] &= told["latency_s"]
        sums = [case((told[name], func.sum(calls[name]))) for name in _TOTALS]
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
            func.sum(calls.wait_s),
        ).where(calls.experiment_id == experiment_id)
        with self._connections.reading() as connection:
            return CallTotals(*connection.execute(statement).one())

    def usage(self, experiment_id: str) -> list[ModelUsage]:
        """Return the sums of tokens by model and endpoint."""
        with self._connections.reading() as connection:
            return read_usage(connection, experiment_id)

    def spending(self, experiment_id: str) -> Spending:
        """Return what the calls that have ended used up; a replayed call uses nothing."""
        with self._connections.reading() as connection:
            return read_spending(connection, experiment_id)

    def test_usage(self, experiment_id: str) -> UsageByTest:
        """Return how many runs of each test passed or failed, and what these used up, by test and model."""
        with self._connections.reading() as connection:
            return read_test_usage(connection, experiment_id)

    def crash_open_runs(self, experiment_id: str, why: str = _CRASHED, *, but_of: Collection[str] = ()) -> int:
        """Turn the runs still running, but those of some workers, into crashed ones; return how many there were."""
        runs = schema.experiment_runs
        statement = (
            update(runs)
            .where(runs.c.experiment_id == experiment_id, runs.c.status == "running", runs.c.worker.not_in(but_of))
            .values(status="crashed", error=func.coalesce(runs.c.error, why))
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
