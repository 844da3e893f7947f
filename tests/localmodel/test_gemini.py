"""Gemini's generateContent and its embeddings, as they go over the wire."""

import json
from typing import Any

import pytest

from pytest_llmexp.localmodel import LABEL, LOCAL_MODEL, Answer, LocalModelServer, ToolCall, Usage, faults
from pytest_llmexp.localmodel.gemini_schema import json_schema
from tests.localmodel.plain_http import Response, get, post

QUESTION = "My parcel never came. What now?"
WEATHER = "What is the weather in Paris?"
MODEL = "/v1beta/models/gemini-x"
DECLARED = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]},
}
TOOLS = [{"functionDeclarations": [DECLARED]}]
JOB = {"type": "OBJECT", "properties": {"name": {"type": "STRING"}, "tags": {"type": "ARRAY", "minItems": "2"}}}


def ask(server: LocalModelServer, text: str = QUESTION, method: str = "generateContent", **more: Any) -> Response:
    return post(server, f"{MODEL}:{method}", {"contents": [said(text)], **more})


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text}]}


def part_of(response: Response) -> Any:
    (candidate,) = response.json["candidates"]
    (part,) = candidate["content"]["parts"]
    return part


def answered(script: Any) -> Any:
    with LocalModelServer([script]) as server:
        return ask(server).json


def test_an_answer_says_that_it_comes_from_no_language_model(server: LocalModelServer) -> None:
    body = ask(server).json
    assert body["modelVersion"] == LABEL
    assert body["candidates"][0]["content"]["role"] == "model"
    assert body["candidates"][0]["content"]["parts"][0]["text"]
    assert body["candidates"][0]["finishReason"] == "STOP"
    usage = body["usageMetadata"]
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]
    assert server.requests[0].path == f"{MODEL}:generateContent"


@pytest.mark.parametrize(
    "address",
    [
        "/v1/models/gemini-x:generateContent",
        "/v1beta/models/gemini-x:generateContent?key=secret",
        "/v1beta1/projects/p/locations/l/publishers/google/models/gemini-x:generateContent",
    ],
)
def test_every_version_of_the_api_is_served(server: LocalModelServer, address: str) -> None:
    assert post(server, address, {"contents": [said(QUESTION)]}).json["modelVersion"] == LABEL
    assert server.requests[0].path == address.partition("?")[0]


def test_settings_are_obeyed_in_both_spellings(server: LocalModelServer) -> None:
    camel = {"maxOutputTokens": 3, "candidateCount": 2, "thinkingConfig": {"thinkingBudget": 0}, "topK": 4}
    snake = {"max_output_tokens": 3, "candidate_count": 2}
    for more in ({"generationConfig": camel}, {"generation_config": snake, "system_instruction": said("Be brief.")}):
        candidates = ask(server, **more).json["candidates"]
        assert [candidate["finishReason"] for candidate in candidates] == ["MAX_TOKENS"] * 2
        assert [candidate["index"] for candidate in candidates] == [0, 1]


def test_a_stream_of_events_gives_the_same_text_as_one_answer(server: LocalModelServer) -> None:
    cold: dict[str, Any] = {"generationConfig": {"temperature": 0}}
    whole = part_of(ask(server, **cold))["text"]
    streamed = ask(server, method="streamGenerateContent?alt=sse", **cold).events
    listed = ask(server, method="streamGenerateContent", **cold)
    assert listed.headers["content-type"] == "application/json"
    for chunks in (streamed, listed.json):
        assert "".join(chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in chunks) == whole
        assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"
        assert chunks[-1]["usageMetadata"]["candidatesTokenCount"] > 0
        assert {chunk["modelVersion"] for chunk in chunks} == {LABEL}


@pytest.mark.parametrize(
    ("response", "told"),
    [
        ({"result": "18 degrees"}, "18 degrees"),
        ({"output": "18 degrees"}, "18 degrees"),
        ({"degrees": 18}, '{"degrees": 18}'),
    ],
)
def test_a_function_is_called_and_its_result_is_told(server: LocalModelServer, response: Any, told: str) -> None:
    first = ask(server, WEATHER, tools=TOOLS)
    call = part_of(first)["functionCall"]
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    result = {"role": "user", "parts": [{"functionResponse": {"name": "get_weather", "response": response}}]}
    turns = [said(WEATHER), first.json["candidates"][0]["content"], result]
    assert told in part_of(ask(server, contents=turns, tools=TOOLS))["text"]


def test_a_streamed_function_call_is_one_part(server: LocalModelServer) -> None:
    chunks = ask(server, WEATHER, "streamGenerateContent?alt=sse", tools=TOOLS).events
    assert chunks[0]["candidates"][0]["content"]["parts"][0]["functionCall"]["args"] == {"city": "Paris"}
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


