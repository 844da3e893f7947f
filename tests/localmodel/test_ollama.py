"""Ollama's chat, generate and embed, as they go over the wire."""

import json
from typing import Any

import pytest

from pytest_llmexp.localmodel import LABEL, LOCAL_MODEL, SCRIPT_LABEL, Answer, LocalModelServer, ToolCall, Usage, faults
from tests.localmodel.plain_http import Response, get, post

QUESTION = "My parcel never came. What now?"
WEATHER = "What is the weather in Paris?"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "Get the weather of a city", "parameters": CITY}
TOOLS = [{"type": "function", "function": FUNCTION}]
JOB = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def chat(server: LocalModelServer, text: str = QUESTION, **more: Any) -> Response:
    return post(server, "/api/chat", {"model": "m", "messages": [{"role": "user", "content": text}], **more})


def generate(server: LocalModelServer, prompt: str = QUESTION, **more: Any) -> Response:
    return post(server, "/api/generate", {"model": "m", "prompt": prompt, **more})


def test_an_answer_says_that_it_comes_from_no_language_model(server: LocalModelServer) -> None:
    answer = chat(server, stream=False).json
    assert answer["model"] == LABEL
    assert answer["message"]["role"] == "assistant"
    assert answer["message"]["content"]
    assert (answer["done"], answer["done_reason"]) == (True, "stop")
    assert answer["prompt_eval_count"] > 0
    assert answer["eval_count"] > 0
    assert server.requests[0].path == "/api/chat"


def test_streams_unless_told_not_to(server: LocalModelServer) -> None:
    cold: dict[str, Any] = {"options": {"temperature": 0}}
    whole = chat(server, stream=False, **cold).json
    lines = chat(server, **cold).lines
    assert "".join(line["message"]["content"] for line in lines) == whole["message"]["content"]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["eval_count"] == whole["eval_count"]
    assert {line["model"] for line in lines} == {LABEL}


def test_generate_answers_a_prompt(server: LocalModelServer) -> None:
    cold: dict[str, Any] = {"options": {"temperature": 0}, "system": "Be brief."}
    whole = generate(server, stream=False, **cold).json
    lines = generate(server, **cold).lines
    assert whole["model"] == LABEL
    assert "".join(line["response"] for line in lines) == whole["response"] != ""
    assert lines[-1]["done_reason"] == whole["done_reason"] == "stop"


def test_options_are_obeyed(server: LocalModelServer) -> None:
    short = chat(server, stream=False, options={"num_predict": 3}, think=True, keep_alive="5m").json
    assert (short["done_reason"], short["eval_count"]) == ("length", 3)
    unlimited = chat(server, stream=False, options={"num_predict": -1, "stop": ["."], "top_k": 3}).json
    assert unlimited["done_reason"] == "stop"
    assert "." not in unlimited["message"]["content"]
    seeded = [chat(server, stream=False, options={"seed": 7}).json["message"] for _ in range(2)]
    assert seeded[0] == seeded[1]


def test_a_tool_is_called_and_its_result_is_told(server: LocalModelServer) -> None:
    message = chat(server, WEATHER, stream=False, tools=TOOLS).json["message"]
    assert message["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": {"city": "Paris"}, "index": 0}
    result = {"role": "tool", "tool_name": "get_weather", "content": "18 degrees"}
    turns = [{"role": "user", "content": WEATHER}, message, result]
    assert "18 degrees" in chat(server, stream=False, messages=turns, tools=TOOLS).json["message"]["content"]


def test_a_streamed_tool_call_is_one_line(server: LocalModelServer) -> None:
    lines = chat(server, WEATHER, tools=TOOLS).lines
    calls = [call for line in lines for call in line["message"].get("tool_calls", ())]
    assert [call["function"]["arguments"] for call in calls] == [{"city": "Paris"}]


def test_a_format_is_a_schema_or_any_json(server: LocalModelServer) -> None:
    structured = chat(server, "Name a job.", stream=False, format=JOB).json["message"]["content"]
    assert isinstance(json.loads(structured)["name"], str)
    generated = generate(server, "Name a job.", stream=False, format=JOB).json["response"]
    assert isinstance(json.loads(generated)["name"], str)
    free = chat(server, 'JSON with the keys "a" and "b", please.', stream=False, format="json").json
    assert set(json.loads(free["message"]["content"])) == {"a", "b"}


@pytest.mark.parametrize("ask", [chat, generate])
def test_scripted_answers_are_given(ask: Any) -> None:
    with LocalModelServer([Answer("Hello.", usage=Usage(5, 2)), faults.no_usage(), faults.refused("No.")]) as server:
        counted, missing, refused = (ask(server, stream=False).json for _ in range(3))
    assert (counted["model"], counted["prompt_eval_count"], counted["eval_count"]) == (SCRIPT_LABEL, 5, 2)
    assert "eval_count" not in missing
    assert "No." in str(refused)


def test_scripted_calls_are_given() -> None:
    with LocalModelServer([Answer(tool_calls=[ToolCall("f", {"a": 1}), ToolCall("g")])]) as server:
        calls = chat(server, stream=False).json["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["f", "g"]


def test_texts_are_embedded(server: LocalModelServer) -> None:
    answer = post(server, "/api/embed", {"model": "m", "input": ["a bill", "a parcel"], "dimensions": 16}).json
    assert answer["model"] == LABEL
    assert [len(vector) for vector in answer["embeddings"]] == [16, 16]
    assert len(post(server, "/api/embeddings", {"model": "m", "prompt": "a bill"}).json["embedding"]) == 256


def test_models_are_listed(server: LocalModelServer) -> None:
    assert [model["name"] for model in get(server, "/api/tags").json["models"]] == [LOCAL_MODEL]


def test_a_wrong_body_is_refused(server: LocalModelServer) -> None:
    response = chat(server, messages=[])
    assert response.status == 400
    assert response.json == {"error": "messages is missing or empty"}
