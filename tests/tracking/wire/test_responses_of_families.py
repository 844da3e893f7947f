"""Responses that were not streamed, and what is particular about the streams of one family."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_llmexp.core.models import Usage
from pytest_llmexp.tracking import wire
from tests.tracking.wire import samples
from tests.tracking.wire.samples import ARGUMENTS, SAMPLES, SECRET, SSE, TEXT, chunk, sse

NOTHING = Usage()
CACHED = {"input_tokens": 3, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4, "output_tokens": 5}


def response_of(name: str) -> Any:
    return wire.read_stream(SAMPLES[name].content_type, SAMPLES[name].content).response


@pytest.mark.parametrize(
    ("body", "answered"),
    [
        ({"model": "m", "choices": [{"finish_reason": "length"}]}, ("m", NOTHING, "length")),
        ({"model": "m", "choices": [{"finish_reason": None}]}, ("m", NOTHING, None)),
        ({"model": "m", "choices": []}, ("m", NOTHING, None)),
        (
            {"choices": [], "usage": {"prompt_tokens": 5, "prompt_tokens_details": {"cache_write_tokens": 2}}},
            (None, Usage(5, cache_write_tokens=2), None),
        ),
        ({"choices": [], "usage": {"prompt_tokens": 5, "prompt_cache_hit_tokens": 2}}, (None, Usage(5, None, 2), None)),
        ({"object": "response", "model": "m", "status": "completed"}, ("m", NOTHING, "completed")),
        (
            {"object": "response", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            (None, NOTHING, "max_output_tokens"),
        ),
        ({"object": "response", "status": "incomplete", "incomplete_details": None}, (None, NOTHING, "incomplete")),
        ({"object": "list", "model": "e", "usage": {"prompt_tokens": 2}}, ("e", Usage(2), None)),
        (
            {"type": "message", "model": "c", "stop_reason": "end_turn", "usage": CACHED},
            ("c", Usage(9, 5, 4, 2), "end_turn"),
        ),
        ({"type": "message", "usage": {"input_tokens": 3, "cache_read_input_tokens": None}}, (None, Usage(3), None)),
        (
            {"type": "message", "usage": {"input_tokens": 2**63 - 1, "cache_read_input_tokens": 1}},
            (None, Usage(None, None, 1), None),
        ),
        (
            {
                "modelVersion": "g",
                "candidates": [{"finishReason": "MAX_TOKENS"}],
                "usageMetadata": {"promptTokenCount": 4, "thoughtsTokenCount": 3},
            },
            ("g", Usage(4, 3, reasoning_tokens=3), "MAX_TOKENS"),
        ),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, (None, NOTHING, "SAFETY")),
        ([samples.GEMINI_EVENTS[0], samples.GEMINI_EVENTS[-1]], ("gemini-x", Usage(9, 7, 4, None, 2), "STOP")),
        (
            {"output": {}, "stopReason": "end_turn", "usage": {"inputTokens": 3, "outputTokens": 5}},
            (None, Usage(3, 5), "end_turn"),
        ),
        (
            {"inputTextTokenCount": 3, "results": [{"tokenCount": 5, "completionReason": "FINISH"}]},
            (None, Usage(3, 5), "FINISH"),
        ),
        (
            {"generation": "x", "prompt_token_count": 3, "generation_token_count": 5, "stop_reason": "stop"},
            (None, Usage(3, 5), "stop"),
        ),
        (
            {"model": "l", "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 5},
            ("l", Usage(3, 5), "stop"),
        ),
        ({"model": "l", "embeddings": [[0.1]], "prompt_eval_count": 3}, ("l", Usage(3), None)),
        ({"anything": "else"}, (None, NOTHING, None)),
        ([1], (None, NOTHING, None)),
        ("text", (None, NOTHING, None)),
    ],
)
def test_what_a_response_says_of_itself(body: Any, answered: Any) -> None:
    assert wire.read_response(body) == answered


def test_an_anthropic_stream_adds_up_to_its_message() -> None:
    assert response_of("anthropic") == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-1",
        "content": [
            {"type": "thinking", "thinking": TEXT, "signature": "c2ln"},
            {"type": "text", "text": TEXT},
            {"type": "tool_use", "id": "toolu_1", "name": "save", "input": {"key": SECRET}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": CACHED | {"output_tokens": 7},
    }
    assert response_of("anthropic at bedrock") == response_of("anthropic")


def test_citations_of_an_anthropic_stream_are_a_list() -> None:
    cited = [
        {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {"n": n}}}
        for n in (1, 2)
    ]
    events = [*samples.ANTHROPIC_EVENTS[:-2], *cited, *samples.ANTHROPIC_EVENTS[-2:]]
    response = wire.read_stream(SSE, sse(*events, named=True)).response
    assert response["content"][1] == {"type": "text", "text": TEXT, "citations": [{"n": 1}, {"n": 2}]}


def test_a_converse_stream_adds_up_to_its_response() -> None:
    usage = samples.CONVERSE_EVENTS[-1][1]["usage"]
    assert response_of("converse") == {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": TEXT, "signature": "c2ln"}}},
                    {"text": TEXT},
                    {"toolUse": {"toolUseId": "tooluse_1", "name": "save", "input": {"key": SECRET}}},
                ],
            }
        },
        "stopReason": "tool_use",
        "usage": usage,
        "metrics": {"latencyMs": 12},
    }


def test_a_gemini_stream_adds_up_to_its_response() -> None:
    response = response_of("gemini")
    (candidate,) = response["candidates"]
    assert candidate["content"] == {"role": "model", "parts": [{"text": TEXT, "thought": True}, {"text": TEXT}]}
    assert response["usageMetadata"] == samples.GEMINI_EVENTS[-1]["usageMetadata"]
    assert wire.read_stream(SSE, sse({"promptFeedback": {"blockReason": "SAFETY"}})).problem is None


def test_parts_of_gemini_that_are_no_plain_text_stay_apart() -> None:
    called = {"functionCall": {"name": "save", "args": {}}}
    content = sse(
        samples.gemini_chunk({"text": "a"}),
        samples.gemini_chunk(called),
        samples.gemini_chunk({"text": "b", "thoughtSignature": "s"}),
        samples.gemini_chunk({"text": "c"}, finishReason="STOP"),
    )
    streamed = wire.read_stream(SSE, content)
    parts = [{"text": "a"}, called, {"text": "b", "thoughtSignature": "s"}, {"text": "c"}]
    assert streamed.response["candidates"][0]["content"]["parts"] == parts
    assert len(streamed.record["events"]) == 4


def test_ollama_streams_add_up_to_their_responses() -> None:
    chat, generate = response_of("ollama chat"), response_of("ollama generate")
    called = [{"function": {"name": "save", "arguments": {"key": SECRET}}}]
    assert chat["message"] == {"role": "assistant", "content": TEXT, "thinking": TEXT, "tool_calls": called}
    assert (chat["done"], chat["eval_count"]) == (True, 7)
    assert (generate["response"], generate["context"], generate["done_reason"]) == (TEXT, [1, 2], "stop")


def test_choices_that_take_turns_are_recorded_as_one_event_each() -> None:
    events = [chunk({"content": piece}, index=index) for piece in samples.PIECES for index in (0, 1)]
    streamed = wire.read_stream(SSE, sse(*events, done=True))
    contents = [event["data"]["choices"][0]["delta"]["content"] for event in streamed.record["events"][:-1]]
    assert contents == [TEXT, TEXT]


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (chunk({"content": "a"}), chunk({"content": "b"}, index=1)),
        (chunk({"content": "a"}), chunk({"reasoning_content": "b"})),
        (chunk({"content": "a"}), chunk({}, finish_reason="stop")),
        (chunk({"content": "a"}, finish_reason="stop"), chunk({"content": "b"})),
        (chunk({"content": "a"}), chunk({"content": "b"}) | {"model": "other"}),
        (chunk({"content": "a"}), chunk({"content": "b"}) | {"choices": []}),
        (chunk(samples.tool(function={"arguments": "a"})), chunk(samples.tool(id="x", function={"arguments": "b"}))),
        (
            chunk(samples.tool(function={"arguments": "a"})),
            chunk(samples.tool(function={"arguments": "b", "name": "f"})),
        ),
    ],
)
def test_chunks_that_say_more_than_a_text_stay_apart(first: Any, later: Any) -> None:
    assert len(wire.read_stream(SSE, sse(first, later)).record["events"]) == 2


def test_chunks_of_other_servers_are_recorded_as_one_too() -> None:
    """They repeat the role, send empty lists and nulls, other times, the usage so far, and the end with a text."""
    said: dict[str, Any] = {"role": "assistant", "reasoning_content": None, "tool_calls": [], "annotations": []}
    events = [
        chunk({**said, "content": piece}) | {"created": at, "usage": {"completion_tokens": at}}
        for at, piece in enumerate(samples.PIECES)
    ]
    events[-1]["choices"][0]["finish_reason"] = "stop"
    streamed = wire.read_stream(SSE, sse(*events, chunk() | {"created": 9}))
    assert len(streamed.record["events"]) == 2
    assert streamed.response["created"] == 0
    assert wire.read_response(streamed.response) == ("gpt-x-2026", Usage(None, 4), "stop")
    assert streamed.response["choices"][0]["message"]["content"] == TEXT


def test_logprobs_and_text_completions_grow_with_their_texts() -> None:
    tokens = [{"token": piece, "logprob": -1.0} for piece in samples.PIECES]
    events = [chunk({"content": token["token"]}, logprobs={"content": [token], "refusal": None}) for token in tokens]
    streamed = wire.read_stream(SSE, sse(*events, done=True))
    assert streamed.record["events"][0]["data"]["choices"][0]["logprobs"]["content"] == tokens
    assert streamed.response["choices"][0]["logprobs"]["content"] == tokens
    old = [{"object": "text_completion", "choices": [{"index": 0, "text": piece}]} for piece in samples.PIECES]
    streamed = wire.read_stream(SSE, sse(*old, done=True))
    assert streamed.response["choices"] == [{"index": 0, "finish_reason": None, "text": TEXT}]
    assert len(streamed.record["events"]) == 2


def test_deltas_of_responses_that_take_turns_are_recorded_as_one_each() -> None:
    def delta(kind: str, item: str, text: str) -> dict[str, Any]:
        return {"type": f"response.{kind}.delta", "item_id": item, "output_index": 0, "delta": text}

    events = [
        delta(kind, item, piece)
        for piece in ARGUMENTS
        for kind, item in (("function_call_arguments", "a"), ("function_call_arguments", "b"), ("audio", "c"))
    ]
    record = wire.read_stream(SSE, sse(*events)).record["events"]
    merged = [event["data"]["delta"] for event in record]
    assert merged == ["".join(ARGUMENTS), "".join(ARGUMENTS), *ARGUMENTS]  # base64 stays in pieces


def test_a_character_whose_halves_came_apart_is_whole_again() -> None:
    content = b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n' * 1
    content += b'data: {"choices": [{"delta": {"content": "\\ude00"}}]}\n\ndata: [DONE]\n\n'
    streamed = wire.read_stream(SSE, content)
    assert streamed.response["choices"][0]["message"]["content"] == "\N{GRINNING FACE}"
    assert wire.read_stream(*wire.restore_stream(streamed.record)) == streamed


def test_ids_names_and_the_end_mark_of_events_are_kept() -> None:
    content = b"".join(
        f"id: {at}\nevent: say\ndata: {json.dumps(chunk({'content': piece}))}\n\n".encode()
        for at, piece in enumerate(samples.PIECES)
    )
    record = wire.read_stream(SSE, content + b"data: [DONE]\n\n").record["events"]
    assert [(event.get("id"), event.get("event"), event.get("text")) for event in record] == [
        ("4", "say", None),
        (None, None, "[DONE]"),
    ]


def test_events_of_other_names_or_headers_stay_apart() -> None:
    said = json.dumps(chunk({"content": "a"}))
    named = wire.read_stream(SSE, f"event: one\ndata: {said}\n\nevent: two\ndata: {said}\n\n".encode())
    delta = json.dumps({"contentBlockIndex": 0, "delta": {"text": "a"}}).encode()
    messages = [samples.message(delta, event_type="contentBlockDelta", tag=tag) for tag in ("one", "two")]
    tagged = wire.read_stream(samples.EVENTSTREAM, b"".join(messages))
    assert [len(streamed.record["events"]) for streamed in (named, tagged)] == [2, 2]
