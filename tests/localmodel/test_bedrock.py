"""Amazon Bedrock's Converse, as it goes over the wire: JSON, and binary frames with checksums."""

import json
import struct
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest

from pytest_llmexp.localmodel import Answer, LocalModelServer, ToolCall, Usage, faults
from pytest_llmexp.localmodel.eventstream import frame
from tests.localmodel.plain_http import Response, post

QUESTION = "My parcel never came. What now?"
WEATHER = "What is the weather in Paris?"
MODEL = "/model/anthropic.claude-x-v1%3A0"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SPEC = {"name": "get_weather", "description": "Get the weather of a city", "inputSchema": {"json": CITY}}
TOOLS = {"tools": [{"toolSpec": SPEC}, {"cachePoint": {"type": "default"}}]}
JOB = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": [{"text": text}]}


def converse(server: LocalModelServer, text: str = QUESTION, method: str = "converse", **more: Any) -> Response:
    return post(server, f"{MODEL}/{method}", {"messages": [said(text)], **more})


def block_of(response: Response) -> Any:
    (block,) = response.json["output"]["message"]["content"]
    return block


def answered(script: Any) -> Any:
    with LocalModelServer([script]) as server:
        return converse(server).json


def unpack(raw: bytes) -> Iterator[tuple[dict[str, str], Any]]:
    """Yield the headers and the payload of each frame; every checksum must be right."""
    while raw:
        total, of_headers, checksum = struct.unpack("!III", raw[:12])
        assert checksum == crc32(raw[:8])
        assert struct.unpack("!I", raw[total - 4 : total]) == (crc32(raw[: total - 4]),)
        headers, rest = {}, raw[12 : 12 + of_headers]
        while rest:
            name, rest = rest[1 : 1 + rest[0]].decode(), rest[1 + rest[0] :]
            kind, length = struct.unpack("!BH", rest[:3])
            assert kind == 7
            headers[name], rest = rest[3 : 3 + length].decode(), rest[3 + length :]
        yield headers, json.loads(raw[12 + of_headers : total - 4])
        raw = raw[total:]


def streamed(response: Response) -> list[tuple[str, Any]]:
    assert response.headers["content-type"] == "application/vnd.amazon.eventstream"
    frames = list(unpack(response.raw))
    assert {headers[":message-type"] for headers, _ in frames} == {"event"}
    return [(headers[":event-type"], payload) for headers, payload in frames]


def test_an_answer_has_text_usage_and_metrics(server: LocalModelServer) -> None:
    answer = converse(server, system=[{"text": "Be brief."}, {"cachePoint": {"type": "default"}}]).json
    assert answer["output"]["message"]["role"] == "assistant"
    assert answer["output"]["message"]["content"][0]["text"]
    assert answer["stopReason"] == "end_turn"
    usage = answer["usage"]
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"]
    assert isinstance(answer["metrics"]["latencyMs"], int)
    assert server.requests[0].path == "/model/anthropic.claude-x-v1:0/converse"


def test_a_model_may_be_an_arn(server: LocalModelServer) -> None:
    path = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x/converse"
    assert post(server, path, {"messages": [said(QUESTION)]}).status == 200


def test_limits_are_obeyed(server: LocalModelServer) -> None:
    short = converse(server, inferenceConfig={"maxTokens": 3, "temperature": 0.5, "topP": 0.9}).json
    assert (short["stopReason"], short["usage"]["outputTokens"]) == ("max_tokens", 3)
    assert converse(server, inferenceConfig={"stopSequences": ["."]}).json["stopReason"] == "stop_sequence"


def test_a_stream_gives_the_same_text_as_one_answer(server: LocalModelServer) -> None:
    cold: dict[str, Any] = {"inferenceConfig": {"temperature": 0}}
    whole = block_of(converse(server, **cold))["text"]
    events = streamed(converse(server, method="converse-stream", **cold))
    text = "".join(payload["delta"]["text"] for name, payload in events if name == "contentBlockDelta")
    assert text == whole
    assert events[0] == ("messageStart", {"role": "assistant"})
    assert [name for name, _ in events[-3:]] == ["contentBlockStop", "messageStop", "metadata"]
    assert events[-2][1] == {"stopReason": "end_turn"}
    assert events[-1][1]["usage"]["outputTokens"] > 0


