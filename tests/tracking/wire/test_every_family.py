"""What holds for the streams of every family: they add up, end, are stored small, and can be streamed again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp.core.models import Usage
from pytest_llmexp.tracking import wire
from pytest_llmexp.tracking.wire.growth import Event, Merged
from tests.tracking.wire import samples
from tests.tracking.wire.samples import EVENTSTREAM, NDJSON, PIECES, SAMPLES, SECRET, SSE, Sample

EVERY = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())

KEYS = st.sampled_from(
    [
        "object",
        "choices",
        "delta",
        "index",
        "tool_calls",
        "function",
        "arguments",
        "name",
        "content",
        "usage",
        "error",
        "type",
        "response",
        "text",
        "logprobs",
        "message",
        "content_block",
        "partial_json",
        "candidates",
        "parts",
        "thought",
        "usageMetadata",
        "finishReason",
        "finish_reason",
        "done",
        "bytes",
        "p",
        "toolUse",
        "input",
        "contentBlockIndex",
        "item_id",
        "headers",
        "event",
        ":event-type",
        "results",
        "data",
        "chunk",
        "events",
        "id",
        "role",
    ]
)
TEXTS = st.sampled_from(
    [
        "chat.completion.chunk",
        "response.completed",
        "response.output_text.delta",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "text_delta",
        "input_json_delta",
        "message_delta",
        "contentBlockDelta",
        "messageStop",
        "x",
        "[DONE]",
        "error",
    ]
)
ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | TEXTS | st.text(st.characters(), max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
# objects that nearly are an event of a family: a real one with something else in it
REAL = st.sampled_from(
    [
        *samples.CHAT_EVENTS,
        *samples.RESPONSES_EVENTS,
        *samples.ANTHROPIC_EVENTS,
        *samples.GEMINI_EVENTS,
        *samples.OLLAMA_CHAT_EVENTS,
        *samples.OLLAMA_GENERATE_EVENTS,
    ]
)


@st.composite
def nearly_real(draw: st.DrawFn) -> Any:
    event = json.loads(json.dumps(draw(REAL)))
    at = event
    while draw(st.booleans()) and isinstance(at, dict | list) and at:
        key = draw(st.sampled_from(sorted(at))) if isinstance(at, dict) else draw(st.integers(0, len(at) - 1))
        if draw(st.booleans()):
            at[key] = draw(ANY_JSON)
            break
        at = at[key]
    return event


EVENTS = st.lists(REAL | nearly_real() | ANY_JSON, max_size=8)

IGNORED = {"created", "created_at", "obfuscation", "sequence_number", "p"}


def read_again(streamed: wire.Streamed) -> wire.Streamed:
    """What a client that gets the restored stream would be recorded with."""
    return wire.read_stream(*wire.restore_stream(json.loads(json.dumps(streamed.record, allow_nan=False))))


def as_they_are(events: list[Event], *_: Any) -> Merged:
    return Merged(events, [*range(len(events))])


@EVERY
def test_a_stream_says_what_a_response_says(sample: Sample) -> None:
    response, problem, _ = wire.read_stream(sample.content_type, sample.content)
    assert problem is None
    assert wire.read_response(response) == (sample.model, Usage(*sample.tokens), sample.finish_reason)


@EVERY
def test_a_stream_can_be_streamed_again(sample: Sample) -> None:
    streamed = wire.read_stream(sample.content_type, sample.content)
    assert read_again(streamed) == streamed
    content_type, content = wire.restore_stream(json.loads(json.dumps(streamed.record)))
    assert content_type == sample.content_type
    came, again = as_came(content_type, sample.content), as_came(content_type, content)
    assert [texts(event) for event in again] == [texts(event) for event in came]


@EVERY
def test_pieces_of_a_text_are_recorded_as_one_event(sample: Sample) -> None:
    streamed = wire.read_stream(sample.content_type, sample.content)
    assert len(streamed.record["events"]) == sample.recorded
    assert SECRET in json.dumps(streamed.record)
    for piece in PIECES[1:-1]:
        assert f'"{piece}"' not in json.dumps(streamed.record)


@EVERY
def test_the_response_is_that_of_the_events_as_they_came(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    merged = wire.read_stream(sample.content_type, sample.content)
    monkeypatch.setattr("pytest_llmexp.tracking.wire.streamed.merge", as_they_are)
    as_it_came = wire.read_stream(sample.content_type, sample.content)
    assert merged.response == as_it_came.response
    assert len(merged.record["events"]) < len(as_it_came.record["events"])


@given(st.lists(REAL | nearly_real(), max_size=6))
def test_no_events_add_up_to_something_else_when_they_are_merged(events: list[Any]) -> None:
    content = samples.sse(*events)
    merged = wire.read_stream(SSE, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pytest_llmexp.tracking.wire.streamed.merge", as_they_are)
        as_they_came = wire.read_stream(SSE, content)
    assert merged.problem == as_they_came.problem
    if not (isinstance(merged.response, dict) and "events" in merged.response):
        assert merged.response == as_they_came.response


def close_early(sample: Sample, at: int) -> wire.Streamed:
    """Read a stream that its client closed after so many bytes."""
    return wire.read_stream(sample.content_type, sample.content[:at], closed_early=True)


def as_came(content_type: str, content: bytes) -> list[Event]:
    """Return the events of a stream, none put together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pytest_llmexp.tracking.wire.streamed.merge", as_they_are)
        events: list[Event] = wire.read_stream(content_type, content, closed_early=True).record["events"]
    return events


