"""Anthropic's messages, as they go over the wire."""

import json
from typing import Any

from pytest_llmexp.localmodel import LABEL, Answer, LocalModelServer, ToolCall, Usage, faults
from tests.localmodel.plain_http import Response, post

QUESTION = "My parcel never came. What now?"
WEATHER = "What is the weather in Paris?"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"name": "get_weather", "description": "Get the weather of a city", "input_schema": CITY}]
JOB = {"type": "object", "properties": {"name": {"type": "string"}, "level": {"type": "integer"}}}


def ask(server: LocalModelServer, text: str = QUESTION, **more: Any) -> Response:
    messages = [{"role": "user", "content": text}]
    return post(server, "/v1/messages", {"model": "m", "max_tokens": 300, "messages": messages, **more})


def answered(script: Any, **more: Any) -> Any:
    with LocalModelServer([script]) as server:
        return ask(server, **more).json


def text_of(response: Response) -> str:
    (block,) = response.json["content"]
    assert block["type"] == "text"
    return str(block["text"])


def test_a_message_says_that_it_comes_from_no_language_model(server: LocalModelServer) -> None:
    message = ask(server).json
    assert message["model"] == LABEL
    assert (message["type"], message["role"], message["stop_reason"]) == ("message", "assistant", "end_turn")
    assert message["content"][0]["text"]
    assert message["usage"]["input_tokens"] > 0
    assert message["usage"]["output_tokens"] > 0
    assert server.requests[0].path == "/v1/messages"


def test_blocks_of_any_kind_are_read(server: LocalModelServer) -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}}
    blocks = [image, {"type": "text", "text": "Answer with one of: yes or no.", **cached}]
    response = ask(
        server,
        system=[{"type": "text", "text": "Be brief.", **cached}],
        messages=[{"role": "user", "content": blocks}],
        thinking={"type": "enabled", "budget_tokens": 1024},
        metadata={"user_id": "u"},
        tools=[{"type": "web_search_20250305", "name": "web_search"}],
    )
    assert text_of(response) in ("yes", "no")


def test_the_token_limit_and_stop_texts_are_obeyed(server: LocalModelServer) -> None:
    short = ask(server, max_tokens=3).json
    assert (short["stop_reason"], short["usage"]["output_tokens"]) == ("max_tokens", 3)
    stopped = ask(server, stop_sequences=["zzz", "."]).json
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", ".")
    assert "." not in stopped["content"][0]["text"]


def test_a_stream_gives_the_same_text_as_one_answer(server: LocalModelServer) -> None:
    whole = ask(server, temperature=0)
    events = ask(server, temperature=0, stream=True).events
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert {delta["type"] for delta in deltas} == {"text_delta"}
    assert "".join(delta["text"] for delta in deltas) == text_of(whole)
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[0]["message"]["model"] == LABEL
    assert events[0]["message"]["content"] == []
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == whole.json["usage"]["output_tokens"]


def test_a_tool_is_called_and_its_result_is_told(server: LocalModelServer) -> None:
    first = ask(server, WEATHER, tools=TOOLS).json
    (block,) = first["content"]
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "get_weather", {"city": "Paris"})
    assert first["stop_reason"] == "tool_use"
    result = {"type": "tool_result", "tool_use_id": block["id"], "content": [{"type": "text", "text": "18 degrees"}]}
    turns = [
        {"role": "user", "content": WEATHER},
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [result]},
    ]
    assert "18 degrees" in text_of(ask(server, messages=turns, tools=TOOLS))


def test_tool_choice_is_obeyed(server: LocalModelServer) -> None:
    choices = [{"type": "any"}, {"type": "tool", "name": "get_weather"}, {"type": "none"}, {"type": "auto"}]
    reasons = [ask(server, "Hello!", tools=TOOLS, tool_choice=choice).json["stop_reason"] for choice in choices]
    assert reasons == ["tool_use", "tool_use", "end_turn", "end_turn"]


def test_a_streamed_tool_call_has_its_arguments(server: LocalModelServer) -> None:
    events = ask(server, WEATHER, tools=TOOLS, stream=True).events
    (start,) = [event for event in events if event["type"] == "content_block_start"]
    assert start["content_block"]["input"] == {}
    deltas = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    assert json.loads("".join(deltas)) == {"city": "Paris"}


def test_a_structured_answer_fits_its_schema(server: LocalModelServer) -> None:
    wanted = {"type": "json_schema", "schema": {**JOB, "required": ["name", "level"]}}
    for body in ({"output_config": {"format": wanted}}, {"output_format": wanted}):
        value = json.loads(text_of(ask(server, "Name a job.", **body)))
        assert isinstance(value["name"], str)
        assert isinstance(value["level"], int)


def test_scripted_content_has_its_own_blocks() -> None:
    call = ToolCall("get_weather", {"city": "Oslo"}, id="toolu_1")
    message = answered(Answer("Let me see.", tool_calls=[call]))
    assert message["content"] == [
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Oslo"}},
    ]
    assert answered(Answer(tool_calls=[ToolCall("f", '{"a": 1,')]))["content"][0]["input"] == '{"a": 1,'


def test_a_refusal_is_a_reason_to_stop() -> None:
    message = answered(faults.refused("No."))
    assert (message["content"][0]["text"], message["stop_reason"]) == ("No.", "refusal")


def test_cached_tokens_are_counted_apart() -> None:
    usage = answered(Answer("x", usage=Usage(100, 7, 60)))["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (40, 60, 7)
    assert "usage" not in answered(faults.no_usage())


def test_a_wrong_body_is_refused(server: LocalModelServer) -> None:
    bodies: list[dict[str, Any]] = [
        {"messages": []},
        {"messages": [{"content": "a message of nobody"}]},
        {"tools": [{"input_schema": {}}]},
        {"temperature": 9},
    ]
    for body in bodies:
        response = ask(server, **body)
        assert response.status == 400
        assert response.json["error"]["type"] == "invalid_request_error"
