"""Streams that are not read to their end, or in unusual ways, are recorded as far as they were read."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pytest_llmexp.core.models import Call
from pytest_llmexp.localmodel import Answer, LocalModelServer
from pytest_llmexp.replaying import ReplayFrom
from pytest_llmexp.tracking.replay import ReplayMissError
from tests.clients import asking
from tests.tracking.conftest import Lab

pytestmark = pytest.mark.filterwarnings("ignore")  # clients leave connections to the garbage collector
BODY = {"model": "m", "messages": asking.MESSAGES, "stream": True}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Return a lab whose server says three words."""
    with LocalModelServer(lambda _: Answer("one two three")) as server:
        opened = Lab(server, tmp_path)
        yield opened
        opened.close()
        opened.store.close()


def _said(call: Call) -> Any:
    return call.response["choices"][0]["message"]["content"]


def _urllib3_stream(lab: Lab) -> Any:
    urllib3 = pytest.importorskip("urllib3")
    return urllib3.PoolManager().request(
        "POST",
        f"{lab.server.base_url}/chat/completions",
        body=json.dumps(BODY),
        headers={"Content-Type": "application/json"},
        preload_content=False,
    )


@pytest.mark.parametrize("method", ["read", "read1"])
def test_to_read_nothing_of_a_urllib3_stream_is_not_its_end(lab: Lab, method: str) -> None:
    with lab.run():
        response = _urllib3_stream(lab)
        read = getattr(response, method)
        assert read(0) == b""
        first = read(10)
        assert read(0) == b""
        while read(100):
            pass
    assert first
    (call,) = lab.calls()
    assert (call.status, _said(call), call.finish_reason) == ("ok", "one two three", "stop")


def test_a_urllib3_stream_can_be_read_into_a_buffer(lab: Lab) -> None:
    with lab.run():
        response = _urllib3_stream(lab)
        response.auto_close = False  # as urllib3's documentation of BufferedReader and TextIOWrapper demands
        lines = list(io.TextIOWrapper(io.BufferedReader(response)))
    assert "data: [DONE]\n" in lines
    (call,) = lab.calls()
    assert (call.status, _said(call)) == ("ok", "one two three")


# -- closed early ------------------------------------------------------------------------------------------------

LONG = " ".join(f"word{number}" for number in range(20_000))  # more than what the sockets' buffers take
Stream = Callable[[str], Any]
STREAMS: dict[str, Stream] = {}


def streaming(needs: str) -> Callable[[Stream], Stream]:
    """Add a function that yields the pieces of an answer, if what it needs is installed."""

    def add(stream: Stream) -> Stream:
        if importlib.util.find_spec(needs.partition(".")[0]) and importlib.util.find_spec(needs):
            STREAMS[stream.__name__] = stream
        return stream

    return add


@streaming("openai")
def openai_stream(root: str) -> Iterator[Any]:
    with (
        asking._openai(root) as client,
        client.chat.completions.create(model="m", messages=asking.MESSAGES, stream=True) as chunks,
    ):
        for chunk in chunks:
            yield chunk.choices[0].delta.content


@streaming("openai")
def openai_left_open(root: str) -> Iterator[Any]:
    client = asking._openai(root)
    for chunk in client.chat.completions.create(model="m", messages=asking.MESSAGES, stream=True):
        yield chunk.choices[0].delta.content


@streaming("openai")
def openai_accumulated(root: str) -> Iterator[Any]:
    with (
        asking._openai(root) as client,
        client.chat.completions.stream(model="m", messages=asking.MESSAGES) as events,
    ):
        for event in events:
            if event.type == "chunk":
                yield event.snapshot.choices[0].message.content


@streaming("openai")
def openai_responses(root: str) -> Iterator[Any]:
    with asking._openai(root) as client, client.responses.stream(model="m", input="hello") as events:
        for event in events:
            yield event.type, getattr(event, "delta", None)


@streaming("openai")
async def openai_async_stream(root: str) -> AsyncIterator[Any]:
    import openai

    async with (
        openai.AsyncOpenAI(base_url=f"{root}/v1", api_key="x", max_retries=0) as client,
        await client.chat.completions.create(model="m", messages=asking.MESSAGES, stream=True) as chunks,
    ):
        async for chunk in chunks:
            yield chunk.choices[0].delta.content


