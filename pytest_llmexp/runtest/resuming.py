"""Going on with an experiment that was begun before: which one, whether it may, and which of its runs are left."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_llmexp.core.errors import StoreError, UnknownExperimentError
from pytest_llmexp.core.ids import short_hash
from pytest_llmexp.core.models import Experiment, PromptVersion
from pytest_llmexp.lifecycle import is_abandoned
from pytest_llmexp.provenance import file_hash, read_git
from pytest_llmexp.runtest.collection import RunPlan, plan_key
from pytest_llmexp.runtest.plans import AnyPlan
from pytest_llmexp.store import Store, open_store
from pytest_llmexp.tracking.sources import LOCAL_LABEL, ModelSource

_KEPT = ("passed", "failed")
_ANYWAY = "--experiment-resume-anyway goes on all the same"


class Resumed(NamedTuple):
    """An experiment that goes on. Of its runs those count that were begun until now: every worker sees the same."""

    experiment_id: str
    name: str
    until: str  # the id of its last run


def find_resumed(db: str, ref: str, name: str | None, *, anyway: bool) -> Resumed:
    """Return the experiment to go on with.

    Args:
        db: The store.
        ref: A name or an id as the user gave it; empty for the latest experiment, of that name if there is one.
        name: The name that the user gave this session.
        anyway: Whether to take one that may still be recorded, on another machine.

    Raises pytest.UsageError where there is none, or where it cannot go on.
    """
    try:
        with open_store(db, read_only=True) as store:
            experiment = _chosen(store, db, ref or name)
            runs = store.outcomes(experiment.id)
    except StoreError as error:
        hint = "; paths come first: pytest PATH --experiment-resume=NAME" if ref and Path(ref).exists() else ""
        raise pytest.UsageError(f"--experiment-resume: {error}{hint}") from None
    if name is not None and name != experiment.name:
        raise pytest.UsageError(
            f"--experiment-resume={ref} is the experiment {experiment.name!r}, which keeps its name: "
            f"leave --experiment-name={name} out"
        )
    if not ref and experiment.status == "finished":
        raise pytest.UsageError(
            f"--experiment-resume: the latest experiment is {experiment.name!r} ({experiment.id}), which is finished; "
            f"--experiment-resume={experiment.name} executes what failed with an error again, or adds runs "
            "(--experiment-runs)"
        )
    _check_not_running(experiment, anyway)
    return Resumed(experiment.id, experiment.name, runs[-1].id if runs else "")


def _chosen(store: Store, db: str, ref: str | None) -> Experiment:
    """Return the newest experiment, of this name if there is one, whatever became of it."""
    named = store.experiments(limit=1) if ref is None else store.experiments_named(ref)
    if not named and ref is None:
        raise UnknownExperimentError(f"there is no experiment to go on with yet in {db}")
    return named[0] if named else store.experiment(ref or "")


def _check_not_running(experiment: Experiment, anyway: bool) -> None:
    if experiment.status != "running" or is_abandoned(experiment):
        return
    process = experiment.metadata.get("process") or {}
    where = f"process {process.get('pid')} on {process.get('host')}"
    if process.get("host") == platform.node():
        raise pytest.UsageError(f"--experiment-resume: {experiment.id} is still being recorded, by {where}")
    if not anyway:
        raise pytest.UsageError(
            f"--experiment-resume: {experiment.id} was begun by {where} and not ended there; if that process is gone, "
            f"{_ANYWAY}"
        )


class Remainder(NamedTuple):
    """What is left of an experiment: items to execute, those that were kept, and what forbids to go on."""

    items: list[pytest.Item]
    kept: list[pytest.Item]
    problems: list[str]


def find_remainder(
    db: str,
    resumed: Resumed,
    items: Sequence[pytest.Item],
    collected: Mapping[str, int],
    *,
    folder: Path,
    redact: Callable[[str], str],
    source: ModelSource | None,
    anyway: bool,
) -> Remainder:
    """Sort planned items into those whose run has ended and those to execute, and compare tests, prompts and code.

    `collected` says how many runs each test had before some were deselected, `source` where calls go, None if nowhere.
    """
    with open_store(db, read_only=True) as store:
        experiment = store.experiment(resumed.experiment_id)
        ended = {
            (run.test, run.case_id, run.run_index)
            for run in store.outcomes(experiment.id)
            if run.id <= resumed.until and run.status in _KEPT
        }
        versions = store.prompt_versions(experiment.id)
    planned: AnyPlan = experiment.metadata.get("plan") or {}
    plans = [item.stash[plan_key] for item in items if plan_key in item.stash]
    problems = [*_changed_tests(planned, plans, collected, redact), *_changed_prompts(versions)]
    if not anyway:
        problems += _changed_code(experiment, planned, items, folder, redact)
        problems += _changed_model(experiment, source)
    kept = [item for item in items if plan_key in item.stash and _key(item.stash[plan_key]) in ended]
    gone = set(map(id, kept))
    return Remainder([item for item in items if id(item) not in gone], kept, list(problems))


def _key(plan: RunPlan) -> tuple[str, str, int]:
    return plan.test, plan.case_id, plan.run_index


def _changed_tests(
    planned: AnyPlan, plans: Sequence[RunPlan], collected: Mapping[str, int], redact: Callable[[str], str]
) -> Iterator[str]:
    """Tell of tests and cases that were not there, or are there no more, and of runs that are fewer."""
    now: dict[str, set[str]] = {}
    for plan in plans:
        now.setdefault(redact(plan.test), set()).add(redact(plan.case_id))
    whole = {redact(test): count for test, count in collected.items()}
    selected = Counter(redact(plan.test) for plan in plans)
    for test in planned:
        if test not in whole:
            yield (
                f"{test} is part of the experiment, and was not collected: it is gone, or left out by the paths "
                "given or by --lf; select with -k instead"
            )
    for test, cases in now.items():
        if test not in planned:
            yield f"{test} is not part of the experiment; leave it out, or record a new experiment"
            continue
        then = planned[test]["cases"]
        for case in sorted(cases - set(then)):
            yield f"{test}[{case}] is not part of the experiment"
        if selected[test] == whole.get(test):
            for case in sorted(set(then) - cases):
                yield f"{test}[{case}] is part of the experiment, and is not there any more"
    for plan in {plan.test: plan for plan in plans}.values():
        had = max(planned.get(redact(plan.test), {"cases": {}})["cases"].values(), default=0)
        if plan.mark.n < had:
            yield f"{plan.test} has {had} runs of each case already, and now n={plan.mark.n}; --experiment-runs={had}"


def _changed_prompts(versions: Iterable[PromptVersion]) -> Iterator[str]:
    """Compare the versions that were used with the functions of their names, where these can be found."""
    used: dict[str, set[str]] = {}
    for version in versions:
        used.setdefault(version.name, set()).add(version.hash)
    for name, hashes in used.items():
        current = _prompt_version(name)
        if current is not None and current.hash not in hashes:
            then = ", ".join(sorted(map(short_hash, hashes)))
            yield f"the prompt {name} has changed: {then} was used, now it is {short_hash(current.hash)}"


def _prompt_version(name: str) -> PromptVersion | None:
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        if (module := sys.modules.get(".".join(parts[:length]))) is not None:
            found: Any = module
            for part in parts[length:]:
                found = getattr(found, part, None)
            version = getattr(found, "version", None)
            return version if isinstance(version, PromptVersion) else None
    return None


def _changed_code(
    experiment: Experiment,
    planned: AnyPlan,
    items: Sequence[pytest.Item],
    folder: Path,
    redact: Callable[[str], str],
) -> Iterator[str]:
    now = {redact(item.stash[plan_key].test): item.path for item in items if plan_key in item.stash}
    sources = {path: planned.get(test, {}).get("source") for test, path in now.items()}
    modules = experiment.metadata.get("modules") or {}
    changed = {path.name for path, then in sources.items() if then and then != file_hash(path)}
    changed |= {name for name, then in modules.items() if then and then != file_hash(folder / name)}
    for name in sorted(changed):
        yield f"the code of {name} has changed; {_ANYWAY}"
    commit = read_git(folder).commit
    if experiment.git_commit and commit and commit != experiment.git_commit:
        yield f"the commit was {experiment.git_commit[:10]} and is {commit[:10]}; {_ANYWAY}"


def _changed_model(experiment: Experiment, source: ModelSource | None) -> Iterator[str]:
    then, now = experiment.model_source, source.label if source else experiment.model_source
    if then != now and not (then.startswith(LOCAL_LABEL) and now.startswith(LOCAL_LABEL)):
        yield f"the model was {then} and is {now}; {_ANYWAY}"


def leave_out(config: pytest.Config, items: list[pytest.Item], remainder: Remainder) -> None:
    """Execute what is left only, as a deselection that pytest counts."""
    if remainder.kept:
        config.hook.pytest_deselected(items=remainder.kept)
        items[:] = remainder.items