@EVERY
@given(data=st.data())
def test_a_stream_that_is_closed_early_is_restored_piece_by_piece(sample: Sample, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(sample.content)))
    closed = close_early(sample, at)
    assert closed.problem is None
    assert closed.record["closed_early"] is True
    content_type, content = wire.restore_stream(json.loads(json.dumps(closed.record, allow_nan=False)))
    assert wire.read_stream(content_type, content, closed_early=True) == closed
    came, again = as_came(content_type, sample.content[:at]), as_came(content_type, content)
    assert [texts(event) for event in again] == [texts(event) for event in came]


def texts(value: Any) -> Any:
    """Return what an event says, without what its family takes to be of no account."""
    if isinstance(value, dict):
        return {key: texts(part) for key, part in value.items() if key not in IGNORED}
    return [texts(part) for part in value] if isinstance(value, list) else value


@EVERY
def test_no_secret_hides_in_a_seam_of_a_stream_that_is_closed_early(sample: Sample) -> None:
    record = json.dumps(close_early(sample, len(sample.content) - 2).record)
    assert SECRET in record
    for piece in PIECES[1:-1]:
        assert f'"{piece}"' not in record


@given(st.lists(REAL | nearly_real(), max_size=6))
def test_whatever_is_closed_early_can_be_restored(events: list[Any]) -> None:
    content = samples.sse(*events)
    closed = wire.read_stream(SSE, content, closed_early=True)
    restored = wire.restore_stream(json.loads(json.dumps(closed.record, allow_nan=False)))
    assert len(as_came(*restored)) == len(as_came(SSE, content))


@EVERY
def test_a_stream_that_was_cut_broke_off(sample: Sample) -> None:
    cut = sample.content[: len(sample.content) // 2]
    response, problem, record = wire.read_stream(sample.content_type, cut)
    assert problem == wire.BROKE_OFF
    json.dumps([response, record], allow_nan=False)


@EVERY
@given(data=st.data())
def test_a_stream_cut_anywhere_or_damaged_is_read(sample: Sample, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(sample.content)))
    byte = data.draw(st.binary(max_size=2))
    streamed = wire.read_stream(sample.content_type, sample.content[:cut] + byte + sample.content[cut + 1 :])
    wire.read_response(streamed.response)
    again = read_again(streamed)
    assert again.response == streamed.response
    assert len(again.record["events"]) == len(streamed.record["events"])
    assert read_again(again) == again


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        (SSE, samples.sse(samples.CHAT_EVENTS[0], {"error": {"message": "overloaded", "code": 529}})),
        (SSE, samples.sse({"type": "response.created"}, {"type": "error", "code": "x", "message": "overloaded"})),
        (
            SSE,
            samples.sse(
                samples.ANTHROPIC_EVENTS[0],
                {"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}},
                named=True,
            ),
        ),
        (SSE, samples.sse(samples.GEMINI_EVENTS[0], {"error": {"code": 503, "message": "overloaded"}})),
        (SSE, b"event: error\ndata: overloaded\n\n"),
        (NDJSON, samples.ndjson(samples.OLLAMA_CHAT_EVENTS[0], {"error": "overloaded"})),
        (
            EVENTSTREAM,
            samples.converse(samples.CONVERSE_EVENTS[0])
            + samples.message(
                b'{"message": "overloaded"}', exception_type="throttlingException", message_type="exception"
            ),
        ),
        (EVENTSTREAM, samples.message(b"", error_code="500", error_message="overloaded", message_type="error")),
    ],
)
def test_an_error_in_a_stream_is_its_problem(content_type: str, content: bytes) -> None:
    streamed = wire.read_stream(content_type, content)
    assert streamed.problem is not None
    assert streamed.problem.startswith("the stream ended with an error: ")
    assert streamed.problem.endswith("overloaded")
    assert read_again(streamed) == streamed


