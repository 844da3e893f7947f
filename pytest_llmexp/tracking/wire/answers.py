"""What a response says of itself, whichever family it is of."""

from __future__ import annotations

from pytest_llmexp.core.models import Json
from pytest_llmexp.tracking.wire import gemini
from pytest_llmexp.tracking.wire.counts import NO_USAGE, Answered
from pytest_llmexp.tracking.wire.families import FAMILIES
from pytest_llmexp.tracking.wire.shapes import dicts


def read_response(body: Json) -> Answered:
    """Return the model that answered, the tokens it counted and why it ended; None where it does not say.

    A list is what Gemini streams to clients that did not ask for events.
    """
    if isinstance(body, list) and any(gemini.FAMILY.answers(chunk) for chunk in dicts(body)):
        body = gemini.join_chunks(dicts(body))
    if not isinstance(body, dict):
        return Answered(None, NO_USAGE, None)
    return next(family.read(body) for family in FAMILIES if family.answers(body))
