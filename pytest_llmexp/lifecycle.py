"""The two ends of an experiment, for the process that starts it: `begin` and `finish`. Floor 2, no pytest."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pytest_llmexp.core import models
from pytest_llmexp.core.clock import utc_now
from pytest_llmexp.core.gates import Gate, judge
from pytest_llmexp.core.ids import new_id
from pytest_llmexp.core.spending import Limits, Spending
from pytest_llmexp.core.summary import AnyRun, RunOutcome, Sample, collect_samples, distinct_runs, summarise
from pytest_llmexp.provenance import read_branch, read_provenance
from pytest_llmexp.store import Store
from pytest_llmexp.tracking.pricing import NO_PRICES, Prices, price_of
from pytest_llmexp.tracking.sources import ModelSource

DEFAULT_NAME = "default"
DEFAULT_FILE = "message_log.db"


def default_name(folder: Path) -> str:
    """Return the name of an experiment that nobody named: the git branch, or `default`."""
    return read_branch(folder) or DEFAULT_NAME


def begin(
    store: Store,
    name: str,
    *,
    source: ModelSource,
    folder: Path,
    experiment_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    command: Sequence[str] | None = None,
) -> models.Experiment:
    """Record that an experiment starts and return it."""
    seen = read_provenance(folder, command)
    experiment = models.Experiment(
        id=experiment_id or new_id("exp"),
        name=name,
        started_at=utc_now(),
        git_commit=seen.git.commit,
        git_branch=seen.git.branch,
        git_dirty=seen.git.dirty,
        command=seen.command,
        python_version=seen.python_version,
        platform=seen.platform,
        packages=seen.packages,
        user=seen.user,
        tags=dict(tags or {}),
        metadata={**(metadata or {}), "process": _this_process()},
        model_source=source.label,
    )
    abandoned = [each for each in store.running_experiments() if is_abandoned(each)]
    store.write([experiment, *(replace(each, status="interrupted") for each in abandoned)])
    return experiment


def reopen(
    store: Store,
    experiment: models.Experiment,
    *,
    folder: Path,
    metadata: Mapping[str, Any],
    prices: Prices | None = None,
    command: Sequence[str] | None = None,
) -> models.Experiment:
    """Record that an experiment goes on that was begun before, and return it.

    Runs that were left open are crashed, and what it came to so far is forgotten: `finish` says it anew. How it went
    on is kept in the metadata, as a list `resumed`. With `prices` what it has cost is known at once.
    """
    seen = read_provenance(folder, command)
    store.crash_open_runs(experiment.id)
    store.forget_conclusions(experiment.id)
    if prices is not None:
        _price(store, experiment.id, prices)
    known = {key: part for key, part in experiment.metadata.items() if key not in _STOPS}
    earlier = known.get("resumed") or []
    this = {"at": utc_now(), "command": seen.command, "git_commit": seen.git.commit}
    going_on = replace(
        experiment,
        status="running",
        finished_at=None,
        exit_status=None,
        metadata={**known, **metadata, "process": _this_process(), "resumed": [*earlier, this]},
    )
    store.write([going_on])
    return going_on


def _this_process() -> dict[str, Any]:
    return {"host": platform.node(), "pid": os.getpid()}


def is_abandoned(experiment: models.Experiment) -> bool:
    """Say whether an experiment that was never finished has lost the process that began it, on this machine."""
    process = experiment.metadata.get("process") or {}
    if experiment.status != "running" or process.get("host") != platform.node():
        return False
    if os.name == "nt":  # os.kill would end the process that it is asked about
        return False
    try:
        os.kill(int(process["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError):  # it is somebody else's, or cannot be asked for
        return False
    return False


def as_it_stands(experiment: models.Experiment) -> models.Experiment:
    """Return an experiment as `interrupted` if its process is gone: that one could not say so."""
    return replace(experiment, status="interrupted") if is_abandoned(experiment) else experiment


class Spent(NamedTuple):
    """What the calls of an experiment came to; `cost_usd` is None where a price is not known."""

    tokens: int
    cost_usd: float | None


def spent_so_far(store: Store, experiment_id: str, prices: Prices = NO_PRICES) -> Spent:
    """Return the tokens and, from the sums of each model's tokens, the cost of the calls that have returned."""
    tokens, costs = 0, []
    for used in store.usage(experiment_id):
        tokens += (used.input_tokens or 0) + (used.output_tokens or 0)
        price = price_of(used, prices)
        costs.append(price and price.cost_usd)
    known = [cost for cost in costs if cost is not None]
    return Spent(tokens, sum(known) if costs and len(known) == len(costs) else None)