def test_the_mode_of_function_calling_is_obeyed(server: LocalModelServer) -> None:
    def part(text: str, **config: Any) -> Any:
        other = {"name": "add", "parametersJsonSchema": {"type": "object"}}
        tools = [{"function_declarations": [other, DECLARED]}, {"googleSearch": {}}]
        return part_of(ask(server, text, tools=tools, toolConfig={"functionCallingConfig": config}))

    assert part("Hello!", mode="ANY", allowedFunctionNames=["get_weather"])["functionCall"]["name"] == "get_weather"
    assert part("Hello!", mode="ANY")["functionCall"]["name"] in ("add", "get_weather")
    assert "text" in part(WEATHER, mode="NONE")


@pytest.mark.parametrize("name", ["responseSchema", "responseJsonSchema", "response_schema"])
def test_a_structured_answer_fits_its_schema(server: LocalModelServer, name: str) -> None:
    schema = {**JOB, "required": ["name", "tags"]}
    given = json_schema(schema) if name == "responseJsonSchema" else schema
    config = {"responseMimeType": "application/json", name: given}
    value = json.loads(part_of(ask(server, "Name a job.", generationConfig=config))["text"])
    assert isinstance(value["name"], str)
    assert len(value["tags"]) >= 2


def test_a_json_answer_needs_no_schema(server: LocalModelServer) -> None:
    asked = 'Describe a job as JSON with the keys "name" and "description".'
    answer = ask(server, asked, generationConfig={"responseMimeType": "application/json"})
    assert set(json.loads(part_of(answer)["text"])) == {"name", "description"}


def test_schemas_become_json_schemas() -> None:
    number = {"type": "INTEGER", "nullable": True, "minimum": 1}
    schema = {
        "type": "OBJECT",
        "properties": {"type": {"type": "STRING", "maxLength": "9"}, "n": number},
        "anyOf": [{"type": "TYPE_UNSPECIFIED"}],
    }
    assert json_schema(schema) == {
        "type": "object",
        "properties": {
            "type": {"type": "string", "maxLength": 9},
            "n": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        },
        "anyOf": [{}],
    }


def test_scripted_content_has_its_own_parts() -> None:
    call = ToolCall("get_weather", {"city": "Oslo"}, id="c1")
    parts = answered(Answer("Let me see.", tool_calls=[call]))["candidates"][0]["content"]["parts"]
    assert parts == [
        {"text": "Let me see."},
        {"functionCall": {"id": "c1", "name": "get_weather", "args": {"city": "Oslo"}}},
    ]


def test_a_refused_candidate_has_no_content() -> None:
    candidate = answered(faults.refused("No."))["candidates"][0]
    assert (candidate["finishReason"], candidate["finishMessage"]) == ("SAFETY", "No.")
    assert "parts" not in candidate["content"]


def test_thoughts_and_cached_tokens_are_counted() -> None:
    usage = answered(Answer("x", usage=Usage(100, 7, 60, 2)))["usageMetadata"]
    assert (usage["promptTokenCount"], usage["cachedContentTokenCount"]) == (100, 60)
    assert (usage["candidatesTokenCount"], usage["thoughtsTokenCount"], usage["totalTokenCount"]) == (5, 2, 107)
    assert "usageMetadata" not in answered(faults.no_usage())


def test_texts_are_embedded_one_and_several(server: LocalModelServer) -> None:
    one = post(server, f"{MODEL}:embedContent", {"content": said("a bill")}).json["embedding"]["values"]
    requests = [{"content": said("a bill"), "outputDimensionality": 16}, {"content": said("a bill")}]
    short, long = post(server, f"{MODEL}:batchEmbedContents", {"requests": requests}).json["embeddings"]
    assert len(short["values"]) == 16
    assert long["values"] == one


def test_models_are_listed(server: LocalModelServer) -> None:
    assert [model["name"] for model in get(server, "/v1beta/models").json["models"]] == [f"models/{LOCAL_MODEL}"]
    assert get(server, MODEL).json["name"] == "models/gemini-x"
    assert get(server, "/v1beta/files").json["error"]["status"] == "NOT_FOUND"


def test_a_wrong_body_is_refused(server: LocalModelServer) -> None:
    bodies: list[dict[str, Any]] = [{"contents": []}, {"contents": "x"}, {"generationConfig": {"temperature": 9}}]
    for body in bodies:
        response = ask(server, **body)
        assert response.status == 400
        assert response.json["error"]["status"] == "INVALID_ARGUMENT"
