"""The openai client reads a restored stream to the same answer as the one that was recorded."""

from __future__ import annotations

import sys
from typing import Any

import openai
import pytest

from pytest_llmexp.tracking import wire
from tests.tracking.wire.samples import SAMPLES, SECRET


def client_that_gets(content_type: str, content: bytes) -> openai.OpenAI:
    library: Any = sys.modules["httpx2" if int(openai.__version__.split(".")[0]) >= 3 else "httpx"]
    answer = library.Response(200, headers={"content-type": content_type}, content=content)
    transport = library.MockTransport(lambda request: answer)
    return openai.OpenAI(api_key="x", base_url="http://test/v1", http_client=library.Client(transport=transport))


def completion(client: openai.OpenAI) -> Any:
    with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "x"}]) as stream:
        return stream.get_final_completion()


def response(client: openai.OpenAI) -> Any:
    with client.responses.stream(model="m", input="x") as stream:
        texts = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        return texts[-1:], stream.get_final_response()


@pytest.mark.parametrize(("name", "read"), [("chat", completion), ("responses", response)])
def test_a_restored_stream_is_read_to_the_same_answer(name: str, read: Any) -> None:
    sample = SAMPLES[name]
    restored = wire.restore_stream(wire.read_stream(sample.content_type, sample.content).record)
    assert len(restored[1]) < len(sample.content)
    answer = read(client_that_gets(*restored))
    assert answer == read(client_that_gets(sample.content_type, sample.content))
    assert SECRET in str(answer)


def test_the_response_is_the_one_the_client_comes_to() -> None:
    sample = SAMPLES["chat"]
    ours = wire.read_stream(sample.content_type, sample.content).response
    theirs = completion(client_that_gets(sample.content_type, sample.content)).to_dict()
    assert ours["usage"] == theirs["usage"]
    for key in ("role", "content"):
        assert ours["choices"][0]["message"][key] == theirs["choices"][0]["message"][key]
    (our_call,), (their_call,) = (answer["choices"][0]["message"]["tool_calls"] for answer in (ours, theirs))
    assert our_call["id"] == their_call["id"]
    assert our_call["function"]["arguments"] == their_call["function"]["arguments"]