@pytest.mark.parametrize(
    ("content_type", "stream"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("application/x-ndjson", True),
        ("application/jsonl", True),
        ("application/stream+json", True),
        ("application/vnd.amazon.eventstream", True),
        ("application/json", False),
        ("text/plain", False),
        ("", False),
    ],
)
def test_streams_are_told_by_their_content_type(content_type: str, stream: bool) -> None:
    assert wire.is_stream(content_type) is stream


def test_a_stream_of_an_unknown_family_is_recorded_as_it_came() -> None:
    content = b': hello\nid: 7\nevent: begin\ndata: {"a":\ndata: 1}\n\nretry: 5\ndata:  no JSON\n\ndata: NaN\n\n'
    streamed = wire.read_stream(SSE, content)
    assert streamed.record["events"] == [
        {"id": "7", "event": "begin", "data": {"a": 1}},
        {"retry": "5", "text": " no JSON"},
        {"data": "nan"},
    ]
    assert streamed.response == {"events": [{"a": 1}, " no JSON", "nan"]}
    assert read_again(streamed) == streamed


def test_lines_are_read_without_the_white_space_around_them() -> None:
    streamed = wire.read_stream(NDJSON, b'\xef\xbb\xbf{"a": 1}\r\n\r\n \tno JSON\n{"b": 2}')
    assert streamed.record["events"] == [{"data": {"a": 1}}, {"text": "no JSON"}, {"data": {"b": 2}}]
    assert read_again(streamed) == streamed


@given(st.sampled_from([SSE, NDJSON, EVENTSTREAM, "text/plain"]), EVENTS)
def test_no_events_make_it_raise(content_type: str, events: list[Any]) -> None:
    content = {NDJSON: samples.ndjson, EVENTSTREAM: samples.invoked}.get(content_type, samples.sse)(*events)
    streamed = wire.read_stream(content_type, content)
    json.dumps(streamed, allow_nan=False)
    wire.read_response(streamed.response)
    assert read_again(streamed) == streamed


@given(st.lists(st.tuples(st.sampled_from([name for name, _ in samples.CONVERSE_EVENTS]), ANY_JSON), max_size=5))
def test_no_converse_events_make_it_raise(events: list[tuple[str, Any]]) -> None:
    streamed = wire.read_stream(EVENTSTREAM, samples.converse(*samples.CONVERSE_EVENTS[:5], *events))
    wire.read_response(streamed.response)
    assert read_again(streamed) == streamed


@given(st.sampled_from([SSE, NDJSON, EVENTSTREAM, "", "text/plain"]), st.binary(max_size=300))
def test_no_bytes_make_it_raise(content_type: str, content: bytes) -> None:
    streamed = wire.read_stream(content_type, content)
    assert read_again(streamed).record["events"] == streamed.record["events"]


@given(ANY_JSON, st.sampled_from([SSE, NDJSON, EVENTSTREAM]))
def test_no_record_makes_it_raise(anything: Any, content_type: str) -> None:
    wire.restore_stream(anything)
    wire.restore_stream({"content_type": content_type, "events": anything})
    wire.restore_stream({"content_type": content_type, "events": [{"data": 1}], "pieces": anything, "shapes": anything})
    wire.restore_stream({"content_type": content_type, "events": [], "pieces": [[0, 0, [1]]], "shapes": anything})
    wire.restore_stream({"content_type": content_type, "events": [anything, {"headers": anything, "data": 1}]})


@given(ANY_JSON | nearly_real(), st.sampled_from(["/v1/x", "/model/m/invoke", "/v1/models/m:generateContent", ""]))
def test_no_body_makes_it_raise(body: Any, path: str) -> None:
    wire.read_response(body)
    wire.requested_model(path, body)
    wire.requested_temperature(body)
