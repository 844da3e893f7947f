"""How each client asks: one function per way, which takes the server's root URL and returns what it was answered.

The packages are imported inside: no environment has all of them. A way that is a coroutine function is asynchronous.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from pydantic import BaseModel

Ask = Callable[[str], Any]
AskAsync = Callable[[str], Awaitable[Any]]
TEXT = "Name a job for someone who builds full stack AI apps."
MESSAGES: Any = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": TEXT}]


class Job(BaseModel):
    """What structured answers are."""

    name: str
    remote: bool


class Way(NamedTuple):
    """One way to ask. `needs` is the package, `tokens` whether the answer tells them; `calls` how many it makes."""

    ask: Ask | AskAsync
    needs: str
    tokens: bool = True
    calls: int = 1


WAYS: dict[str, Way] = {}


def way(needs: str, *, tokens: bool = True, calls: int = 1) -> Callable[[Any], Any]:
    """Add a function to the ways."""

    def add(ask: Any) -> Any:
        WAYS[ask.__name__] = Way(ask, needs, tokens, calls)
        return ask

    return add


# -- openai ------------------------------------------------------------------------------------------------------


def _openai(root: str, **options: Any) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{root}/v1", api_key="x", max_retries=0, **options)


@way("openai")
def openai_chat(root: str) -> Any:
    with _openai(root) as client:
        return client.chat.completions.create(model="m", messages=MESSAGES).model_dump()


@way("openai")
def openai_parse(root: str) -> Any:
    with _openai(root) as client:
        return (
            client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Job).choices[0].message.parsed
        )


@way("openai")
def openai_stream(root: str) -> Any:
    options = {"include_usage": True}
    with _openai(root) as client:
        chunks = client.chat.completions.create(model="m", messages=MESSAGES, stream=True, stream_options=options)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@way("openai")
def openai_responses_stream(root: str) -> Any:
    with _openai(root) as client, client.responses.stream(model="m", input=TEXT) as stream:
        return stream.get_final_response().output_text


@way("openai")
async def openai_async(root: str) -> Any:
    import openai

    async with openai.AsyncOpenAI(base_url=f"{root}/v1", api_key="x", max_retries=0) as client:
        answer = await client.responses.create(model="m", input=TEXT)
        return answer.output_text


@way("openai")
async def openai_async_over_aiohttp(root: str) -> Any:
    import openai

    http = openai.DefaultAioHttpClient()
    async with openai.AsyncOpenAI(base_url=f"{root}/v1", api_key="x", max_retries=0, http_client=http) as client:
        return (await client.chat.completions.create(model="m", messages=MESSAGES)).model_dump()


@way("openai")
async def openai_async_stream_over_aiohttp(root: str) -> Any:
    import openai

    http = openai.DefaultAioHttpClient()
    options: Any = {"include_usage": True}
    async with openai.AsyncOpenAI(base_url=f"{root}/v1", api_key="x", max_retries=0, http_client=http) as client:
        chunks = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True, stream_options=options)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])


@way("openai")
def azure_chat(root: str) -> Any:
    import openai

    options: Any = {"azure_endpoint": root, "api_key": "x", "api_version": "2026-01-01", "max_retries": 0}
    with openai.AzureOpenAI(**options) as client:
        return client.chat.completions.create(model="m", messages=MESSAGES).model_dump()


# -- anthropic ---------------------------------------------------------------------------------------------------

_ANTHROPIC: Any = {"model": "m", "max_tokens": 200, "messages": [{"role": "user", "content": TEXT}]}
_WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


@way("anthropic")
def anthropic_message(root: str) -> Any:
    import anthropic

    with anthropic.Anthropic(base_url=root, api_key="x", max_retries=0) as client:
        return client.messages.create(**_ANTHROPIC).model_dump()


@way("anthropic")
def anthropic_tool(root: str) -> Any:
    import anthropic

    tool = {"name": "weather", "description": "The weather", "input_schema": _WEATHER}
    with anthropic.Anthropic(base_url=root, api_key="x", max_retries=0) as client:
        choice = {"type": "tool", "name": "weather"}
        answer: Any = client.messages.create(**_ANTHROPIC, tools=[tool], tool_choice=choice)
        return [block.input for block in answer.content if block.type == "tool_use"]


@way("anthropic")
def anthropic_stream(root: str) -> Any:
    import anthropic

    with (
        anthropic.Anthropic(base_url=root, api_key="x", max_retries=0) as client,
        client.messages.stream(**_ANTHROPIC) as stream,
    ):
        return stream.get_final_message().model_dump()


@way("anthropic")
async def anthropic_async(root: str) -> Any:
    import anthropic

    async with anthropic.AsyncAnthropic(base_url=root, api_key="x", max_retries=0) as client:
        return (await client.messages.create(**_ANTHROPIC)).model_dump()


@way("anthropic")
async def anthropic_async_stream(root: str) -> Any:
    import anthropic

    async with anthropic.AsyncAnthropic(base_url=root, api_key="x", max_retries=0) as client:
        events = await client.messages.create(**_ANTHROPIC, stream=True)
        return [event.model_dump() async for event in events][-1]["type"]


# -- google-genai ------------------------------------------------------------------------------------------------


def _genai(root: str) -> Any:
    from google import genai

    return genai.Client(api_key="x", http_options={"base_url": root})


@way("google.genai")
def genai_content(root: str) -> Any:
    with _genai(root) as client:
        return client.models.generate_content(model="m", contents=TEXT).text


@way("google.genai")
def genai_stream(root: str) -> Any:
    with _genai(root) as client:
        return "".join(part.text or "" for part in client.models.generate_content_stream(model="m", contents=TEXT))


@way("google.genai")
def genai_schema(root: str) -> Any:
    config = {"response_mime_type": "application/json", "response_schema": Job}
    with _genai(root) as client:
        return client.models.generate_content(model="m", contents=TEXT, config=config).parsed


@way("google.genai", tokens=False)
def genai_embeddings(root: str) -> Any:
    with _genai(root) as client:
        answer = client.models.embed_content(model="m", contents=["a", "b"])
    return [each.values for each in answer.embeddings]


@way("google.genai")
async def genai_async(root: str) -> Any:
    async with _genai(root).aio as client:
        return (await client.models.generate_content(model="m", contents=TEXT)).text


@way("google.genai")
async def genai_async_stream(root: str) -> Any:
    async with _genai(root).aio as client:
        parts = await client.models.generate_content_stream(model="m", contents=TEXT)
        return "".join([part.text or "" async for part in parts])


# -- ollama ------------------------------------------------------------------------------------------------------


@way("ollama")
def ollama_chat(root: str) -> Any:
    import ollama

    return ollama.Client(host=root).chat(model="m", messages=MESSAGES).message.content


@way("ollama")
def ollama_stream(root: str) -> Any:
    import ollama

    return "".join(part.message.content for part in ollama.Client(host=root).chat("m", MESSAGES, stream=True))


@way("ollama")
def ollama_generate(root: str) -> Any:
    import ollama

    return ollama.Client(host=root).generate(model="m", prompt=TEXT).response


@way("ollama")
def ollama_embeddings(root: str) -> Any:
    import ollama

    return ollama.Client(host=root).embed(model="m", input=["a", "b"]).embeddings


@way("ollama")
async def ollama_async(root: str) -> Any:
    import ollama

    return (await ollama.AsyncClient(host=root).chat(model="m", messages=MESSAGES)).message.content


@way("ollama")
async def ollama_async_stream(root: str) -> Any:
    import ollama

    parts = await ollama.AsyncClient(host=root).chat("m", MESSAGES, stream=True)
    return "".join([part.message.content async for part in parts])


# -- Amazon Bedrock ----------------------------------------------------------------------------------------------

_CONVERSE: Any = {
    "modelId": "arn:aws:bedrock:us-east-1::foundation-model/m",
    "messages": [{"role": "user", "content": [{"text": TEXT}]}],
    "inferenceConfig": {"temperature": 0.5},
}


def _bedrock(root: str) -> Any:
    import boto3

    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    return boto3.client("bedrock-runtime", endpoint_url=root, region_name="us-east-1", **keys)


@way("boto3")
def bedrock_converse(root: str) -> Any:
    return _bedrock(root).converse(**_CONVERSE)["output"]["message"]


@way("boto3")
def bedrock_converse_stream(root: str) -> Any:
    return [event for event in _bedrock(root).converse_stream(**_CONVERSE)["stream"] if "messageStop" in event]


# -- frameworks --------------------------------------------------------------------------------------------------


def _agent(root: str, **options: Any) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return Agent(OpenAIChatModel("m", provider=OpenAIProvider(base_url=f"{root}/v1", api_key="x")), **options)


@way("pydantic_ai")
def pydantic_ai_sync(root: str) -> Any:
    return _agent(root).run_sync(TEXT).output


@way("pydantic_ai")
async def pydantic_ai_async(root: str) -> Any:
    return (await _agent(root, output_type=Job).run(TEXT)).output


@way("pydantic_ai")
async def pydantic_ai_stream(root: str) -> Any:
    async with _agent(root).run_stream(TEXT) as result:
        return await result.get_output()


@way("pydantic_ai")
async def pydantic_ai_google(root: str) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    model = GoogleModel("m", provider=GoogleProvider(api_key="x", base_url=root))
    return (await Agent(model).run(TEXT)).output


def _langchain(root: str) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="m", base_url=f"{root}/v1", api_key="x", max_retries=0)


@way("langchain_openai")
def langchain_invoke(root: str) -> Any:
    return _langchain(root).invoke(TEXT).content


@way("langchain_openai")
def langchain_stream(root: str) -> Any:
    return "".join(part.content for part in _langchain(root).stream(TEXT, stream_usage=True))


@way("langchain_openai")
async def langchain_async(root: str) -> Any:
    return (await _langchain(root).with_structured_output(Job).ainvoke(TEXT)).model_dump()


@way("langchain_openai")
async def langchain_async_stream(root: str) -> Any:
    return "".join([part.content async for part in _langchain(root).astream(TEXT, stream_usage=True)])


@way("instructor")
def instructor_sync(root: str) -> Any:
    import instructor

    with _openai(root) as client:
        asked = instructor.from_openai(client).chat.completions
        return asked.create(model="m", messages=MESSAGES, response_model=Job).model_dump()


@way("instructor")
async def instructor_async(root: str) -> Any:
    import instructor
    import openai

    async with openai.AsyncOpenAI(base_url=f"{root}/v1", api_key="x", max_retries=0) as client:
        asked = instructor.from_openai(client).chat.completions
        return (await asked.create(model="m", messages=MESSAGES, response_model=Job)).model_dump()


_LITELLM: Any = {"model": "openai/m", "messages": MESSAGES, "api_key": "x", "num_retries": 0}


@way("litellm")
def litellm_completion(root: str) -> Any:
    import litellm

    return litellm.completion(**_LITELLM, api_base=f"{root}/v1").choices[0].message.content


@way("litellm")
def litellm_stream(root: str) -> Any:
    import litellm

    options = {"include_usage": True}
    parts = litellm.completion(**_LITELLM, api_base=f"{root}/v1", stream=True, stream_options=options)
    return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)


@way("litellm")
async def litellm_async(root: str) -> Any:
    import litellm

    return (await litellm.acompletion(**_LITELLM, api_base=f"{root}/v1")).choices[0].message.content


@way("litellm")
async def litellm_async_stream(root: str) -> Any:
    import litellm

    options = {"include_usage": True}
    parts = await litellm.acompletion(**_LITELLM, api_base=f"{root}/v1", stream=True, stream_options=options)
    return "".join([part.choices[0].delta.content or "" async for part in parts if part.choices])


@way("litellm")
def litellm_anthropic(root: str) -> Any:
    import litellm

    asked = {**_LITELLM, "model": "anthropic/m"}
    return litellm.completion(**asked, api_base=root).choices[0].message.content


@way("litellm")
async def litellm_anthropic_async_stream(root: str) -> Any:
    import litellm

    parts = await litellm.acompletion(**{**_LITELLM, "model": "anthropic/m"}, api_base=root, stream=True)
    return "".join([part.choices[0].delta.content or "" async for part in parts if part.choices])


@way("litellm")
def litellm_embeddings(root: str) -> Any:
    import litellm

    answer = litellm.embedding(model="openai/m", input=["a"], api_key="x", api_base=f"{root}/v1")
    return answer.data[0]["embedding"]


# -- HTTP libraries as they are ----------------------------------------------------------------------------------

_BODY: Any = {"model": "m", "messages": MESSAGES}
_STREAMED: Any = {**_BODY, "stream": True, "stream_options": {"include_usage": True}}


@way("requests")
def requests_post(root: str) -> Any:
    import requests

    return requests.post(f"{root}/v1/chat/completions", json=_BODY, timeout=10).json()


@way("requests")
def requests_stream(root: str) -> Any:
    import requests

    answer = requests.post(f"{root}/v1/chat/completions", json=_STREAMED, stream=True, timeout=10)
    return _said(line.decode() for line in answer.iter_lines())


@way("urllib3")
def urllib3_post(root: str) -> Any:
    import urllib3

    with urllib3.PoolManager() as pool:
        answer = pool.request("POST", f"{root}/v1/chat/completions", json=_BODY)
        return answer.json()


@way("urllib3")
def urllib3_stream(root: str) -> Any:
    import urllib3

    with urllib3.PoolManager() as pool:
        answer = pool.request("POST", f"{root}/v1/chat/completions", json=_STREAMED, preload_content=False)
        said = b""
        while piece := answer.read(64):
            said += piece
        answer.release_conn()
        return _said(said.decode().splitlines())


@way("aiohttp")
async def aiohttp_post(root: str) -> Any:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.post(f"{root}/v1/chat/completions", json=_BODY) as answer:
        assert answer.ok
        return await answer.json()


@way("aiohttp")
async def aiohttp_stream(root: str) -> Any:
    import aiohttp

    async with (
        aiohttp.ClientSession(base_url=root) as session,
        session.post("/v1/chat/completions", json=_STREAMED) as answer,
    ):
        return _said([line.decode() async for line in answer.content])


@way("aiohttp")
async def aiohttp_pieces(root: str) -> Any:
    import aiohttp

    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session:
        answer = await session.post(f"{root}/v1/chat/completions", data=json.dumps(_BODY), headers=headers)
        pieces = [piece async for piece in answer.content.iter_chunked(20)]
        return json.loads(b"".join(pieces))


def _said(lines: Any) -> str:
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
