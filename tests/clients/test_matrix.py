"""The calls of every client: captured once, attributed, and served again with the server gone."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from pytest_llmexp.localmodel import LocalModelServer, faults
from pytest_llmexp.replaying import ReplayFrom
from tests.clients import asking
from tests.clients.asking import WAYS, Way
from tests.tracking.conftest import Lab

# clients leave connections to the garbage collector, and frameworks warn of what they use of others
pytestmark = pytest.mark.filterwarnings("ignore")
OPENAI_2 = openai.__version__.startswith("2.")
NEEDED = {"openai", "anthropic", "google.genai", "ollama", "langchain_openai", "instructor", "pydantic_ai", "aiohttp"}
NEEDED |= {"requests", "urllib3"} | ({"litellm"} if OPENAI_2 else {"boto3"})


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


HERE = {name: way for name, way in WAYS.items() if _installed(way.needs)}


def test_every_client_of_this_environment_is_here() -> None:
    assert {way.needs for way in HERE.values()} >= NEEDED


@pytest.fixture
def server() -> Iterator[LocalModelServer]:
    """The sampling model: every answer is another one."""
    with LocalModelServer() as started:
        yield started


def answers(lab: Lab, way: Way) -> Any:
    with lab.run():
        if inspect.iscoroutinefunction(way.ask):
            return asyncio.run(way.ask(lab.server.root_url))
        return way.ask(lab.server.root_url)


@pytest.mark.parametrize("name", HERE)
def test_a_call_is_captured_once_and_replayed(name: str, server: LocalModelServer, tmp_path: Path) -> None:
    way = HERE[name]
    first = Lab(server, tmp_path)
    answered = answers(first, way)
    assert first.close() == []
    assert len(server.requests) == way.calls
    made = first.calls()
    assert len(made) == way.calls
    (run,) = first.store.runs(first.id)
    for call in made:
        assert (call.run_id, call.status, call.error) == (run.id, "ok", None)
        assert call.model_requested in ("m", "arn:aws:bedrock:us-east-1::foundation-model/m")
        assert call.latency_s is not None
        assert not way.tokens or call.input_tokens
    first.store.close()

    server.close()
    second = Lab(server, tmp_path, replay=ReplayFrom("only"))
    assert answers(second, way) == answered
    assert second.close() == []
    assert [call.replayed_from for call in second.calls()] == [call.id for call in made]
    second.store.close()


def _ask_with_retries(client: str, root: str) -> None:
    if client == "boto3":
        asking._bedrock(root).converse(**asking._CONVERSE)
    elif client == "anthropic":
        import anthropic

        anthropic.Anthropic(base_url=root, api_key="x", max_retries=2).messages.create(**asking._ANTHROPIC)
    else:
        openai.OpenAI(base_url=f"{root}/v1", api_key="x", max_retries=2).responses.create(model="m", input="hi")


@pytest.mark.parametrize("client", ["openai", "anthropic", *(["boto3"] if _installed("boto3") else [])])
def test_a_clients_own_retry_is_an_attempt_of_one_call(client: str, tmp_path: Path) -> None:
    with LocalModelServer([faults.server_error(503), "late"]) as server:
        lab = Lab(server, tmp_path)
        with lab.run():
            _ask_with_retries(client, server.root_url)
        assert lab.close() == []
    (call,) = lab.calls()
    assert (call.attempts, call.status, call.error) == (2, "ok", None)
    lab.store.close()


def _genai_retrying(root: str) -> Any:
    from google import genai

    retries = {"attempts": 3, "initial_delay": 0.01, "max_delay": 0.02}
    return genai.Client(api_key="x", http_options={"base_url": root, "retry_options": retries})


def _genai_again(root: str) -> None:
    with _genai_retrying(root) as client:
        client.models.generate_content(model="m", contents="hi")


async def _genai_again_async(root: str) -> None:
    async with _genai_retrying(root).aio as client:
        await client.models.generate_content(model="m", contents="hi")


def _litellm_again(root: str) -> None:
    import litellm

    litellm.completion(**{**asking._LITELLM, "num_retries": 2, "max_retries": 0}, api_base=f"{root}/v1")


async def _litellm_again_async(root: str) -> None:
    import litellm

    await litellm.acompletion(**{**asking._LITELLM, "num_retries": 2, "max_retries": 0}, api_base=f"{root}/v1")


def _tenacity_again(root: str) -> None:
    import tenacity

    with asking._openai(root) as client:
        for attempt in tenacity.Retrying(wait=tenacity.wait_fixed(0.01), stop=tenacity.stop_after_attempt(3)):
            with attempt:
                client.chat.completions.create(model="m", messages=asking.MESSAGES)


async def _tenacity_again_async(root: str) -> None:
    import tenacity

    async with openai.AsyncOpenAI(base_url=f"{root}/v1", api_key="x", max_retries=0) as client:
        async for attempt in tenacity.AsyncRetrying(
            wait=tenacity.wait_fixed(0.01), stop=tenacity.stop_after_attempt(3)
        ):
            with attempt:
                await client.chat.completions.create(model="m", messages=asking.MESSAGES)


AGAIN = {
    "google.genai": [_genai_again, _genai_again_async],
    "litellm": [_litellm_again, _litellm_again_async],
    "tenacity": [_tenacity_again, _tenacity_again_async],
}


@pytest.mark.parametrize("fault", [faults.server_error(503), faults.rate_limited(0.01)])
@pytest.mark.parametrize("again", [ask for needs, ways in AGAIN.items() if _installed(needs) for ask in ways])
def test_a_retry_that_does_not_say_so_is_an_attempt_of_one_call(again: Any, fault: Any, tmp_path: Path) -> None:
    with LocalModelServer([fault, fault, "late"]) as server:
        lab = Lab(server, tmp_path)
        with lab.run():
            if inspect.iscoroutinefunction(again):
                asyncio.run(again(server.root_url))
            else:
                again(server.root_url)
        assert lab.close() == []
    (call,) = lab.calls()
    assert (call.attempts, call.status, call.error) == (3, "ok", None)
    lab.store.close()
