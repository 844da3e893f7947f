"""What a person calls an experiment, and which one that is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Protocol

from pytest_llmexp.core.errors import UnknownExperimentError
from pytest_llmexp.core.models import Experiment


class Experiments(Protocol):
    """What is asked of a store here."""

    def experiment_of_id(self, experiment_id: str) -> Experiment | None: ...
    def experiments_named(self, name: str) -> list[Experiment]: ...
    def names(self) -> list[str]: ...


def find_experiment(store: Experiments, ref: str) -> Experiment:
    """Return the experiment with this id; or the latest finished one of this name, `name~1` the one before it.

    A name of which none has finished means the latest one. Raises UnknownExperimentError.
    """
    if (exact := store.experiment_of_id(ref)) is not None:
        return exact
    named, back = _finished(store.experiments_named(ref)), 0
    if not named and (match := re.fullmatch(r"(.*)~(\d{1,9})", ref, re.DOTALL)):
        named, back = _finished(store.experiments_named(match[1])), int(match[2])
        if back >= len(named) > 0:
            raise UnknownExperimentError(f"{ref!r} goes too far back: {len(named)} named {match[1]!r} are stored")
    if not named:
        raise UnknownExperimentError(_unknown(ref, store.names()))
    return named[back]


def _finished(named: Sequence[Experiment]) -> Sequence[Experiment]:
    """Return those that are finished; if none is, all of them."""
    return [experiment for experiment in named if experiment.status == "finished"] or named


def _unknown(ref: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(ref, names, n=5, cutoff=0.5) or names[:5]
    known = f"did you mean {', '.join(map(repr, close))}?" if close else "the store holds no experiment yet"
    return f"no experiment has the id or name {ref!r}: {known}"
