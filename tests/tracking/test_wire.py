"""Reading what servers say: usage, models and streams of any shape, without ever raising."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp.core.models import Usage
from pytest_llmexp.tracking import wire

KEYS = st.sampled_from(
    ["object", "choices", "delta", "index", "tool_calls", "function", "content", "usage", "error", "type", "response"]
)
TEXTS = st.sampled_from(["chat.completion.chunk", "response.completed", "response.created", "x", "", "[DONE]"])
ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


def join(text: str) -> tuple[Any, str | None]:
    response, problem, _ = wire.read_stream("text/event-stream", text.encode())
    return response, problem


def stream(*events: Any, end: str = "data: [DONE]\n\n") -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + end


def chunk(delta: Any = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": None, **fields}
    return {"object": "chat.completion.chunk", "id": "c", "model": "m", "choices": [choice]}


@given(st.lists(ANY_JSON, max_size=6), st.booleans())
def test_no_stream_makes_it_raise(events: list[Any], chat: bool) -> None:
    first = [{"object": "chat.completion.chunk"}] if chat else []
    response, problem = join(stream(*first, *events, end=""))
    json.dumps(response)
    assert problem is None or problem
    wire.read_response(response)


@given(st.text(max_size=200))
def test_no_text_makes_it_raise(text: str) -> None:
    join(text)
    join(f"data: {text}\n\ndata: {text}")


@given(ANY_JSON)
def test_no_body_makes_it_raise(body: Any) -> None:
    wire.read_response(body)
    wire.requested_model("/v1/chat/completions", body)


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4)),
        ({"input_tokens": 3, "output_tokens": 0}, Usage(3, 0)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}, Usage(3, None, 2)),
        ({"output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 2}}, Usage(None, 3, reasoning_tokens=2)),
        ({"prompt_tokens": True, "completion_tokens": -1}, Usage()),
        ({"prompt_tokens": "3", "completion_tokens": 2**63}, Usage()),
        ({"prompt_tokens": 3, "prompt_tokens_details": None}, Usage(3)),
        (None, Usage()),
        ([], Usage()),
    ],
)
def test_tokens_are_read_or_unknown(usage: Any, read: Usage) -> None:
    assert wire.read_response({"model": "m", "usage": usage}) == ("m", read, None)


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        ("/v1/chat/completions", {"model": "m", "messages": []}, "m"),
        ("/v1/responses", {"model": "m", "input": "x"}, "m"),
        ("/v1/embeddings", {"model": "m", "input": ["x"]}, "m"),
        ("/v1/messages", {"model": "claude", "messages": []}, "claude"),
        ("/v1beta/models/gemini-3-pro:generateContent", {"contents": []}, "gemini-3-pro"),
        ("/v1beta/files", {"contents": []}, None),
        ("/v1/files", {"model": "m"}, None),
        ("/v1/chat/completions", [], None),
        ("/v1/chat/completions", None, None),
    ],
)
def test_a_call_names_a_model_and_carries_something_for_it(path: str, body: Any, model: str | None) -> None:
    assert wire.requested_model(path, body) == model


def test_deltas_add_up() -> None:
    response, problem = join(
        stream(
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "one "}, logprobs={"content": [{"token": "one"}], "refusal": None}),
            chunk({"content": "two", "role": "assistant"}, logprobs={"content": [{"token": "two"}]}),
            chunk({"reasoning_content": "hm"}),
            chunk({}, finish_reason="stop"),
            {"object": "chat.completion.chunk", "id": "c", "model": "m", "choices": [], "usage": {"prompt_tokens": 1}},
        )
    )
    assert problem is None
    assert response == {
        "object": "chat.completion",
        "id": "c",
        "model": "m",
        "usage": {"prompt_tokens": 1},
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "one two", "reasoning_content": "hm"},
                "finish_reason": "stop",
                "logprobs": {"content": [{"token": "one"}, {"token": "two"}], "refusal": None},
            }
        ],
    }


def test_choices_and_tool_calls_are_told_apart_by_index() -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "id": f"id{index}", "function": function}]}

    response, _ = join(
        stream(
            chunk(call(1, name="b", arguments='{"y"')),
            chunk(call(0, name="a", arguments="{}")),
            chunk(call(1, arguments=": 1}")),
            chunk({"content": "other"}, index=1),
        )
    )
    first, second = response["choices"]
    assert [(tool["id"], tool["function"]) for tool in first["message"]["tool_calls"]] == [
        ("id0", {"name": "a", "arguments": "{}"}),
        ("id1", {"name": "b", "arguments": '{"y": 1}'}),
    ]
    assert second["message"]["content"] == "other"


def test_an_index_out_of_all_bounds_costs_nothing() -> None:
    part = {"index": 10**12, "function": {"name": "a"}}
    response, _ = join(stream(chunk({"tool_calls": [part]})))
    assert len(response["choices"][0]["message"]["tool_calls"]) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (stream(chunk({"content": "x"}), end=""), wire.BROKE_OFF),
        (stream(chunk({"content": "data: [DONE]"}), end=""), wire.BROKE_OFF),
        (stream(chunk({"content": "x"})), None),
        (stream(chunk({"content": "x"}, finish_reason="stop"), end=""), None),
        (stream(chunk({}), {"error": {"message": "overloaded"}}), "the stream ended with an error: overloaded"),
        (stream({"type": "response.created", "response": {}}, end=""), wire.BROKE_OFF),
        (stream({"type": "response.completed", "response": {}}, end=""), None),
        (stream({"type": "response.failed", "response": {}}, end=""), "the response failed"),
        (stream({"type": "stopped"}, end=""), None),
        (stream(), wire.NO_EVENT),
        ("", wire.NO_EVENT),
        (": ping\n\n", wire.NO_EVENT),
    ],
)
def test_what_is_wrong_with_a_stream_is_said(text: str, problem: str | None) -> None:
    assert join(text)[1] == problem
    for line_end in ("\r\n", "\r"):
        assert join(text.replace("\n", line_end)) == join(text)


def test_a_stream_of_an_unknown_family_is_kept_as_it_is() -> None:
    events = [{"type": "started"}, {"type": "stopped"}]
    assert join(stream(*events, end="")) == ({"events": events}, None)
