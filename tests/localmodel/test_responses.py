"""The responses endpoint, seen through the real client."""

import asyncio
import json

import pytest
from openai import AsyncOpenAI, BadRequestError, OpenAI
from openai.types.responses import ResponseFunctionCallArgumentsDoneEvent, ResponseFunctionToolCall
from pydantic import BaseModel

from pytest_llmexp.localmodel import LABEL, LOCAL_MODEL, Answer, LocalModelServer
from tests.localmodel.conftest import ScriptedClient

QUESTION = "My parcel never came. What now?"


class Job(BaseModel):
    name: str
    description: str


def test_create_gives_text_and_usage(client: OpenAI) -> None:
    answer = client.responses.create(model="x", input=QUESTION, instructions="You help customers.")
    assert answer.model == LABEL
    assert answer.status == "completed"
    assert answer.output_text
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.input_tokens_details.cached_tokens == 0


def test_parse_gives_a_model(client: OpenAI) -> None:
    parsed = client.responses.parse(model=LOCAL_MODEL, input="Name a job.", text_format=Job).output_parsed
    assert parsed is not None
    assert parsed.name


def test_stream_gives_the_same_text_as_one_answer(client: OpenAI) -> None:
    whole = client.responses.create(model=LOCAL_MODEL, input=QUESTION, temperature=0)
    events = list(client.responses.create(model=LOCAL_MODEL, input=QUESTION, temperature=0, stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_stream_helper_gives_the_final_response(client: OpenAI) -> None:
    with client.responses.stream(model=LOCAL_MODEL, input="Name a job.", text_format=Job) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.output_parsed is not None
    assert final.usage is not None


def test_tool_is_called_and_its_result_is_told(client: OpenAI) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"type": "function", "name": "get_weather", "description": "Weather of a city", "parameters": parameters}
    asked = {"role": "user", "content": "What is the weather in Paris?"}
    first = client.responses.create(model=LOCAL_MODEL, input=[asked], tools=[tool])  # type: ignore[list-item]
    call = first.output[0]
    assert isinstance(call, ResponseFunctionToolCall)
    assert json.loads(call.arguments) == {"city": "Paris"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees and rain"}
    second = client.responses.create(
        model=LOCAL_MODEL,
        input=[asked, call.model_dump(), result],  # type: ignore[list-item]
        tools=[tool],  # type: ignore[list-item]
    )
    assert "18 degrees and rain" in second.output_text


def test_streamed_tool_call_has_its_arguments(client: OpenAI) -> None:
    parameters: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    stream = client.responses.create(
        model=LOCAL_MODEL,
        input="What is the weather in Paris?",
        tools=[{"type": "function", "name": "get_weather", "parameters": parameters, "strict": False}],
        stream=True,
    )
    done = [event for event in stream if isinstance(event, ResponseFunctionCallArgumentsDoneEvent)]
    assert json.loads(done[0].arguments) == {"city": "Paris"}


def test_token_limit_makes_the_response_incomplete(client: OpenAI) -> None:
    answer = client.responses.create(model=LOCAL_MODEL, input=QUESTION, max_output_tokens=3)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_refusal_is_part_of_the_message(scripted: ScriptedClient) -> None:
    _, client = scripted([Answer(refusal="No."), Answer(refusal="No.")])
    answer = client.responses.create(model="x", input=QUESTION).model_dump()
    assert answer["output"][0]["content"][0]["refusal"] == "No."
    streamed = list(client.responses.create(model="x", input=QUESTION, stream=True))
    assert any(event.type == "response.refusal.done" for event in streamed)


def test_async_client_works(server: LocalModelServer) -> None:
    async def ask() -> str:
        async with AsyncOpenAI(base_url=server.base_url, api_key="local") as client:
            return (await client.responses.create(model=LOCAL_MODEL, input=QUESTION)).output_text

    assert asyncio.run(ask())


def test_stored_state_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="stores no responses"):
        client.responses.create(model=LOCAL_MODEL, input=QUESTION, previous_response_id="resp_1")


def test_missing_input_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="input"):
        client.responses.create(model=LOCAL_MODEL, input="")
