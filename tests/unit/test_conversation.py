"""Who said what, for every wire family. The examples are those of the vendors' references, shortened."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmexp.report.conversation import ToolUse, Turn, read_request, read_response

WEATHER = ToolUse("weather", {"city": "Oslo"})
ASKED = [Turn("system", "Be brief."), Turn("user", "Weather?")]

REQUESTS: dict[str, tuple[Any, list[Turn]]] = {
    "openai chat": (
        {
            "model": "gpt-4o",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Weather?"}, {"type": "image_url", "image_url": {}}],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "rain"},
            ],
        },
        [
            Turn("system", "Be brief."),
            Turn("user", "Weather?\n[image_url]"),
            Turn("assistant", "", (WEATHER,)),
            Turn("tool", "rain"),
        ],
    ),
    "openai completions": ({"model": "x", "prompt": ["Once", "Twice"]}, [Turn("user", "Once"), Turn("user", "Twice")]),
    "openai embeddings": ({"model": "x", "input": ["a", "b"]}, [Turn("user", "a"), Turn("user", "b")]),
    "openai responses, a text": ({"model": "x", "instructions": "Be brief.", "input": "Weather?"}, ASKED),
    "openai responses": (
        {
            "model": "gpt-5",
            "input": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "look it up"}]},
                {"type": "function_call", "call_id": "1", "name": "weather", "arguments": '{"city": "Oslo"}'},
                {"type": "function_call_output", "call_id": "1", "output": '{"sky": "rain"}'},
            ],
        },
        [
            Turn("developer", "Be brief."),
            Turn("user", "Weather?"),
            Turn("assistant", "[thinking] look it up"),
            Turn("assistant", "", (WEATHER,)),
            Turn("tool", '{"sky": "rain"}'),
        ],
    ),
    "anthropic": (
        {
            "model": "claude",
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": "Weather?"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "I look."},
                        {"type": "tool_use", "id": "1", "name": "weather", "input": {"city": "Oslo"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "rain"}]},
                        {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
                    ],
                },
            ],
        },
        [*ASKED, Turn("assistant", "I look.", (WEATHER,)), Turn("user", "rain\n[image]")],
    ),
    "gemini": (
        {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Weather?"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}]},
                {"parts": [{"functionResponse": {"name": "weather", "response": {"sky": "rain"}}}]},
                {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]},
            ],
        },
        [*ASKED, Turn("model", "", (WEATHER,)), Turn("user", '{"sky": "rain"}'), Turn("user", "[inlineData]")],
    ),
    "bedrock": (
        {
            "system": [{"text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [{"text": "Weather?"}]},
                {
                    "role": "assistant",
                    "content": [{"toolUse": {"toolUseId": "1", "name": "weather", "input": {"city": "Oslo"}}}],
                },
                {
                    "role": "user",
                    "content": [{"toolResult": {"toolUseId": "1", "content": [{"json": {"sky": "rain"}}]}}],
                },
            ],
        },
        [*ASKED, Turn("assistant", "", (WEATHER,)), Turn("user", '{"sky": "rain"}')],
    ),
    "ollama chat": (
        {
            "model": "llama3.2",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"}],
        },
        ASKED,
    ),
    "ollama generate": ({"model": "llama3.2", "system": "Be brief.", "prompt": "Weather?"}, ASKED),
    "a span of OpenTelemetry": (
        {
            "system": [{"type": "text", "content": "Be brief."}],
            "messages": [
                {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
                {
                    "role": "assistant",
                    "parts": [
                        {"type": "reasoning", "content": "look it up"},
                        {"type": "tool_call", "id": "1", "name": "weather", "arguments": {"city": "Oslo"}},
                    ],
                },
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "result": "rain"}]},
            ],
        },
        [*ASKED, Turn("assistant", "look it up", (WEATHER,)), Turn("tool", "rain")],
    ),
    "unknown": ({"question": "Weather?"}, []),
    "no object": (["messages"], []),
}

RESPONSES: dict[str, tuple[Any, list[Turn]]] = {
    "openai chat": (
        {"choices": [{"message": {"role": "assistant", "content": "Rain."}}, {"message": {"content": "Sun."}}]},
        [Turn("assistant", "Rain."), Turn("assistant", "Sun.")],
    ),
    "openai chat, a tool": (
        {
            "choices": [
                {"message": {"content": None, "tool_calls": [{"function": {"name": "weather", "arguments": "{bad"}}]}}
            ]
        },
        [Turn("assistant", "", (ToolUse("weather", "{bad"),))],
    ),
    "openai chat, refused": (
        {"choices": [{"message": {"role": "assistant", "content": None, "refusal": "No."}}]},
        [Turn("assistant", "No.")],
    ),
    "openai chat, the old way": (
        {
            "choices": [
                {"message": {"content": None, "function_call": {"name": "weather", "arguments": '{"city": "Oslo"}'}}}
            ]
        },
        [Turn("assistant", "", (WEATHER,))],
    ),
    "a reasoning model": (
        {"choices": [{"message": {"role": "assistant", "reasoning_content": "hm", "content": "Rain."}}]},
        [Turn("assistant", "[thinking] hm\nRain.")],
    ),
    "openai completions": ({"choices": [{"text": " upon a time"}]}, [Turn("assistant", " upon a time")]),
    "openai responses": (
        {
            "output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]},
                {"type": "function_call", "name": "weather", "arguments": '{"city": "Oslo"}'},
                {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            ]
        },
        [
            Turn("assistant", "[thinking]"),
            Turn("assistant", "Rain."),
            Turn("assistant", "", (WEATHER,)),
            Turn("assistant", "[web_search_call]"),
        ],
    ),
    "anthropic": (
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "1", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        [Turn("assistant", "[thinking] hm\nI look.", (WEATHER,))],
    ),
    "gemini": (
        {
            "candidates": [
                {
                    "content": {
                        "role": "model",
                        "parts": [
                            {"text": "hm", "thought": True},
                            {"text": "Rain."},
                            {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}},
                        ],
                    }
                }
            ]
        },
        [Turn("model", "[thinking] hm\nRain.", (WEATHER,))],
    ),
    "bedrock": (
        {"output": {"message": {"role": "assistant", "content": [{"text": "Rain."}]}}, "stopReason": "end_turn"},
        [Turn("assistant", "Rain.")],
    ),
    "ollama chat": (
        {
            "message": {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}],
            },
            "done": True,
        },
        [Turn("assistant", "", (WEATHER,))],
    ),
    "ollama generate": ({"response": "Rain.", "done": True}, [Turn("assistant", "Rain.")]),
    "a span of OpenTelemetry": (
        {"output": [{"role": "assistant", "parts": [{"type": "text", "content": "Rain."}], "finish_reason": "stop"}]},
        [Turn("assistant", "Rain.")],
    ),
    "embeddings": ({"data": [{"embedding": [0.1]}]}, []),
    "an error": ({"error": {"message": "no"}}, []),
    "no object": ("text", []),
}


@pytest.mark.parametrize(("request_body", "turns"), REQUESTS.values(), ids=REQUESTS)
def test_requests(request_body: Any, turns: list[Turn]) -> None:
    assert read_request(request_body) == turns


@pytest.mark.parametrize(("response", "turns"), RESPONSES.values(), ids=RESPONSES)
def test_responses(response: Any, turns: list[Turn]) -> None:
    assert read_response(response) == turns


NAMES = st.sampled_from(
    """messages content role parts text type input output tool_calls function name arguments args choices message
    candidates system contents prompt toolUse toolResult tool_result functionCall functionResponse response
    reasoning summary refusal thinking thought json function_call instructions""".split()  # noqa: SIM905
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | NAMES | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=40,
)


@given(ANYTHING)
def test_whatever_comes_nothing_is_raised(body: Any) -> None:
    for turn in [*read_request(body), *read_response(body)]:
        assert isinstance(turn.role, str)
        assert isinstance(turn.text, str)
        assert all(isinstance(tool.name, str) for tool in turn.tools)
