"""The capture hook: what raw clients send and get is recorded as it was, streams put together, secrets left out."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest
from openai import APIConnectionError, APIError, AsyncOpenAI, OpenAI

from pytest_llmexp import AsyncSimpleBot, SimpleBot, metric, prompt, step
from pytest_llmexp.localmodel import Answer, ToolCall, Usage, faults
from pytest_llmexp.tracking import wire
from pytest_llmexp.tracking.calls import begin_call
from pytest_llmexp.tracking.capture import LIBRARIES, capturing
from pytest_llmexp.tracking.exchange import Sent
from pytest_llmexp.tracking.streams import Copy
from tests.tracking.conftest import Lab, OpenLab

HELLO: Any = [{"role": "user", "content": "hello"}]
KEY = "sk-hunter2-abcdefghijklmnop-0123456789"


@pytest.fixture
def client_of() -> Iterator[Callable[..., OpenAI]]:
    """Return a function that opens a client of a lab's server."""
    clients: list[OpenAI] = []

    def make(lab: Lab, **options: Any) -> OpenAI:
        clients.append(OpenAI(**{"base_url": lab.server.base_url, "api_key": "x", "max_retries": 0, **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


ClientOf = Callable[..., OpenAI]


def libraries() -> list[Any]:
    return [sys.modules[name] for name in LIBRARIES if name in sys.modules]


def the_clients_library() -> Any:
    """Return the HTTP library that the installed openai speaks."""
    return sys.modules["httpx2" if int(openai.__version__.split(".")[0]) >= 3 else "httpx"]


# -- what is recorded --------------------------------------------------------------------------------------------


def test_chat_completions_of_a_raw_client(lab: Lab, client_of: ClientOf) -> None:
    with lab.run() as run:
        answer = client_of(lab).chat.completions.create(model="gpt-x", messages=HELLO, temperature=0.5, n=2)
    call = lab.call()
    assert call.request == {"model": "gpt-x", "messages": HELLO, "temperature": 0.5, "n": 2}
    assert call.response == json.loads(answer.model_dump_json(exclude_unset=True))
    assert (call.run_id, call.bot_id, call.status, call.error) == (run.run.id, None, "ok", None)
    assert answer.usage is not None
    assert (call.input_tokens, call.output_tokens) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)


def test_responses_and_embeddings_of_a_raw_client(sampling_lab: Lab, client_of: ClientOf) -> None:
    lab, client = sampling_lab, client_of(sampling_lab)
    with lab.run():
        client.responses.create(model="gpt-x", input="name a job", temperature=0.2)
        client.embeddings.create(model="embed-x", input=["one", "two"])
    response, embedding = lab.calls()
    assert response.endpoint.endswith("/v1/responses")
    assert (response.model_requested, response.temperature) == ("gpt-x", 0.2)
    assert response.input_tokens
    assert response.output_tokens
    assert embedding.endpoint.endswith("/v1/embeddings")
    assert embedding.request["input"] == ["one", "two"]
    assert len(embedding.response["data"]) == 2
    assert embedding.input_tokens
    assert embedding.output_tokens is None


def test_cached_and_reasoning_tokens_are_read(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([Answer("x", usage=Usage(10, 5, cached_tokens=4, reasoning_tokens=3))] * 2)
    client = client_of(lab)
    with lab.run():
        client.chat.completions.create(model="m", messages=HELLO)
        client.responses.create(model="m", input="hello")
    assert [
        (call.input_tokens, call.output_tokens, call.cached_tokens, call.reasoning_tokens) for call in lab.calls()
    ] == [(10, 5, 4, 3)] * 2


def test_other_requests_are_none_of_its_business(lab: Lab, client_of: ClientOf) -> None:
    with lab.run():
        client_of(lab).models.list()
        with the_clients_library().Client() as other:
            other.post(f"{lab.server.base_url}/elsewhere", json={"model": "x"})
            other.post(f"{lab.server.base_url}/elsewhere", content=iter([b'{"model": 1, "input": 1}']))
            other.post(f"{lab.server.base_url}/elsewhere", json=[1])
            other.post(f"{lab.server.base_url}/elsewhere", content=b"{", headers={"content-type": "application/json"})
    assert lab.close() == []
    assert lab.calls() == []


def test_models_named_in_the_path_are_calls_too(sampling_lab: Lab) -> None:
    lab = sampling_lab
    with lab.run(), the_clients_library().Client() as gemini:
        url = f"{lab.server.base_url}beta/models/gemini-3-pro:generateContent?key={KEY}"
        gemini.post(url, json={"contents": [{"parts": [{"text": "hi"}]}]})
    call = lab.call()
    assert call.model_requested == "gemini-3-pro"
    assert call.endpoint.endswith("/v1beta/models/gemini-3-pro:generateContent")
    assert (call.status, call.error) == ("ok", None)


def test_answers_that_are_no_text_are_described(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([Answer(body=b"\xff\xfb\x90\x00", headers={"Content-Type": "audio/mpeg"})])
    with lab.run():
        spoken = client_of(lab).audio.speech.create(model="tts", voice="alloy", input="hello")
    assert spoken.content == b"\xff\xfb\x90\x00"
    assert (lab.call().status, lab.call().response) == ("ok", {"content_type": "audio/mpeg"})


def test_a_row_is_there_before_the_answer(open_lab: OpenLab, client_of: ClientOf) -> None:
    seen: list[Any] = []

    def answer(_: Any) -> str:
        lab.flush()
        seen.extend(lab.calls())
        return "done"

    lab = open_lab(answer)
    with lab.run():
        client_of(lab).chat.completions.create(model="m", messages=HELLO)
    assert [(call.status, call.response) for call in seen] == [("running", None)]
    assert (lab.call().id, lab.call().status) == (seen[0].id, "ok")


def test_outside_of_any_experiment_calls_pass_unseen(lab: Lab, client_of: ClientOf) -> None:
    client = client_of(lab)
    lab.close()
    assert client.chat.completions.create(model="m", messages=HELLO).choices[0].message.content == "echo: hello"
    assert lab.calls() == []


# -- retries and failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [faults.rate_limited(0.001), faults.server_error(500), faults.server_error(503), faults.reset()]
)
def test_a_clients_retry_is_an_attempt_of_the_same_call(
    open_lab: OpenLab, client_of: ClientOf, fault: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    lab = open_lab([fault, fault, "at last"])
    with lab.run():
        client_of(lab, max_retries=2).chat.completions.create(model="m", messages=HELLO)
    call = lab.call()
    assert (call.status, call.error, call.attempts, call.ordinal) == ("ok", None, 3, 1)
    assert call.response["choices"][0]["message"]["content"] == "at last"


def test_a_call_that_fails_in_every_attempt_shows_the_last_error(
    open_lab: OpenLab, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    lab = open_lab([faults.server_error(500), faults.reset()])
    with lab.run(), pytest.raises(APIConnectionError):
        client_of(lab, max_retries=1).chat.completions.create(model="m", messages=HELLO)
    call = lab.call()
    assert (call.status, call.attempts) == ("error", 2)
    assert call.error is not None
    assert "500" not in call.error
    assert call.response is None


def _ask(client: OpenAI, text: str = "hello") -> None:
    """Ask, whatever comes of it."""
    with suppress(openai.APIError):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])


def attempts(lab: Lab) -> list[tuple[int, int, str]]:
    return [(call.ordinal, call.attempts, call.status) for call in lab.calls()]


@pytest.mark.parametrize(
    "fault",
    [
        *map(faults.server_error, (500, 503, 529)),
        *map(faults.client_error, (408, 409, 425)),
        faults.rate_limited(0.001),
        faults.reset(),
        faults.cut_body(),
    ],
)
def test_the_same_request_after_it_failed_is_an_attempt_of_the_same_call(
    open_lab: OpenLab, client_of: ClientOf, fault: Answer
) -> None:
    lab = open_lab([fault, fault, "b", "c"])
    client = client_of(lab)
    with lab.run():
        for _ in range(4):
            _ask(client)
    assert attempts(lab) == [(1, 3, "ok"), (2, 1, "ok")]
    assert lab.calls()[0].response["choices"][0]["message"]["content"] == "b"
    assert len({call.request_key for call in lab.calls()}) == 1


def test_a_callers_own_loop_goes_on_where_the_clients_retries_ended(
    open_lab: OpenLab, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    lab = open_lab([*[faults.server_error()] * 3, "at last"])
    client = client_of(lab, max_retries=1)
    with lab.run():
        _ask(client)
        _ask(client)
    assert attempts(lab) == [(1, 4, "ok")]


def test_a_question_to_a_bot_that_is_asked_again_is_an_attempt_of_the_same_call(open_lab: OpenLab) -> None:
    lab = open_lab([faults.client_error(425), "b"])
    bot = SimpleBot("You help.")
    with lab.run():
        with suppress(openai.APIError):
            bot("hello")
        bot("hello")
    assert attempts(lab) == [(1, 2, "ok")]


@pytest.mark.parametrize("fault", [*map(faults.client_error, (400, 401, 403, 404, 422)), faults.bad_json()])
def test_the_same_request_after_what_no_client_tries_again_is_another_call(
    open_lab: OpenLab, client_of: ClientOf, fault: Answer
) -> None:
    lab = open_lab([fault, "b"])
    client = client_of(lab)
    with lab.run():
        with suppress(openai.APIError, ValueError):
            client.chat.completions.create(model="m", messages=HELLO)
        _ask(client)
    assert attempts(lab) == [(1, 1, "error"), (2, 1, "ok")]


def test_after_another_call_the_same_request_is_another_call(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([faults.server_error(), "fallback", "c"])
    client = client_of(lab)
    with lab.run():
        _ask(client)
        with step("fallback"):
            _ask(client, "something else")
        _ask(client)
    assert attempts(lab) == [(1, 1, "error"), (2, 1, "ok"), (3, 1, "ok")]


def test_in_another_step_role_or_run_the_same_request_is_another_call(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([*[faults.server_error()] * 3, "d"])
    client = client_of(lab)

    @metric
    def judged() -> int:
        _ask(client)
        return 1

    with lab.run():
        _ask(client)
        with step("again"):
            _ask(client)
        judged()
    with lab.run(index=2):
        _ask(client)
    assert attempts(lab) == [(1, 1, "error"), (2, 1, "error"), (3, 1, "error"), (1, 1, "ok")]


def test_jobs_of_one_thread_are_calls_of_their_own(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([faults.server_error(), "b", "c"])
    client = client_of(lab)
    with lab.run():
        with ThreadPoolExecutor(1) as pool:
            list(pool.map(lambda _: _ask(client), range(2)))
        thread = threading.Thread(target=_ask, args=[client])
        thread.start()
        thread.join()
    assert attempts(lab) == [(1, 1, "error"), (2, 1, "ok"), (3, 1, "ok")]


def test_tasks_that_begin_after_a_failure_are_calls_of_their_own(open_lab: OpenLab) -> None:
    lab = open_lab([faults.server_error(), *"bcde"])

    async def ask(client: AsyncOpenAI) -> None:
        with suppress(openai.APIError):
            await client.chat.completions.create(model="m", messages=HELLO)

    async def body() -> None:
        async with AsyncOpenAI(base_url=lab.server.base_url, api_key="x", max_retries=0) as client:
            await ask(client)
            await asyncio.gather(ask(client), ask(client))
            await ask(client)

    with lab.run():
        asyncio.run(body())
    # the last one is of the task whose call failed: no other call of its own came between
    assert sorted(attempts(lab)) == [(1, 2, "ok"), (2, 1, "ok"), (3, 1, "ok")]


def test_a_stream_that_broke_off_keeps_what_was_read_of_it(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([faults.cut_stream(after=3), "whole"])
    client = client_of(lab)
    with lab.run():
        for _ in range(2):
            with suppress(Exception):
                list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    assert attempts(lab) == [(1, 1, "error"), (2, 1, "ok")]


def test_a_timeout_leaves_a_row_with_the_error(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([faults.hang()])
    with lab.run(), pytest.raises(openai.APITimeoutError):
        client_of(lab, timeout=0.1).chat.completions.create(model="m", messages=HELLO)
    assert lab.call().error is not None
    assert "Timeout" in str(lab.call().error)


def test_a_body_that_breaks_off_leaves_a_row_with_the_error(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([faults.cut_body()])
    with lab.run(), pytest.raises(APIConnectionError):
        client_of(lab).chat.completions.create(model="m", messages=HELLO)
    assert lab.call().status == "error"


def test_a_cancelled_call_leaves_a_row_with_the_error(open_lab: OpenLab) -> None:
    lab = open_lab([faults.hang()])

    async def body() -> None:
        async with AsyncOpenAI(base_url=lab.server.base_url, api_key="x") as client:
            call = asyncio.create_task(client.chat.completions.create(model="m", messages=HELLO))
            await asyncio.to_thread(lab.server.wait_for_requests, 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    with lab.run():
        asyncio.run(body())
    assert (lab.call().status, str(lab.call().error).partition(":")[0]) == ("error", "CancelledError")


# -- streams -----------------------------------------------------------------------------------------------------


def test_a_stream_is_recorded_put_together(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([Answer("one two three")])
    with lab.run():
        stream = client_of(lab).chat.completions.create(
            model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    call = lab.call()
    assert text == "one two three"
    assert call.response["choices"][0]["message"] == {"role": "assistant", "content": "one two three"}
    assert call.response["choices"][0]["finish_reason"] == "stop"
    assert (call.status, call.error) == ("ok", None)
    assert call.model_returned == "local-script (not an LLM)"
    assert call.output_tokens == 3
    assert call.first_token_s is not None
    assert call.latency_s is not None
    assert 0 < call.first_token_s <= call.latency_s
    assert call.finish_reason == "stop"
    content_type, content = wire.restore_stream(call.stream)
    assert wire.is_stream(content_type)
    assert wire.read_stream(content_type, content).response == call.response


def test_a_stream_without_usage_has_unknown_tokens(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([Answer("one two three")])
    with lab.run():
        list(client_of(lab).chat.completions.create(model="m", messages=HELLO, stream=True))
    assert (lab.call().status, lab.call().output_tokens) == ("ok", None)


def test_streamed_tool_calls_are_put_together(open_lab: OpenLab, client_of: ClientOf) -> None:
    calls = [ToolCall("weather", {"city": "Oslo"}, "a"), ToolCall("weather", {"city": "Rome"}, "b")]
    lab = open_lab([Answer(tool_calls=calls)] * 2)
    client = client_of(lab)
    with lab.run():
        list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
        client.chat.completions.create(model="m", messages=HELLO)
    streamed, whole = (call.response["choices"][0]["message"]["tool_calls"] for call in lab.calls())
    assert streamed == whole


def test_a_streamed_response_is_recorded_as_its_last_state(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([Answer("one two three")])
    with lab.run():
        list(client_of(lab).responses.create(model="m", input="hello", stream=True))
    call = lab.call()
    assert (call.status, call.output_tokens) == ("ok", 3)
    assert call.response["output"][0]["content"][0]["text"] == "one two three"


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_a_cut_stream_is_recorded_as_far_as_it_came(open_lab: OpenLab, client_of: ClientOf, endpoint: str) -> None:
    lab = open_lab([faults.cut_stream(after=3, text="one two three four five six")])
    client = client_of(lab)
    with lab.run(), pytest.raises(Exception, match=r"incomplete chunked read|Connection error"):
        if endpoint == "chat":
            list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
        else:
            list(client.responses.create(model="m", input="hello", stream=True))
    call = lab.call()
    assert call.status == "error"
    assert "RemoteProtocolError" in str(call.error)
    if endpoint == "chat":
        assert call.response["choices"][0]["message"]["content"].startswith("one two")
        assert call.model_returned == "local-script (not an LLM)"
    else:
        assert len(call.response["events"]) == 3


def test_an_error_in_the_middle_of_a_stream_is_the_calls_error(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([faults.stream_error(after=3, text="one two three four")])
    with lab.run(), pytest.raises(APIError):
        list(client_of(lab).chat.completions.create(model="m", messages=HELLO, stream=True))
    call = lab.call()
    assert call.status == "error"
    assert str(call.error).startswith("the stream ended with an error: ")
    assert call.response["choices"][0]["message"]["content"].startswith("one two")


LONG = Answer(" ".join(["word"] * 20_000))


def _with_block(stream: Any) -> None:
    with stream:
        next(iter(stream))
        next(iter(stream))


def _break(stream: Any) -> None:
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break


def _break_and_fail(stream: Any) -> None:
    for chunk in stream:
        assert not chunk.choices[0].delta.content


def _nothing(stream: Any) -> None:
    with stream:
        pass


@pytest.mark.parametrize("leave", [_with_block, _break, _break_and_fail, _nothing])
def test_a_stream_that_the_caller_leaves_is_no_failure(open_lab: OpenLab, client_of: ClientOf, leave: Any) -> None:
    lab = open_lab([LONG])
    with lab.run(), suppress(AssertionError):
        leave(client_of(lab).chat.completions.create(model="m", messages=HELLO, stream=True))
    call = lab.call()
    assert (call.status, call.error, call.finish_reason, call.closed_early) == ("ok", None, None, True)
    assert (call.input_tokens, call.output_tokens) == (None, None)
    assert call.latency_s is not None
    if leave is not _nothing:
        assert call.response["choices"][0]["message"]["content"].startswith("word")
        assert call.first_token_s is not None
        assert call.first_token_s <= call.latency_s


def test_a_stream_that_nobody_closes_took_as_long_as_it_was_read(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([LONG])
    with lab.run():
        chunks = iter(client_of(lab).chat.completions.create(model="m", messages=HELLO, stream=True))
        next(chunks)
        read_until = time.perf_counter()
        while time.perf_counter() < read_until + 0.5:
            pass
    call = lab.call()
    assert (call.status, call.closed_early) == ("ok", True)
    assert call.latency_s is not None
    assert call.first_token_s is not None
    assert call.latency_s < call.first_token_s + 0.5


class Stalling(BaseHTTPRequestHandler):
    """Begins a stream, and sends no more of it until its server ends."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b'data: {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "one"}}]}\n\n')
        self.server.ended.wait(30)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def stalling_url() -> Iterator[str]:
    """Return the base URL of a server whose streams stall."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    server.ended = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.ended.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def test_a_stream_that_the_run_gives_up_while_it_is_read_is_an_error(
    lab: Lab, client_of: ClientOf, stalling_url: str
) -> None:
    begun = threading.Event()

    def read() -> None:
        client = client_of(lab, base_url=stalling_url, timeout=5)
        with suppress(openai.APIError):
            for _ in client.chat.completions.create(model="m", messages=HELLO, stream=True):
                begun.set()

    with lab.run() as run:
        reading = threading.Thread(target=read, daemon=True)
        reading.start()
        assert begun.wait(10)
        while not next(iter(run.experiment.open_streams)).awaited:  # type: ignore[attr-defined]
            pass
        run.judge("error", phase="call", error="timeout")
    call = lab.call()
    assert call.response["choices"][0]["message"]["content"] == "one"
    assert (call.status, call.error) == ("error", "GivenUpError: the answer was given up while it was read")
    assert not call.closed_early


def test_a_body_that_is_no_stream_and_is_not_read_is_an_error(lab: Lab, client_of: ClientOf) -> None:
    with lab.run(), client_of(lab).chat.completions.with_streaming_response.create(model="m", messages=HELLO):
        pass
    assert (lab.call().status, lab.call().error) == ("error", "the client closed the response before its end")


def test_what_a_server_counted_before_a_stream_was_closed_is_no_sum(open_lab: OpenLab) -> None:
    lab = open_lab([LONG])
    library = the_clients_library()
    body = {"model": "m", "max_tokens": 9, "messages": HELLO, "stream": True}
    with (
        lab.run(),
        library.Client() as client,
        client.stream("POST", f"{lab.server.root_url}/v1/messages", json=body) as answer,
    ):
        next(answer.iter_lines())
    call = lab.call()
    assert call.response["usage"]["input_tokens"]
    assert (call.status, call.input_tokens, call.output_tokens) == ("ok", None, None)


def test_an_end_mark_in_two_pieces_ends_a_stream(open_lab: OpenLab) -> None:
    lab = open_lab([])
    with lab.run() as run:
        call = begin_call(Sent("POST", "http://x", "/v1/chat", "application/json", b'{"model": "m", "messages": []}'))
        assert call is not None
        copy = Copy(call, 200, "text/event-stream")
        event = b'data: {"object": "chat.completion.chunk", "choices": [{"delta": {}, "finish_reason": "stop"}]}'
        assert [copy.add(event + b"\n\ndata: [DO"), copy.add(b"NE]\n\n")] == [False, False]
        run.end_streams()
    assert (lab.call().status, lab.call().closed_early) == ("ok", False)


def test_a_refused_stream_is_an_error(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab([faults.client_error(400, "no streams today")])
    with lab.run(), pytest.raises(openai.BadRequestError, match="no streams today"):
        client_of(lab).chat.completions.create(model="m", messages=HELLO, stream=True)
    assert "no streams today" in str(lab.call().error)
    assert lab.call().response["error"]["message"] == "no streams today"


def test_asynchronous_streams_are_recorded_the_same(open_lab: OpenLab) -> None:
    lab = open_lab([Answer("one two three"), faults.cut_stream(after=3, text="one two three four five")])

    async def read(client: AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        async for _ in stream:
            pass

    async def body() -> None:
        async with AsyncOpenAI(base_url=lab.server.base_url, api_key="x", max_retries=0) as client:
            await read(client)
            with pytest.raises(Exception, match=r"incomplete chunked read|Connection error"):
                await read(client)

    with lab.run():
        asyncio.run(body())
    whole, cut = lab.calls()
    assert whole.response["choices"][0]["message"]["content"] == "one two three"
    assert (whole.status, cut.status) == ("ok", "error")
    assert whole.stream is not None
    assert cut.stream is None
    assert cut.response["choices"][0]["message"]["content"].startswith("one two")


def test_the_clients_streaming_of_whole_answers_is_recorded(lab: Lab, client_of: ClientOf) -> None:
    with (
        lab.run(),
        client_of(lab).chat.completions.with_streaming_response.create(model="m", messages=HELLO) as response,
    ):
        assert "echo: hello" in "".join(response.iter_text())
    assert lab.call().response["choices"][0]["message"]["content"] == "echo: hello"
    assert lab.call().status == "ok"


# -- secrets -----------------------------------------------------------------------------------------------------


def test_keys_and_headers_never_reach_the_disk(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab(["a", faults.client_error(401, f"Incorrect API key provided: {KEY}"), "c"], api_key=KEY)
    secret_header = "header-value-4711"
    client = client_of(lab, api_key=KEY, default_headers={"X-Team": secret_header})
    with lab.run() as run:
        SimpleBot("You help.")("hello")
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="m", messages=HELLO)
        client.with_options(base_url=lab.server.base_url.replace("//", f"//user:{KEY}@")).chat.completions.create(
            model="m", messages=HELLO, extra_query={"key": KEY}
        )
        run.describe(output={"key": KEY})

    def found() -> list[str]:
        files = lab.path.parent.glob(f"{lab.path.name}*")
        contents = {path.name: path.read_bytes() for path in files}
        assert any(b"You help." in content for content in contents.values())
        return [name for name, held in contents.items() if KEY.encode() in held or secret_header.encode() in held]

    assert found() == []
    assert lab.close() == []
    assert found() == []
    assert [call.status for call in lab.calls()] == ["ok", "error", "ok"]


# -- the hook itself ---------------------------------------------------------------------------------------------


def test_no_patch_is_left_behind() -> None:
    def methods() -> list[Any]:
        return [vars(kind)["send"] for library in libraries() for kind in (library.Client, library.AsyncClient)]

    before = methods()
    with capturing():
        during = methods()
        with capturing():
            assert methods() == during
        assert methods() == during
    assert methods() == before
    assert all(one is not other for one, other in zip(before, during, strict=True))


def test_nested_hooks_record_a_call_once(lab: Lab, client_of: ClientOf) -> None:
    with capturing(), capturing(), lab.run():
        client_of(lab).chat.completions.create(model="m", messages=HELLO)
    assert len(lab.calls()) == 1


def test_the_hook_stays_until_the_last_user_leaves(lab: Lab, client_of: ClientOf) -> None:
    first, second = capturing(), capturing()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with lab.run():
        client_of(lab).chat.completions.create(model="m", messages=HELLO)
    second.__exit__(None, None, None)
    assert len(lab.calls()) == 1


def test_a_patch_that_others_wrapped_stays_but_sees_nothing(open_lab: OpenLab, client_of: ClientOf) -> None:
    lab = open_lab(lambda _: "hello")
    client, kind = client_of(lab), the_clients_library().Client
    mine = vars(kind)["send"]
    passed: list[str] = []

    def wrapped_by_others(self: Any, request: Any, **options: Any) -> Any:
        passed.append(str(request.url.path))
        return mine(self, request, **options)

    try:
        kind.send = wrapped_by_others
        lab.close()
        assert vars(kind)["send"] is wrapped_by_others
        with capturing():
            client.chat.completions.create(model="m", messages=HELLO)
    finally:
        kind.send = mine.__wrapped__
    assert passed == ["/v1/chat/completions"]
    assert lab.calls() == []


def test_responses_keep_what_the_client_library_gives_them(lab: Lab, client_of: ClientOf) -> None:
    library = the_clients_library()
    with (
        lab.run(),
        library.Client() as client,
        client.stream(
            "POST", f"{lab.server.base_url}/chat/completions", json={"model": "m", "messages": HELLO}
        ) as response,
    ):
        response.read()
        assert response.elapsed.total_seconds() > 0
        assert response.json()["choices"]
    assert lab.call().status == "ok"


# -- a failing store ---------------------------------------------------------------------------------------------


def break_store(lab: Lab, table: str) -> None:
    """Let the store refuse every row of a table from now on, as a full disk would."""
    lab.flush()
    with sqlite3.connect(lab.path) as connection:
        connection.execute(
            f"CREATE TRIGGER full_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    connection.close()


@pytest.mark.parametrize("table", ["calls", "bots", "prompt_versions", "prompt_uses", "metrics"])
def test_a_store_that_fails_changes_no_outcome_and_is_noted(lab: Lab, table: str) -> None:
    @prompt("system")
    def helper() -> None:
        """You help."""

    @metric
    def length(text: str) -> int:
        return len(text)

    with lab.run():
        break_store(lab, table)
        assert SimpleBot(helper())("hello") == "echo: hello"
        assert length("four") == 4
    problems = lab.close()
    assert problems
    assert all("disk full" in problem or "FOREIGN KEY" in problem for problem in problems)
    assert lab.store.runs(lab.id)[0].status == "passed"


def test_an_asynchronous_call_survives_a_failing_store_quietly(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> str:
        return await AsyncSimpleBot()("hello")

    with lab.run():
        break_store(lab, "calls")
        assert asyncio.run(body()) == "echo: hello"
    gc.collect()
    assert caplog.records == []
    assert any("disk full" in problem for problem in lab.close())


def test_problems_are_kept_up_to_a_hundred(lab: Lab) -> None:
    with lab.run() as run:
        break_store(lab, "metrics")
        for index in range(150):
            run.record_metric(f"metric {index}", index)
    assert len(lab.close()) == 100


def test_a_run_is_forgotten_when_it_is_over(lab: Lab) -> None:
    with lab.run() as run:
        SimpleBot()("hello")
        known = weakref.ref(run)
    del run
    gc.collect()
    assert known() is None
