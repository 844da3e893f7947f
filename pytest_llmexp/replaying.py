"""Puts replay together: which sources of recorded answers there are, from an option's text. Floor 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pytest_llmexp.core.errors import ConfigurationError, StoreError
from pytest_llmexp.core.models import ReplayMode
from pytest_llmexp.store import Store, StoredAnswers
from pytest_llmexp.tracking.replay import Answers, Replay
from pytest_llmexp.tracking.replay_files import SUFFIX, FileAnswers, find_replay_files


class ReplayFrom(NamedTuple):
    """Whether recorded answers may be served or must be, and which: `place` is as given by the user.

    `place` is a replay file, a folder of them, or an experiment of the store; None is the whole store.
    """

    mode: ReplayMode
    place: str | None = None


def make_replay(
    chosen: ReplayFrom | None, store: Store, recording: str, redact: Callable[[str], str], *, resumed: bool = False
) -> Replay:
    """Return what serves recorded answers to the experiment `recording`, whose store this is.

    One that is `resumed` is served what it has paid for before anything else.

    Raises ConfigurationError where the place does not exist or cannot be read.
    """
    sources: list[Answers] = [StoredAnswers(store, "", recording)] if resumed else []
    if chosen is None:
        return Replay("auto", sources, redact)
    return Replay(chosen.mode, [*sources, _source(chosen.place, store, recording)], redact)


def _source(place: str | None, store: Store, recording: str) -> Answers:
    if place is None:
        return StoredAnswers(store, recording)
    path = Path(place)
    if place.endswith(SUFFIX) or path.is_dir():
        return FileAnswers(find_replay_files(path))
    try:
        return StoredAnswers(store, recording, store.experiment(place).id)
    except StoreError as error:
        raise ConfigurationError(
            f"--experiment-replay-from is {place!r}: no *{SUFFIX} file, no folder, and {error}"
        ) from None