def test_frames_are_those_of_the_published_examples() -> None:
    # the first of the test vectors that Amazon's client libraries share
    assert frame({}, b"") == bytes.fromhex("00000010 00000000 05c248eb 7d98c8ff")


@pytest.mark.parametrize("content", [{"text": "18 degrees"}, {"json": {"degrees": 18}}])
def test_a_tool_is_called_and_its_result_is_told(server: LocalModelServer, content: Any) -> None:
    first = converse(server, WEATHER, toolConfig=TOOLS)
    use = block_of(first)["toolUse"]
    assert (use["name"], use["input"], first.json["stopReason"]) == ("get_weather", {"city": "Paris"}, "tool_use")
    result = {"toolResult": {"toolUseId": use["toolUseId"], "content": [content]}}
    turns = [said(WEATHER), first.json["output"]["message"], {"role": "user", "content": [result]}]
    assert "18" in block_of(converse(server, messages=turns, toolConfig=TOOLS))["text"]


def test_tool_choice_is_obeyed(server: LocalModelServer) -> None:
    choices: list[Any] = [{"any": {}}, {"tool": {"name": "get_weather"}}, {"auto": {}}]
    asked = (converse(server, "Hello!", toolConfig={**TOOLS, "toolChoice": choice}) for choice in choices)
    assert [answer.json["stopReason"] for answer in asked] == ["tool_use", "tool_use", "end_turn"]


def test_a_streamed_tool_call_has_its_arguments(server: LocalModelServer) -> None:
    events = streamed(converse(server, WEATHER, "converse-stream", toolConfig=TOOLS))
    (start,) = [payload for name, payload in events if name == "contentBlockStart"]
    assert start["start"]["toolUse"]["name"] == "get_weather"
    pieces = [payload["delta"]["toolUse"]["input"] for name, payload in events if name == "contentBlockDelta"]
    assert json.loads("".join(pieces)) == {"city": "Paris"}


def test_a_structured_answer_fits_its_schema(server: LocalModelServer) -> None:
    structure = {"jsonSchema": {"schema": json.dumps(JOB), "name": "job"}}
    wanted = {"textFormat": {"type": "json_schema", "structure": structure}}
    assert isinstance(json.loads(block_of(converse(server, "Name a job.", outputConfig=wanted))["text"])["name"], str)


def test_scripted_content_has_its_own_blocks() -> None:
    call = ToolCall("get_weather", {"city": "Oslo"}, id="t1")
    message = answered(Answer("Let me see.", tool_calls=[call]))["output"]["message"]
    assert message["content"] == [
        {"text": "Let me see."},
        {"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {"city": "Oslo"}}},
    ]


def test_a_refusal_is_filtered_content() -> None:
    assert answered(faults.refused())["stopReason"] == "content_filtered"


def test_cached_tokens_are_counted_apart() -> None:
    usage = answered(Answer("x", usage=Usage(100, 7, 60)))["usage"]
    assert (usage["inputTokens"], usage["cacheReadInputTokens"], usage["totalTokens"]) == (40, 60, 107)
    assert "usage" not in answered(faults.no_usage())


def test_an_error_in_a_stream_is_an_exception() -> None:
    with LocalModelServer([faults.stream_error(after=1)]) as server:
        _, (headers, payload) = unpack(converse(server, method="converse-stream").raw)
    assert (headers[":message-type"], headers[":exception-type"]) == ("exception", "internalServerException")
    assert payload["message"] == "The server had an error in the stream."


def test_a_wrong_body_is_refused(server: LocalModelServer) -> None:
    broken = {"textFormat": {"structure": {"jsonSchema": {"schema": "{"}}}}
    bodies: list[dict[str, Any]] = [{"messages": []}, {"inferenceConfig": {"temperature": 9}}, {"outputConfig": broken}]
    for body in bodies:
        response = converse(server, **body)
        assert response.status == 400
        assert response.json["__type"] == "ValidationException"
