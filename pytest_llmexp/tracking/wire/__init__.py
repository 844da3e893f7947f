"""Reads requests, responses and streams of model servers: which are calls, which model, how many tokens.

Pure functions of JSON and bytes, standard library and core only; whatever a server says, they do not raise. One
module per wire family, listed in `families`; what belongs to none is kept as it is. Framings of streams are
`sse`, `ndjson` and `eventstream`, which know no family.
"""

from pytest_llmexp.tracking.wire.answers import read_response
from pytest_llmexp.tracking.wire.counts import NO_USAGE, Answered
from pytest_llmexp.tracking.wire.requests import requested_model, requested_temperature
from pytest_llmexp.tracking.wire.streamed import (
    BROKE_OFF,
    NO_EVENT,
    Streamed,
    is_stream,
    may_end_with,
    read_stream,
    restore_stream,
)

__all__ = [
    "BROKE_OFF",
    "NO_EVENT",
    "NO_USAGE",
    "Answered",
    "Streamed",
    "is_stream",
    "may_end_with",
    "read_response",
    "read_stream",
    "requested_model",
    "requested_temperature",
    "restore_stream",
]
