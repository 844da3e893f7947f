"""Puts pacing together for one process: what the user allows, and where it sees the other processes. Floor 2."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pytest_llmexp.core.errors import StoreError
from pytest_llmexp.store.lock import FileLock
from pytest_llmexp.tracking.board import Board, LocalBoard, SharedBoard
from pytest_llmexp.tracking.outages import Outages
from pytest_llmexp.tracking.pacer import Pacer
from pytest_llmexp.tracking.pacing import Caps
from pytest_llmexp.tracking.recorder import ExperimentRecorder

GIVE_UP_AFTER = 5


class Pacing(NamedTuple):
    """What an experiment may send, and when it gives a provider up.

    `give_up_after` is a number of runs in a row, 0 is never. `board` is the file that its `workers` processes share,
    None where there is one process and no cap.
    """

    caps: Caps = Caps()
    give_up_after: int = GIVE_UP_AFTER
    board: Path | None = None
    workers: int = 1


def set_pace(recorder: ExperimentRecorder, pacing: Pacing) -> Board:
    """Let a recorder hold calls back, and give providers up, as `pacing` says; return the board, to be closed."""
    board = _board(recorder, pacing.board)
    recorder.pacer = Pacer(pacing.caps, board, workers=pacing.workers)
    if pacing.give_up_after:
        recorder.outages = Outages(board, pacing.give_up_after, recorder.note_problem)
    return board


def _board(recorder: ExperimentRecorder, path: Path | None) -> Board:
    if path is None:
        return LocalBoard()
    try:
        return SharedBoard(path, FileLock(path.with_suffix(".lock")).held)
    except (OSError, StoreError) as error:  # a cap that every process keeps for itself is none
        recorder.note_problem(error)
        return LocalBoard()
