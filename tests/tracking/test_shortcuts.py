"""Replayed bots are answered without entering the client where it is known what that would send, and only there."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from pytest_llmexp import AsyncSimpleBot, SimpleBot, StructuredBot, ToolBot
from pytest_llmexp.core.errors import StoreError
from pytest_llmexp.core.models import Call
from pytest_llmexp.localmodel import Answer, Request, ToolCall
from pytest_llmexp.replaying import ReplayFrom
from pytest_llmexp.tracking.replay import ReplayMissError
from tests.tracking.conftest import Lab, OpenLab

ONLY = ReplayFrom("only")
Body = Callable[[], object]


class Colour(BaseModel):
    name: str


def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


def answer(request: Request) -> Answer | str:
    """Call a tool if there is one and it has not been called; else answer with JSON that tells requests apart."""
    if "tools" in request.body and request.body["messages"][-1]["role"] != "tool":
        return Answer(tool_calls=[ToolCall("shout", {"text": "blue"})])
    return f'{{"name": "blue {request.index}"}}'


def speak(**options: Any) -> object:
    return str(SimpleBot("Be brief.", **options)("Name a colour.", {"role": "assistant", "content": "which?"}, "any"))


BODIES: dict[str, Body] = {
    "text": speak,
    "parameters": lambda: speak(temperature=0.5, max_tokens=20, stop=["x", "y"], seed=1, logit_bias={"1": -1}),
    "tools": lambda: str(ToolBot("Use the tool.", tools=[shout])("Name a colour.")),
    "json": lambda: StructuredBot("A colour.", pydantic_model=Colour, output_mode="json")("Name one.").name,
}


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every entry into an openai client: each makes a request, whether it is sent or not."""
    seen: list[object] = []
    for kind in (openai.DefaultHttpxClient, openai.DefaultAsyncHttpxClient):
        build = kind.build_request

        def counted(client: Any, *args: Any, build: Any = build, **options: Any) -> Any:
            seen.append(args)
            return build(client, *args, **options)

        monkeypatch.setattr(kind, "build_request", counted)
    return seen


@contextmanager
def again(open_lab: OpenLab, body: Body, replay: ReplayFrom = ONLY) -> Iterator[Lab]:
    """Record the body in three runs; yield a laboratory that replays them, its server gone."""
    first = open_lab(answer)
    for index in (1, 2, 3):
        with first.run(index=index):
            body()
    first.close()
    yield open_lab(replay=replay, server=first.server)


def without_identity(call: Call) -> Call:
    return replace(call, id="", run_id=None, parent_call_id=None, experiment_id="", started_at="", replayed_from=None)


