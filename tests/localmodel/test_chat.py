"""Chat completions, seen through the real client."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from pytest_llmexp.localmodel import LABEL, LOCAL_MODEL, LocalModelServer

JOB = "Give me a name for a job that follows this description: someone who builds full stack AI apps."
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": JOB}]
PARCEL: list[ChatCompletionMessageParam] = [{"role": "user", "content": "My parcel never came. What now?"}]


class Job(BaseModel):
    name: str
    description: str


def test_answer_says_that_it_comes_from_no_language_model(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-anything", messages=ASKED)
    assert answer.model == LABEL
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


def test_usage_counts_prompt_and_answer(client: OpenAI) -> None:
    usage = client.chat.completions.create(model=LOCAL_MODEL, messages=ASKED).usage
    assert usage is not None
    assert usage.prompt_tokens > 10
    assert usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 0


def test_n_gives_so_many_choices(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=LOCAL_MODEL, messages=PARCEL, n=5, temperature=1.5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3, 4]
    assert len({choice.message.content for choice in answer.choices}) > 1


def test_token_limit_ends_the_answer_with_length(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=LOCAL_MODEL, messages=PARCEL, max_tokens=4)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4
    newer = client.chat.completions.create(model=LOCAL_MODEL, messages=PARCEL, max_completion_tokens=4)
    assert newer.choices[0].finish_reason == "length"


def test_stop_text_is_not_part_of_the_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=LOCAL_MODEL, messages=PARCEL, stop=[".", "?", "!"])
    assert not set(".?!") & set(answer.choices[0].message.content or "")


def test_stream_gives_the_same_text_as_one_answer(client: OpenAI) -> None:
    whole = client.chat.completions.create(model=LOCAL_MODEL, messages=PARCEL, temperature=0)
    chunks = list(client.chat.completions.create(model=LOCAL_MODEL, messages=PARCEL, temperature=0, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert len(chunks) > 5
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_stream_ends_with_usage_when_asked(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=LOCAL_MODEL, messages=PARCEL, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[-1].model == LABEL


def test_stream_helper_parses_a_model(client: OpenAI) -> None:
    with client.chat.completions.stream(model=LOCAL_MODEL, messages=ASKED, response_format=Job) as stream:
        parsed = stream.get_final_completion().choices[0].message.parsed
    assert parsed is not None
    assert parsed.name


def test_parse_gives_a_model(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model=LOCAL_MODEL, messages=ASKED, response_format=Job)
    parsed = answer.choices[0].message.parsed
    assert parsed is not None
    assert parsed.name
    assert parsed.description


def test_json_object_has_the_keys_that_the_prompt_names(client: OpenAI) -> None:
    asked = 'Describe a job as a JSON object with the keys "name" and "description".'
    answer = client.chat.completions.create(
        model=LOCAL_MODEL, messages=[{"role": "user", "content": asked}], response_format={"type": "json_object"}
    )
    assert set(json.loads(answer.choices[0].message.content or "")) == {"name", "description"}


def test_json_object_fits_a_schema_in_the_prompt(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=LOCAL_MODEL,
        messages=[
            {"role": "system", "content": f"Fit this schema: {json.dumps(Job.model_json_schema())}"},
            *ASKED,
        ],
        response_format={"type": "json_object"},
    )
    assert Job.model_validate_json(answer.choices[0].message.content or "").name


def test_logprobs_are_given_for_every_token(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=LOCAL_MODEL, messages=PARCEL, logprobs=True)
    choice = answer.choices[0]
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert "".join(token.token for token in tokens) == choice.message.content
    assert all(token.logprob <= 1e-9 for token in tokens)


def test_async_client_works(server: LocalModelServer) -> None:
    async def ask() -> list[str | None]:
        async with AsyncOpenAI(base_url=server.base_url, api_key="local") as client:
            calls = [client.chat.completions.create(model=LOCAL_MODEL, messages=PARCEL) for _ in range(20)]
            stream = await client.chat.completions.create(model=LOCAL_MODEL, messages=PARCEL, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            return [text, *(answer.choices[0].message.content for answer in await asyncio.gather(*calls))]

    assert all(asyncio.run(ask()))


def test_sixty_four_threads_are_answered(server: LocalModelServer) -> None:
    def ask(number: int) -> str:
        with OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client:
            return client.chat.completions.create(model=f"m{number}", messages=PARCEL).model

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(ask, range(128))) == [LABEL] * 128
    assert {request.body["model"] for request in server.requests} == {f"m{number}" for number in range(128)}
    assert [request.index for request in server.requests] == list(range(128))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ASKED, "temperature": 3}, "temperature"),
        ({"messages": ASKED, "max_tokens": 0}, "max_tokens"),
        ({"messages": ASKED, "response_format": {"type": "json_schema"}}, "response_format"),
        ({"messages": ASKED, "tools": [{"type": "function"}]}, "tools"),
    ],
)
def test_a_wrong_body_is_refused_with_the_name_of_its_field(
    client: OpenAI, body: dict[str, object], param: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.post("/chat/completions", body={"model": LOCAL_MODEL, **body}, cast_to=object)
    assert refused.value.param == param


def test_unknown_address_is_a_404(client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="Unknown request URL"):
        client.post("/images/generations", body={"model": "x"}, cast_to=object)


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [LOCAL_MODEL]
    assert client.models.retrieve("anything").id == "anything"


def test_path_without_version_works(server: LocalModelServer) -> None:
    with OpenAI(base_url=server.base_url.removesuffix("/v1"), api_key="local") as client:
        assert client.chat.completions.create(model=LOCAL_MODEL, messages=PARCEL).model == LABEL
    assert server.requests[0].path == "/chat/completions"
