"""The bots: what they send, what they answer, and what is recorded of them."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from typing import Any, Literal

import pytest
from openai import APIConnectionError, AsyncOpenAI, AzureOpenAI, BadRequestError, OpenAI
from pydantic import BaseModel, Field, ValidationError

from pytest_llmexp import (
    AsyncSimpleBot,
    AsyncStructuredBot,
    AsyncToolBot,
    SimpleBot,
    StructuredBot,
    ToolBot,
    prompt,
)
from pytest_llmexp.core.errors import (
    AnswerError,
    ConfigurationError,
    ModelError,
    RefusalError,
    StructureError,
    ToolLoopError,
    TruncatedError,
)
from pytest_llmexp.localmodel import Answer, LocalModelServer, ToolCall, faults
from tests.tracking.conftest import Lab, OpenLab

Mode = Literal["schema", "tool", "json"]


class Job(BaseModel):
    name: str = Field(..., description="A job name.")
    pay: int


@prompt("system")
def sysprompt(kind: str) -> None:
    """You are a {{ kind }}."""


def weather(city: str, days: int = 1) -> str:
    """Tell the weather of a city."""
    return f"{city}: sunny for {days} days"


def test_what_a_bot_sends_is_what_is_recorded(lab: Lab) -> None:
    with lab.run() as run:
        reply = SimpleBot(sysprompt("chef"), model_name="gpt-4o-mini", temperature=0.25, seed=7)("cook", "well")
    assert reply == "echo: well"
    assert (reply.role, reply.finish_reason, reply.model) == ("assistant", "stop", "local-script (not an LLM)")
    (received,) = lab.server.requests
    call = lab.call()
    assert call.request == received.body
    assert received.body["messages"] == [
        {"role": "system", "content": "You are a chef."},
        {"role": "user", "content": "cook"},
        {"role": "user", "content": "well"},
    ]
    assert (call.run_id, call.ordinal, call.role, call.status, call.attempts) == (
        run.run.id,
        1,
        "generation",
        "ok",
        1,
    )
    assert (call.model_requested, call.model_returned, call.temperature) == (
        "gpt-4o-mini",
        "local-script (not an LLM)",
        0.25,
    )
    assert call.response["choices"][0]["message"]["content"] == "echo: well"
    assert call.input_tokens
    assert call.output_tokens
    assert call.latency_s is not None
    assert call.first_token_s is None
    assert call.endpoint == f"{lab.server.base_url}/chat/completions"


def test_a_bot_is_recorded_once_with_its_prompt_temperature_and_model(lab: Lab) -> None:
    bot = SimpleBot(sysprompt("chef"), temperature=0.5, max_tokens=50)
    with lab.run():
        bot("a"), bot("b")
        SimpleBot(sysprompt("chef"), temperature=0.5, max_tokens=50)("c")
        SimpleBot("You are a chef.", temperature=0.5, name="other")("d")
    bots = {bot.name: bot for bot in lab.store.bots(lab.id)}
    assert set(bots) == {"sysprompt", "other"}
    assert bots["sysprompt"].kind == "SimpleBot"
    assert (bots["sysprompt"].model_name, bots["sysprompt"].temperature) == ("gpt-4o", 0.5)
    assert bots["sysprompt"].system_prompt == "You are a chef."
    assert bots["sysprompt"].system_prompt_hash == sysprompt.version.hash
    assert bots["sysprompt"].params == {"max_tokens": 50}
    assert [call.bot_id for call in lab.calls()] == [bots["sysprompt"].id] * 3 + [bots["other"].id]


def test_a_bot_of_no_temperature_sends_none(lab: Lab) -> None:
    with lab.run():
        SimpleBot()("hello")
    assert "temperature" not in lab.server.requests[0].body
    assert lab.call().temperature is None


def test_a_conversation_goes_on_with_replies_and_dicts(lab: Lab) -> None:
    bot = SimpleBot()
    with lab.run():
        first = bot("one")
        bot("one", first, {"role": "user", "content": "two"})
    assert lab.server.requests[1].body["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "echo: one"},
        {"role": "user", "content": "two"},
    ]


@pytest.mark.parametrize("said", [(), (None,), (3,), ({"role": "wizard", "content": "x"},), ({},)])
def test_what_is_no_message_is_an_error_before_any_call(lab: Lab, said: Any) -> None:
    with lab.run(), pytest.raises(ConfigurationError):
        SimpleBot()(*said)
    assert lab.server.requests == []


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (SimpleBot, {"system_prompt": 3}, "a system prompt is text"),
        (SimpleBot, {"system_prompt": sysprompt}, r"call it: bot\(my_prompt\(\)\)"),
        (SimpleBot, {"model_name": ""}, "model_name is the name of a model, not ''"),
        (SimpleBot, {"temperature": "hot"}, "temperature is a number from 0"),
        (SimpleBot, {"temperature": -1}, "not -1"),
        (SimpleBot, {"temperature": float("nan")}, "not nan"),
        (SimpleBot, {"temperature": True}, "not True"),
        (SimpleBot, {"stream": True}, "stream: the bot sets this itself"),
        (SimpleBot, {"client": AsyncOpenAI(api_key="x")}, "AsyncOpenAI.*use AsyncSimpleBot"),
        (AsyncSimpleBot, {"client": AzureOpenAI(api_key="x", api_version="1", base_url="http://x")}, "AsyncOpenAI"),
        (StructuredBot, {"pydantic_model": dict}, "a subclass of BaseModel, not <class 'dict'>"),
        (StructuredBot, {"pydantic_model": Job(name="a", pay=1)}, "a subclass of BaseModel"),
        (StructuredBot, {"pydantic_model": Job, "output_mode": "xml"}, "allowed: schema, tool, json"),
        (StructuredBot, {"pydantic_model": Job, "max_repair": -1}, "not -1"),
        (StructuredBot, {"pydantic_model": Job, "max_repair": True}, "not True"),
        (StructuredBot, {"pydantic_model": Job, "tools": []}, "output_mode= decide this"),
        (ToolBot, {"tools": []}, "at least one function"),
        (ToolBot, {"tools": weather}, "a list of at least one function"),
        (ToolBot, {"tools": [lambda city: city]}, "a function with a name"),
        (ToolBot, {"tools": [weather, weather]}, "two tools have one name"),
        (ToolBot, {"tools": [weather], "max_rounds": 0}, "max_rounds is a number of requests from 1"),
    ],
)
def test_bad_arguments_are_clear_errors_before_any_call(
    lab: Lab, kind: Any, arguments: dict[str, Any], message: str
) -> None:
    with lab.run(), pytest.raises(ConfigurationError, match=message):
        kind(**arguments)
    assert lab.server.requests == []


def test_a_named_model_without_key_or_address_is_an_error_with_a_hint() -> None:
    with pytest.raises(ModelError, match=r"'gpt-4o' has neither a key nor a base URL: set OPENAI_API_KEY"):
        SimpleBot(model_name="gpt-4o")("hello")


def test_without_any_configuration_a_bot_outside_of_experiments_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="the built-in stand-in serves experiments only"):
        SimpleBot()("hello")


def test_outside_of_experiments_bots_ask_the_configured_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalModelServer(lambda _: "hello") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        bot, twin = SimpleBot(model_name="gpt-4o"), AsyncSimpleBot(model_name="gpt-4o")
        assert bot("hi") == "hello"

        async def both() -> list[str]:
            return list(await asyncio.gather(twin("a"), twin("b")))

        assert asyncio.run(both()) == ["hello", "hello"]
        assert asyncio.run(both()) == ["hello", "hello"]
        bot._clients().close()
    assert {request.body["model"] for request in server.requests} == {"gpt-4o"}


def test_a_bot_with_a_client_of_its_own_needs_a_model_only(lab: Lab, open_lab: OpenLab) -> None:
    with LocalModelServer(lambda _: "from elsewhere") as other, OpenAI(base_url=other.base_url, api_key="x") as own:
        with lab.run():
            assert SimpleBot(client=own, model_name="mine")("hi") == "from elsewhere"
        assert lab.call().endpoint.startswith(other.base_url)
        assert lab.call().model_requested == "mine"
        assert lab.server.requests == []


def test_an_asynchronous_bot_takes_a_synchronous_client_as_a_model_for_its_own(lab: Lab) -> None:
    with (
        LocalModelServer(lambda _: "from elsewhere") as other,
        OpenAI(base_url=other.base_url, api_key="x") as own,
        lab.run(),
    ):
        bot = AsyncSimpleBot(client=own, model_name="mine")

        async def ask() -> list[str]:
            return list(await asyncio.gather(bot("a"), bot("b")))

        for _ in range(2):
            assert asyncio.run(ask()) == ["from elsewhere"] * 2
    gc.collect()  # would warn of connections left open
    assert len(lab.calls()) == 4
    assert lab.server.requests == []


def test_extra_headers_are_sent_and_never_stored(lab: Lab) -> None:
    with lab.run():
        SimpleBot(extra_headers={"X-Stainless-Custom": "hunter2-secret"})("hi")
    assert lab.server.requests[0].headers["x-stainless-custom"] == "hunter2-secret"
    assert lab.close() == []
    assert stored(lab, b"hunter2-secret") == []
    assert lab.store.bots(lab.id)[0].params == {}


def stored(lab: Lab, secret: bytes) -> list[str]:
    """Return the files of the store that hold the bytes."""
    return [path.name for path in lab.path.parent.glob(f"{lab.path.name}*") if secret in path.read_bytes()]


# -- structured --------------------------------------------------------------------------------------------------


def structured_answer(mode: Mode, text: str) -> Answer:
    """Say a text where an answer of this mode goes."""
    return Answer(tool_calls=[ToolCall("Job", text)]) if mode == "tool" else Answer(text)


GOOD = '{"name": "chef", "pay": 3}'


@pytest.mark.parametrize("mode", ["schema", "tool", "json"])
def test_an_answer_becomes_an_instance_of_the_model(open_lab: OpenLab, mode: Mode) -> None:
    lab = open_lab([structured_answer(mode, GOOD)])
    with lab.run():
        job = StructuredBot("You name jobs.", pydantic_model=Job, output_mode=mode)("name one")
    assert job == Job(name="chef", pay=3)
    sent = lab.server.requests[0].body
    assert lab.call().request == sent
    if mode == "schema":
        assert sent["response_format"]["json_schema"]["schema"]["properties"]["name"]["description"] == "A job name."
    elif mode == "tool":
        assert sent["tool_choice"] == {"type": "function", "function": {"name": "Job"}}
    else:
        assert sent["response_format"] == {"type": "json_object"}
        assert "A job name." in sent["messages"][0]["content"]
    assert lab.store.bots(lab.id)[0].params == {"output": "Job", "output_mode": mode, "max_repair": 0}


@pytest.mark.parametrize("mode", ["schema", "tool", "json"])
def test_the_sampling_model_fits_every_mode(sampling_lab: Lab, mode: Mode) -> None:
    with sampling_lab.run():
        assert isinstance(StructuredBot(pydantic_model=Job, output_mode=mode)("name a job"), Job)


def test_json_in_a_fence_is_read(open_lab: OpenLab) -> None:
    lab = open_lab([f"```json\n{GOOD}\n```"])
    with lab.run():
        assert StructuredBot(pydantic_model=Job, output_mode="json")("go").name == "chef"


BAD = ["no json at all", '{"name": "chef"}', '{"name": "chef", "pay": "a lot"}', "[]", '{"name": "che']


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("mode", ["schema", "tool", "json"])
def test_every_repair_is_a_call_of_its_own_under_the_first(open_lab: OpenLab, mode: Mode, bad: str) -> None:
    script = [structured_answer(mode, text) for text in (bad, bad, GOOD)]
    lab = open_lab(script)
    with lab.run():
        job = StructuredBot("You name jobs.", pydantic_model=Job, output_mode=mode, max_repair=2)("name one")
    assert job.name == "chef"
    calls = lab.calls()
    assert [call.ordinal for call in calls] == [1, 2, 3]
    assert [call.parent_call_id for call in calls] == [None, calls[0].id, calls[0].id]
    assert {call.attempts for call in calls} == {1}
    assert len({call.bot_id for call in calls}) == 1
    shown = calls[1].request["messages"][-2:]
    assert shown[0] == {"role": "assistant", "content": bad}
    assert "does not fit" in shown[1]["content"]
    assert len(lab.store.bots(lab.id)) == 1


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("mode", ["schema", "tool", "json"])
def test_an_answer_that_never_fits_is_an_error_that_shows_it(open_lab: OpenLab, mode: Mode, bad: str) -> None:
    lab = open_lab([structured_answer(mode, bad)] * 2)
    with lab.run(), pytest.raises(StructureError, match=r"does not fit Job after 2 attempt\(s\)") as caught:
        StructuredBot(pydantic_model=Job, output_mode=mode, max_repair=1)("go")
    assert repr(bad) in str(caught.value)
    assert [call.status for call in lab.calls()] == ["ok", "ok"]


def test_text_where_a_tool_call_was_demanded_does_not_fit(open_lab: OpenLab) -> None:
    lab = open_lab(["I would rather talk."])
    with lab.run(), pytest.raises(StructureError, match="no structured part"):
        StructuredBot(pydantic_model=Job, output_mode="tool")("go")


@pytest.mark.parametrize("mode", ["schema", "tool", "json"])
def test_a_refusal_is_an_error_that_says_so(open_lab: OpenLab, mode: Mode) -> None:
    lab = open_lab([faults.refused("I cannot help with that.")])
    with lab.run(), pytest.raises(RefusalError, match=r"the model refused: I cannot help with that\."):
        StructuredBot(pydantic_model=Job, output_mode=mode, max_repair=3)("go")
    assert lab.call().response["choices"][0]["message"]["refusal"] == "I cannot help with that."


@pytest.mark.parametrize("mode", ["schema", "tool", "json"])
def test_a_truncated_answer_is_an_error_that_says_so(open_lab: OpenLab, mode: Mode) -> None:
    lab = open_lab([faults.truncated('{"name": "Data Eng')])
    with lab.run(), pytest.raises(TruncatedError, match=r"cut off by the token limit after 18 characters.*Data Eng"):
        StructuredBot(pydantic_model=Job, output_mode=mode, max_repair=3)("go")
    assert len(lab.calls()) == 1


def test_a_content_filter_is_a_refusal(open_lab: OpenLab) -> None:
    lab = open_lab([Answer("half", finish_reason="content_filter")] * 2)
    with lab.run():
        for bot in (StructuredBot(pydantic_model=Job), SimpleBot()):
            with pytest.raises(RefusalError, match="content filter"):
                bot("go")


# -- tools -------------------------------------------------------------------------------------------------------


def test_every_round_of_the_tool_loop_is_recorded_with_its_results(open_lab: OpenLab) -> None:
    script = [
        Answer(tool_calls=[ToolCall("weather", {"city": "Oslo"}, "a"), ToolCall("weather", {"city": "Rome"}, "b")]),
        Answer(tool_calls=[ToolCall("weather", {"city": "Bonn", "days": 3}, "c")]),
        "Sunny everywhere.",
    ]
    lab = open_lab(script)
    with lab.run():
        reply = ToolBot("You forecast.", tools=[weather])("weather?")
    assert reply == "Sunny everywhere."
    results = ["Oslo: sunny for 1 days", "Rome: sunny for 1 days", "Bonn: sunny for 3 days"]
    assert [result.result for result in reply.tool_results] == results
    calls = lab.calls()
    assert [call.parent_call_id for call in calls] == [None, calls[0].id, calls[0].id]
    told = [message for message in calls[2].request["messages"] if message["role"] == "tool"]
    assert [(message["tool_call_id"], message["content"]) for message in told] == list(zip("abc", results, strict=True))
    (described,) = calls[0].request["tools"]
    assert described["function"]["description"] == "Tell the weather of a city."
    assert described["function"]["parameters"]["required"] == ["city"]


def test_what_a_tool_returns_is_told_as_json(open_lab: OpenLab) -> None:
    def find() -> dict[str, Any]:
        """Find a job."""
        return {"job": Job(name="chef", pay=1), "places": (1, 2)}

    lab = open_lab([Answer(tool_calls=[ToolCall("find")]), "found"])
    with lab.run():
        ToolBot(tools=[find])("find")
    told = lab.calls()[1].request["messages"][-1]["content"]
    assert json.loads(told) == {"job": {"name": "chef", "pay": 1}, "places": [1, 2]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (ToolCall("climate", {"city": "Oslo"}), "there is no tool 'climate'; there are: weather"),
        (ToolCall("weather", {"town": "Oslo"}), "city"),
        (ToolCall("weather", {"city": "Oslo", "days": "many"}), "valid integer"),
        (ToolCall("weather", '{"city": "Os'), "no JSON object"),
        (ToolCall("weather", "[1]"), "no JSON object"),
    ],
)
def test_the_models_mistakes_are_told_to_the_model(open_lab: OpenLab, call: ToolCall, message: str) -> None:
    lab = open_lab([Answer(tool_calls=[call]), "sorry"])
    with lab.run():
        assert ToolBot(tools=[weather])("weather?") == "sorry"
    told = lab.calls()[1].request["messages"][-1]
    assert told["role"] == "tool"
    assert told["content"].startswith("Error:")
    assert message in told["content"]


def test_an_exception_of_a_tool_ends_the_run(open_lab: OpenLab) -> None:
    def broken() -> str:
        """Break."""
        raise OSError("no network")

    def strict() -> Job:
        """Validate something of its own."""
        return Job.model_validate({"name": 3})

    lab = open_lab([Answer(tool_calls=[ToolCall("broken")]), Answer(tool_calls=[ToolCall("strict")])])
    with lab.run():
        with pytest.raises(OSError, match="no network"):
            ToolBot(tools=[broken])("go")
        with pytest.raises(ValidationError, match="Job"):
            ToolBot(tools=[strict])("go")


def test_a_tool_loop_without_an_end_is_an_error(open_lab: OpenLab) -> None:
    lab = open_lab([Answer(tool_calls=[ToolCall("weather", {"city": "Oslo"})])] * 3)
    with lab.run(), pytest.raises(ToolLoopError, match="still called tools after 3 rounds: weather, weather, weather"):
        ToolBot(tools=[weather], max_rounds=3)("go")
    assert len(lab.calls()) == 3


def test_calls_that_a_tool_makes_are_the_runs_but_not_the_bots(open_lab: OpenLab) -> None:
    lab = open_lab([Answer(tool_calls=[ToolCall("ask_expert")]), "the expert", "done"])

    def ask_expert() -> str:
        """Ask somebody else."""
        with OpenAI(base_url=lab.server.base_url, api_key="x") as client:
            answer = client.chat.completions.create(model="expert", messages=[{"role": "user", "content": "?"}])
        return str(answer.choices[0].message.content)

    with lab.run() as run:
        assert ToolBot(tools=[ask_expert])("go") == "done"
    first, expert, last = lab.calls()
    assert {call.run_id for call in (first, expert, last)} == {run.run.id}
    assert (expert.model_requested, expert.bot_id, expert.parent_call_id) == ("expert", None, None)
    assert last.parent_call_id == first.id


def test_a_coroutine_function_as_a_tool_needs_the_asynchronous_bot(open_lab: OpenLab) -> None:
    async def slow_weather(city: str) -> str:
        """Tell the weather."""
        return f"{city}: rain"

    lab = open_lab([Answer(tool_calls=[ToolCall("slow_weather", {"city": "Oslo"})])] * 2 + ["rain"])
    with lab.run():
        with pytest.raises(ConfigurationError, match="use AsyncToolBot"):
            ToolBot(tools=[slow_weather])("go")

        async def ask() -> str:
            return await AsyncToolBot(tools=[slow_weather, weather])("go")

        assert asyncio.run(ask()) == "rain"
    assert lab.calls()[-1].request["messages"][-1]["content"] == "Oslo: rain"


# -- asynchronous twins and failures ------------------------------------------------------------------------------


def test_the_asynchronous_twins_record_the_same(open_lab: OpenLab) -> None:
    def script() -> list[Any]:
        return ["text", "broken", GOOD, Answer(tool_calls=[ToolCall("weather", {"city": "Oslo"})]), "sunny"]

    lab = open_lab(script() * 2)
    with lab.run():
        SimpleBot("a", seed=1)("x")
        StructuredBot("b", pydantic_model=Job, max_repair=1)("y")
        ToolBot("c", tools=[weather])("z")
    sync = lab.calls()

    async def body() -> None:
        await AsyncSimpleBot("a", seed=1)("x")
        await AsyncStructuredBot("b", pydantic_model=Job, max_repair=1)("y")
        await AsyncToolBot("c", tools=[weather])("z")

    with lab.run(index=2):
        asyncio.run(body())
    twins = lab.calls()[len(sync) :]
    assert len(sync) == len(twins) == 5

    def without_ids(request: Any) -> str:
        return json.dumps(request).replace("call_", "")[:400]

    assert [without_ids(call.request) for call in sync] == [without_ids(call.request) for call in twins]
    assert [call.bot_id for call in sync] == [call.bot_id for call in twins]
    assert [call.ordinal for call in twins] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("fault", "error", "recorded"),
    [
        (faults.client_error(400, "bad temperature"), BadRequestError, "HTTP 400: .*bad temperature"),
        (faults.reset(), APIConnectionError, "Error"),
        (faults.html_page(), AnswerError, "not JSON"),
        (faults.bad_json(), AnswerError, "not JSON"),
        (faults.empty_body(), AnswerError, "not JSON"),
    ],
)
def test_failed_calls_leave_a_row_with_the_error(
    open_lab: OpenLab, fault: Answer, error: type[Exception], recorded: str
) -> None:
    lab = open_lab([fault])
    with (
        OpenAI(base_url=lab.server.base_url, api_key="x", max_retries=0) as client,
        lab.run(),
        pytest.raises(error),
    ):
        SimpleBot(client=client, model_name="m")("go")
    call = lab.call()
    assert call.status == "error"
    assert call.error is not None
    assert re.search(recorded, call.error, re.DOTALL)
    assert call.latency_s is not None


def test_a_response_without_choices_is_an_answer_error(open_lab: OpenLab) -> None:
    lab = open_lab([faults.no_choices()])
    with lab.run(), pytest.raises(AnswerError, match="no choices"):
        SimpleBot()("go")
    assert lab.call().status == "ok"


def test_usage_that_the_server_did_not_say_is_unknown(open_lab: OpenLab) -> None:
    lab = open_lab([faults.no_usage()])
    with lab.run():
        SimpleBot()("go")
    call = lab.call()
    assert (call.input_tokens, call.output_tokens, call.cached_tokens, call.reasoning_tokens) == (None,) * 4
    assert lab.store.run_totals(lab.id)[0].input_tokens is None
