"""What a wire family knows: its responses, and its streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_llmexp.core.models import Json
from pytest_llmexp.tracking.wire.counts import Answered
from pytest_llmexp.tracking.wire.growth import Event


class Stream(NamedTuple):
    """How a family streams."""

    has: Callable[[Event], bool]  # whether an event is one of this family's
    lane: Callable[[Event], str | None]  # see `growth.merge`
    grown: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any] | None]
    join: Callable[[list[Event]], Json]  # the response that the events add up to
    ended: Callable[[list[Event]], bool]  # whether its end mark came


class Family(NamedTuple):
    """One way to speak with model servers."""

    answers: Callable[[dict[str, Any]], bool]  # whether a response is one of this family's
    read: Callable[[dict[str, Any]], Answered]
    stream: Stream | None = None