class LimitStop(NamedTuple):
    """A spending limit refused a call or a run; `trouble` says why it could not be checked, if that was it."""

    limits: Limits
    trouble: str | None = None


class ProviderStop(NamedTuple):
    """A call or a run was refused because a provider failed so many runs in a row; `last` is the last error."""

    address: str
    failed: int
    last: str


Stop = LimitStop | ProviderStop
_STOPS = {"spending_stop": "spending limit reached", "provider_stop": "provider down"}


def read_stop(told: Sequence[Mapping[str, Any]], limits: Limits) -> Stop | None:
    """Return what ended the calls, from what each process said of it; a limit before a provider.

    Of a store that cannot be written the lost records tell.
    """
    limited = [each["trouble"] for each in told if each["kind"] == "spending"]
    if limited:
        return LimitStop(limits, next(filter(None, limited), None))
    down = next((each for each in told if each["kind"] == "provider"), None)
    return None if down is None else ProviderStop(down["address"], down["failed"], down["last"])


class Outcome(NamedTuple):
    """What an experiment came to."""

    experiment: models.Experiment
    summaries: list[models.Summary]
    verdicts: list[models.Verdict]


def finish(
    store: Store,
    experiment: models.Experiment,
    gates: Mapping[str, Sequence[Gate]],
    *,
    everywhere: Sequence[Gate] = (),
    planned: Mapping[tuple[str, str], int] | None = None,
    partial: Mapping[str, int] | None = None,
    problems: Sequence[str] = (),
    prices: Prices = NO_PRICES,
    stop: Stop | None = None,
    limited: int = 0,
    interrupted: bool = False,
) -> Outcome:
    """Price the calls, summarise every metric, judge the gates and store it all.

    `gates` maps a test to its gates, `everywhere` holds gates for every test that has their metric, `planned`
    maps a test and a case to the number of runs they should have: what is not there counts as missing. The gates
    of a test in `partial`, which maps it to the number of its runs, are undecided: only some were selected. Runs that
    no process finished become `crashed`. An interrupted experiment's gates are not judged. Where `problems` says
    that records are missing from the store, no gate passes. `prices` win over the known ones. A `stop` that left
    runs out makes the experiment interrupted, and every gate undecided. `limited` answers said 429.
    """
    store.crash_open_runs(experiment.id)
    _price(store, experiment.id, prices)
    runs, metrics = store.evidence(experiment.id)
    absent = absent_runs(runs, planned or {})
    totals = store.run_totals(experiment.id)
    samples = collect_samples([*runs, *absent], metrics, totals)
    stopped = stop and _stopped(stop, store.spending(experiment.id), [*runs, *absent], {each.run_id for each in totals})
    summaries = summarise(experiment.id, samples)
    judged = {} if interrupted and not stopped else _with_session_gates(gates, everywhere, samples)
    verdicts = judge(experiment.id, judged, samples)
    verdicts = [_of_selection(verdict, (partial or {}).get(verdict.test)) for verdict in verdicts]
    if problems:
        verdicts = [_doubt(verdict, len(problems)) for verdict in verdicts]
    if stopped:
        verdicts = [_of_stopped(verdict, next(iter(stopped))) for verdict in verdicts]
    ended = replace(
        experiment,
        status="interrupted" if interrupted or stopped else "finished",
        finished_at=utc_now(),
        metadata={
            **experiment.metadata,
            **({"problems": list(problems)} if problems else {}),
            **({"limited": limited} if (limited := limited + experiment.metadata.get("limited", 0)) else {}),
            **(stopped or {}),
        },
    )
    store.write([ended, *summaries, *verdicts])
    return Outcome(ended, summaries, verdicts)


