"""Serves recorded answers instead of calls. Knows core only; where answers are recorded is the sources' affair.

An answer is found by the request, the test, the case, the index of the run, and by how many times the run has asked
the same before: run k gets what run k got, so that one sample never becomes several.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from pytest_llmexp.core.ids import canonical_json
from pytest_llmexp.core.models import Call, Json, ReplayMode, Run
from pytest_llmexp.tracking import wire
from pytest_llmexp.tracking.exchange import Received
from pytest_llmexp.tracking.scope import RunStopped
from pytest_llmexp.tracking.sources import LOCAL_MODEL

_SHOWN = 60  # characters of a difference


class ReplayMissError(RunStopped):
    """No answer is recorded for a request, and no call may be made; or no more of an answer is recorded."""


class Place(NamedTuple):
    """Where a call belongs, the same in every experiment; empty for what belongs to no run."""

    test: str = ""
    case_id: str = ""
    run_index: int = 0

    def __str__(self) -> str:
        if not self.test:
            return "a call outside of any run"
        case = f"{self.case_id}-" if self.case_id else ""
        return f"{self.test}[{case}run{self.run_index}]"


class Answers(Protocol):
    """A source of recorded answers. Both methods return calls whose answers can be served."""

    def find(self, place: Place, request_key: str, nth: int, not_of: str | None) -> Call | None:
        """Return the nth (from 1) call with this request of the place's latest run that has as many.

        The run whose id is `not_of` is left out: it is the one that asks.
        """

    def like(self, place: Place) -> Sequence[Call]:
        """Return some calls that the place, or at least its test, has made, for the words of a miss."""


class Replay:
    """What replays in one process. `redact` makes a request comparable with recorded ones."""

    def __init__(self, mode: ReplayMode, sources: Sequence[Answers], redact: Callable[[str], str]) -> None:
        self.mode = mode
        self._sources = sources
        self._redact = redact

    def find(self, run: Run | None, call: Call, nth: int) -> Call | None:
        """Return the recorded call that answers a call; None if it is to be made. Raises ReplayMissError."""
        __tracebackhide__ = True
        found = self.look_up(run, call.request_key or "", nth)
        if found is None and self.mode == "only":
            raise ReplayMissError(self._miss(place_of(run), call))
        return found

    def look_up(self, run: Run | None, request_key: str, nth: int) -> Call | None:
        """Return the recorded call that answers the nth call with a request in a run, if there is one."""
        place = place_of(run)
        for source in self._sources:
            if (found := source.find(place, request_key, nth, run.id if run else None)) is not None:
                return found
        return None

    def _miss(self, place: Place, call: Call) -> str:
        recorded = [each for source in self._sources for each in source.like(place)]
        request = json.loads(self._redact(canonical_json(call.request)))
        return (
            f"no answer is recorded for call {call.ordinal} of {place}, to {call.model_requested}: "
            f"{_nearest(call, request, recorded)}. --experiment-replay=only makes no call; =auto records it"
        )


def place_of(run: Run | None) -> Place:
    """Return where a run's calls are looked for."""
    return Place(run.test, run.case_id, run.run_index) if run else Place()


def can_be_replayed(run: Run | None, call: Call) -> bool:
    """Say whether a recorded call of a run, or of none, has an answer that can be served.

    A stream that was closed early is served where its client meant it: not of a run that an error ended.
    """
    meant = not call.closed_early or run is None or run.status not in ("error", "crashed", "running")
    return call.status == "ok" and call.response is not None and meant


def recorded_answer(call: Call) -> Received:
    """Return a recorded call's answer as a client can read it."""
    if call.stream is not None:
        return Received(200, *wire.restore_stream(call.stream), complete=not call.closed_early)
    return Received(200, "application/json", json.dumps(call.response).encode())


def stream_closed_early(run: Run | None, call: Call, source: str) -> ReplayMissError:
    """Return what is raised to a client that reads on where the one that was recorded stopped."""
    return ReplayMissError(
        f"call {call.ordinal} of {place_of(run)}, to {call.model_requested}, reads past the end of what is recorded: "
        f"the stream of {source} was closed early by its client at this point, and what came after is not "
        "known. Stop reading where that client did, name an experiment whose client read on with "
        "--experiment-replay-from, or run without --experiment-replay to record the call anew"
    )


def _nearest(call: Call, request: Json, recorded: Sequence[Call]) -> str:
    """Say how the request differs from the most similar recorded one."""
    if not recorded:
        return "no answer is recorded for this test, where calls that failed do not count"
    if any(each.request_key == call.request_key for each in recorded):
        return (
            "the same request is recorded, but not for this run, or not as often; each run is served its own answers, "
            "but for streams that it left before it ended as an error"
        )
    nearest = max(recorded, key=lambda each: _likeness(request, each.request))
    mine, theirs = urlsplit(call.endpoint), urlsplit(nearest.endpoint)
    if mine.path != theirs.path or (mine.netloc != theirs.netloc and call.model_requested != LOCAL_MODEL):
        return f"the nearest one recorded was sent to {nearest.endpoint}, this one is for {call.endpoint}"
    return f"the nearest one recorded differs at {_difference(request, nearest.request)}"


def _likeness(one: Json, other: Json) -> float:
    """Return how many leaves two JSON values share, less how many they do not."""
    mine, theirs = set(_leaves("", one)), set(_leaves("", other))
    return len(mine & theirs) - len(mine ^ theirs) / 2


def _leaves(path: str, value: Json) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in _leaves(f"{path}.{key}" if path else str(key), part)]
    if isinstance(value, list):
        return [leaf for index, part in enumerate(value) for leaf in _leaves(f"{path}[{index}]", part)]
    return [(path, json.dumps(value))]


def _difference(now: Json, then: Json) -> str:
    """Name the first place where two requests differ."""
    mine, theirs = dict(_leaves("", now)), dict(_leaves("", then))
    for path in [*mine, *theirs]:
        if mine.get(path) != theirs.get(path):
            then_said, now_said = theirs.get(path), mine.get(path)
            return f"{path}: recorded {_around(then_said, now_said)}, now {_around(now_said, then_said)}"
    return "nothing that is stored"


def _around(text: str | None, other: str | None) -> str:
    """Return the part of a JSON leaf where it begins to differ from another."""
    if text is None:
        return "nothing"
    same = next((i for i, (a, b) in enumerate(zip(text, other or "", strict=False)) if a != b), 0)
    start = max(0, same - _SHOWN // 3)
    end = start + _SHOWN
    return f"{'...' if start else ''}{text[start:end]}{'...' if end < len(text) else ''}"