@streaming("anthropic")
def anthropic_stream(root: str) -> Iterator[Any]:
    import anthropic

    with (
        anthropic.Anthropic(base_url=root, api_key="x", max_retries=0) as client,
        client.messages.stream(**asking._ANTHROPIC) as stream,
    ):
        yield from stream.text_stream


@streaming("google.genai")
def genai_stream(root: str) -> Iterator[Any]:
    with asking._genai(root) as client:
        for part in client.models.generate_content_stream(model="m", contents=asking.TEXT):
            yield part.text


@streaming("google.genai")
async def genai_async_stream(root: str) -> AsyncIterator[Any]:
    async with asking._genai(root).aio as client:
        async for part in await client.models.generate_content_stream(model="m", contents=asking.TEXT):
            yield part.text


@streaming("ollama")
def ollama_stream(root: str) -> Iterator[Any]:
    import ollama

    for part in ollama.Client(host=root).chat("m", asking.MESSAGES, stream=True):
        yield part.message.content


@streaming("boto3")
def bedrock_stream(root: str) -> Iterator[Any]:
    stream = asking._bedrock(root).converse_stream(**asking._CONVERSE)["stream"]
    try:
        for event in stream:
            yield event.get("contentBlockDelta", {}).get("delta")
    finally:
        stream.close()


@streaming("langchain_openai")
def langchain_stream(root: str) -> Iterator[Any]:
    for part in asking._langchain(root).stream(asking.TEXT):
        yield part.content


@streaming("litellm")
async def litellm_anthropic_async_stream(root: str) -> AsyncIterator[Any]:
    import litellm

    options = {**asking._LITELLM, "model": "anthropic/m"}
    async for part in await litellm.acompletion(**options, api_base=root, stream=True):
        yield part.choices[0].delta.content


@streaming("requests")
def requests_stream(root: str) -> Iterator[Any]:
    import requests

    with requests.post(f"{root}/v1/chat/completions", json=BODY, stream=True, timeout=10) as answer:
        yield from _contents(answer.iter_lines())


@streaming("urllib3")
def urllib3_stream(root: str) -> Iterator[Any]:
    import urllib3

    with urllib3.PoolManager() as pool:
        answer = pool.request("POST", f"{root}/v1/chat/completions", json=BODY, preload_content=False)
        yield from _contents(answer)
        answer.close()


@streaming("aiohttp")
async def aiohttp_stream(root: str) -> AsyncIterator[Any]:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.post(f"{root}/v1/chat/completions", json=BODY) as answer:
        async for line in answer.content:
            for content in _contents([line]):
                yield content


def _contents(lines: Any) -> Iterator[Any]:
    for line in lines:
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])["choices"][0]["delta"].get("content")


def _take(stream: Stream, root: str, most: int) -> list[Any]:
    """Return the first pieces of a stream, and leave it."""
    pieces = stream(root)
    if isinstance(pieces, Iterator):
        taken = list(islice(pieces, most))
        pieces.close()  # type: ignore[attr-defined]
        return taken

    async def take() -> list[Any]:
        taken = []
        async for piece in pieces:
            taken.append(piece)
            if len(taken) == most:
                break
        await pieces.aclose()
        return taken

    return asyncio.run(take())


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_its_client_closes_early_is_replayed_as_far_as_it_was_read(name: str, tmp_path: Path) -> None:
    with LocalModelServer(lambda _: Answer(LONG)) as server:
        first = Lab(server, tmp_path)
        with first.run():
            taken = _take(STREAMS[name], server.root_url, 8)
        assert first.close() == []
        (made,) = first.calls()
        first.store.close()
    assert len(taken) == 8
    assert (made.status, made.error, made.finish_reason) == ("ok", None, None)
    assert made.closed_early
    assert (made.input_tokens, made.output_tokens) == (None, None)
    assert made.first_token_s
    assert made.latency_s
    assert "word0 word1" in json.dumps(made.response)

    again = Lab(server, tmp_path, replay=ReplayFrom("only"))
    with again.run() as run:
        assert _take(STREAMS[name], server.root_url, 8) == taken
        assert run.refusal is None
    assert again.close() == []
    (served,) = again.calls()
    assert (served.replayed_from, served.status, served.closed_early) == (made.id, "ok", True)
    again.store.close()

    further = Lab(server, tmp_path, replay=ReplayFrom("only"))
    with further.run() as run, pytest.raises(ReplayMissError, match=rf"{made.id} was closed early by its client"):
        _take(STREAMS[name], server.root_url, 100_000)
    assert run.refusal is not None
    further.close()
    further.store.close()
