"""Tool calls, seen through the real client."""

import json
from typing import Any

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from pytest_llmexp.localmodel import LOCAL_MODEL, Answer, ToolCall
from pytest_llmexp.localmodel.exchange import JsonObject
from tests.localmodel.conftest import ScriptedClient


def tool(name: str, description: str, **properties: JsonObject) -> Any:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TEXT: JsonObject = {"type": "string"}
INTEGER: JsonObject = {"type": "integer"}
WEATHER = tool("get_weather", "Get the weather of a city", city=TEXT)
ADD = tool("add", "Add two integers", a=INTEGER, b=INTEGER)
SEARCH = tool("search_tickets", "Search support tickets", query=TEXT, limit={**INTEGER, "minimum": 1, "maximum": 5})


def called(client: OpenAI, text: str, **more: Any) -> tuple[str, Any] | None:
    messages: Any = [{"role": "user", "content": text}]
    tools = [WEATHER, ADD, SEARCH]
    answer = client.chat.completions.create(model=LOCAL_MODEL, messages=messages, tools=tools, temperature=0, **more)
    calls = answer.choices[0].message.tool_calls
    if not calls:
        return None
    assert answer.choices[0].finish_reason == "tool_calls"
    assert isinstance(calls[0], ChatCompletionMessageFunctionToolCall)
    return calls[0].function.name, json.loads(calls[0].function.arguments)


def test_the_fitting_tool_is_called_with_words_of_the_message(client: OpenAI) -> None:
    assert called(client, "What is the weather in New York today?") == ("get_weather", {"city": "New York"})
    assert called(client, "Please add 17 and 25.") == ("add", {"a": 17, "b": 25})


def test_a_number_out_of_bounds_is_not_taken(client: OpenAI) -> None:
    call = called(client, "Search the tickets about 'lost parcels', 99 of them.")
    assert call is not None
    assert call[0] == "search_tickets"
    assert 1 <= call[1]["limit"] <= 5


def test_without_any_overlap_there_is_an_answer(client: OpenAI) -> None:
    assert called(client, "Hello there!") is None


def test_tool_choice_is_obeyed(client: OpenAI) -> None:
    assert called(client, "Please add 1 and 2.", tool_choice="none") is None
    assert called(client, "Hello there!", tool_choice="required") is not None
    named = {"type": "function", "function": {"name": "get_weather"}}
    call = called(client, "Please add 1 and 2.", tool_choice=named)
    assert call is not None
    assert call[0] == "get_weather"


def test_the_result_of_a_tool_is_told(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    first = client.chat.completions.create(model=LOCAL_MODEL, messages=messages, tools=[WEATHER])
    call = (first.choices[0].message.tool_calls or [])[0]
    messages += [
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": -3}'},
    ]
    second = client.chat.completions.create(model=LOCAL_MODEL, messages=messages, tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop"
    assert '{"degrees": -3}' in (second.choices[0].message.content or "")


def test_a_tool_call_is_streamed(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    with client.chat.completions.stream(model=LOCAL_MODEL, messages=messages, tools=[WEATHER]) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls
    assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Oslo"}


def test_broken_arguments_can_be_scripted(scripted: ScriptedClient) -> None:
    _, client = scripted([Answer(tool_calls=[ToolCall("add", '{"a": 1,')])])
    messages: Any = [{"role": "user", "content": "Add."}]
    answer = client.chat.completions.create(model="x", messages=messages, tools=[ADD])
    calls = answer.choices[0].message.tool_calls or []
    assert isinstance(calls[0], ChatCompletionMessageFunctionToolCall)
    assert calls[0].function.arguments == '{"a": 1,'