def _stopped(
    stop: Stop, spent: Spending, runs: Sequence[AnyRun], callers: Collection[str]
) -> dict[str, dict[str, Any]] | None:
    """Return what is kept of a stop, as `core.spending.early_end` shows it; None if every run had ended anyway."""
    runs = distinct_runs(runs)
    left = [run for run in runs if run.status == "crashed"]
    if not left:
        return None
    cut = sum(run.id in callers for run in left)
    reached = {"done": len(runs) - len(left), "cut": cut, "planned": len(runs)}
    if isinstance(stop, ProviderStop):
        return {"provider_stop": {**stop._asdict(), **reached}}
    used = {"cost_usd": spent.cost_usd, "tokens": spent.tokens}
    return {"spending_stop": {"why": stop.trouble, "limit": list(stop.limits), **used, **reached}}


def absent_runs(runs: Iterable[AnyRun], planned: Mapping[tuple[str, str], int]) -> list[RunOutcome]:
    """Return a stand-in, as crashed, for every planned run that nobody began, so that it counts as missing."""
    if not planned:
        return []
    begun = Counter((run.test, run.case_id) for run in distinct_runs(runs))
    return [
        RunOutcome(id="", test=test, case_id=case_id, run_index=-index, status="crashed")
        for (test, case_id), count in planned.items()
        for index in range(1, count - begun[test, case_id] + 1)
    ]


def _with_session_gates(
    gates: Mapping[str, Sequence[Gate]], everywhere: Sequence[Gate], samples: Sequence[Sample]
) -> dict[str, list[Gate]]:
    """Add the session's gates to the tests they are about.

    A test whose runs all passed without recording a gate's metric is not about it, if another test is. In any
    other case the gate is added, and then undecided where the metric is not there.
    """
    recorded = {(sample.test, sample.metric) for sample in samples}
    clean = {
        sample.test
        for sample in samples
        if sample.metric == "pass_rate" and not sample.missing and all(value == 1 for value in sample.values)
    }
    known = {metric for _, metric in recorded}
    return {
        test: [
            *own,
            *(
                gate
                for gate in everywhere
                if gate not in own
                and ((test, gate.metric) in recorded or gate.metric not in known or test not in clean)
            ),
        ]
        for test, own in gates.items()
    }


def _of_selection(verdict: models.Verdict, runs: int | None) -> models.Verdict:
    if runs is None:
        return verdict
    detail = f"{verdict.detail}; undecided because only a part of the {runs} runs was selected"
    return replace(verdict, verdict="undecided", detail=detail)


def _of_stopped(verdict: models.Verdict, stop: str) -> models.Verdict:
    detail = f"{_STOPS[stop]}, so not all runs were made ({verdict.detail})"
    return replace(verdict, verdict="undecided", detail=detail)


def _doubt(verdict: models.Verdict, problems: int) -> models.Verdict:
    if verdict.verdict != "passed":
        return verdict
    detail = f"{verdict.detail}; undecided because {problems} record(s) could not be stored"
    return replace(verdict, verdict="undecided", detail=detail)


def _price(store: Store, experiment_id: str, prices: Prices) -> None:
    priced = []
    for call in store.unpriced_calls(experiment_id):
        price = price_of(call, prices)
        if price is not None:
            priced.append((call.id, price.cost_usd, price.source))
    if priced:
        store.set_costs(priced)