@pytest.mark.parametrize("name", BODIES)
def test_a_run_is_answered_and_recorded_the_same_with_and_without_the_client(
    open_lab: OpenLab, name: str, entries: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with again(open_lab, BODIES[name]) as lab:
        answers, entered = [], []
        for index in (1, 2, 3):
            with lab.run(index=index):
                before = len(entries)
                answers.append(BODIES[name]())
                entered.append(len(entries) - before)
        lab.flush()
    assert entered[0] > 0
    assert entered[1:] == [0, 0]
    around = lab.calls()
    lab.close()
    monkeypatch.setattr("pytest_llmexp.tracking.shortcuts._is_untouched", lambda client: False)
    with_client = open_lab(replay=ReplayFrom("only", lab.id), server=lab.server)
    for index, known in zip((1, 2, 3), answers, strict=True):
        with with_client.run(index=index):
            assert BODIES[name]() == known
    with_client.flush()
    assert len(set(answers)) == 3 or name == "tools"
    paid = {call.replayed_from for call in around}
    assert paid == {call.replayed_from for call in with_client.calls()}
    assert [without_identity(call) for call in around] == [
        replace(without_identity(call), bot_id=mine.bot_id)
        for call, mine in zip(with_client.calls(), around, strict=True)
    ]


def test_asynchronous_bots_go_around_their_client_too(open_lab: OpenLab, entries: list[object]) -> None:
    async def ask() -> str:
        return str(await AsyncSimpleBot("Be brief.")("Name a colour."))

    with again(open_lab, lambda: asyncio.run(ask())) as lab:

        async def all_runs() -> list[str]:
            answers = []
            for index in (1, 2, 3):
                with lab.run(index=index):
                    answers.append(await ask())
            return answers

        before = len(entries)
        assert asyncio.run(all_runs()) == [f'{{"name": "blue {index}"}}' for index in range(3)]
        assert len(entries) - before == 1


def test_answers_that_the_client_parses_go_through_it(open_lab: OpenLab, entries: list[object]) -> None:
    def body() -> str:
        return str(StructuredBot("A colour.", pydantic_model=Colour)("Name one.").name)

    with again(open_lab, body) as lab:
        before = len(entries)
        for index in (1, 2, 3):
            with lab.run(index=index):
                assert body() == f"blue {index - 1}"
        assert len(entries) - before == 3


@pytest.mark.parametrize("options", [{"extra_body": {"top_k": 3}}, {"timeout": 5.0}, {"stop": ("x",)}])
def test_parameters_that_are_not_sent_as_they_are_go_through_the_client(
    open_lab: OpenLab, entries: list[object], options: dict[str, Any]
) -> None:
    with again(open_lab, lambda: speak(**options)) as lab:
        before = len(entries)
        for index in (1, 2, 3):
            with lab.run(index=index):
                assert speak(**options) == f'{{"name": "blue {index - 1}"}}'
        assert len(entries) - before == 3
        messages = [{"role": role, "content": "..."} for role in ("system", "user", "assistant")]
        with lab.run(index=4):  # nothing is looked for in vain
            client = lab.recording.clients.client()
            parameters = {"model": "gpt-4o", **options, "messages": messages}
            assert lab.recording.clients.shortcuts.of(client, parameters) is None


def test_a_store_that_fails_once_costs_no_answer(open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch) -> None:
    with again(open_lab, speak) as lab:
        with lab.run(index=1):
            speak()
        replay = lab.recording.recorder.replay
        assert replay is not None
        look_up, failures = replay.look_up, iter([StoreError("busy")])

        def failing(*args: Any) -> Call | None:
            if (error := next(failures, None)) is not None:
                raise error
            return look_up(*args)

        monkeypatch.setattr(replay, "look_up", failing)
        with lab.run(index=2):
            assert speak() == '{"name": "blue 1"}'


def test_whoever_wraps_the_client_is_called(
    open_lab: OpenLab, entries: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with again(open_lab, speak) as lab:
        with lab.run(index=1):
            speak()
        seen, request = [], OpenAI.request

        def traced(client: OpenAI, *args: Any, **options: Any) -> Any:
            seen.append(args)
            return request(client, *args, **options)

        monkeypatch.setattr(OpenAI, "request", traced)
        with lab.run(index=2):
            speak()
        assert len(seen) == 1


def test_whoever_wraps_the_http_client_is_called(
    open_lab: OpenLab, entries: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with again(open_lab, speak) as lab:
        with lab.run(index=1):
            speak()
        library = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]

        def down(*_: Any, **__: Any) -> NoReturn:
            raise library.ConnectError("down")

        with monkeypatch.context() as patched, lab.run(index=2), pytest.raises(openai.APIConnectionError):
            patched.setattr(library.Client, "send", down)
            speak()


def test_calls_of_bots_of_both_kinds_tell_their_clients(open_lab: OpenLab, entries: list[object]) -> None:
    async def speak_async() -> object:
        return str(await AsyncSimpleBot("Be brief.")("Name a colour."))

    def both() -> object:
        return asyncio.run(speak_async()), str(SimpleBot("Be brief.")("Name a colour."))

    with again(open_lab, both) as lab:
        for index in (1, 2):
            with lab.run(index=index):
                both()
        clients = [str(call.client).partition("/")[0] for call in lab.calls()]
    assert clients == ["AsyncOpenAI", "OpenAI"] * 2


def test_a_client_of_the_users_own_is_always_asked(open_lab: OpenLab, entries: list[object]) -> None:
    with OpenAI(base_url="http://127.0.0.1:1/v1", api_key="x") as own:
        first = open_lab(answer)
        own.base_url = first.server.base_url
        for index in (1, 2):
            with first.run(index=index):
                SimpleBot("Be brief.", model_name="gpt-x", client=own)("Name a colour.")
        first.close()
        lab, before = open_lab(replay=ONLY, server=first.server), len(entries)
        for index in (1, 2):
            with lab.run(index=index):
                SimpleBot("Be brief.", model_name="gpt-x", client=own)("Name a colour.")
        assert len(entries) - before == 2


def test_an_address_that_was_changed_is_not_taken_for_the_old_one(open_lab: OpenLab) -> None:
    with again(open_lab, speak) as lab:
        with lab.run(index=1):
            speak()
        lab.recording.clients.client().base_url = "http://127.0.0.1:1/v1"
        with lab.run(index=2), pytest.raises(ReplayMissError, match="was sent to"):
            speak()


def test_what_is_not_recorded_is_a_new_call_numbered_once(open_lab: OpenLab) -> None:
    with again(open_lab, speak, ReplayFrom("auto")) as lab:
        with lab.run(index=1):
            speak()
        with lab.run(index=2):
            assert [speak(), speak(), speak()] == [f'{{"name": "blue {index}"}}' for index in (1, 3, 4)]
        lab.flush()
        assert [call.ordinal for call in lab.calls()] == [1, 1, 2, 3]
        assert [bool(call.replayed_from) for call in lab.calls()] == [True, True, False, False]


def test_no_answer_is_served_once_the_session_ends(open_lab: OpenLab) -> None:
    with again(open_lab, speak) as lab:
        with lab.run(index=1):
            speak()
        lab.recording.recorder.stopped = True
        with lab.run(index=2), pytest.raises(BaseException, match="the session is ending"):
            speak()


def _wait(held: threading.Event, _: object) -> None:
    held.wait(5)


def test_what_the_caller_changes_later_is_not_recorded(open_lab: OpenLab) -> None:
    with again(open_lab, lambda: SimpleBot("x")({"role": "user", "content": "Name a colour."})) as lab:
        for index in (1, 2):
            said = {"role": "user", "content": "Name a colour."}
            held = threading.Event()
            waiting = lab.recording.recorder.put()
            assert waiting is not None
            waiting.add_done_callback(partial(_wait, held))  # in the writer's thread
            with lab.run(index=index):
                SimpleBot("x")(said)
                said["content"] = "changed"
                held.set()
        lab.flush()
        assert [call.request["messages"][-1]["content"] for call in lab.calls()] == ["Name a colour."] * 2
