"""Scripted answers and faults, each as the real client sees it."""

import importlib
import json
import threading
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, ValidationError

from pytest_llmexp.localmodel import LABEL, SAMPLE, SCRIPT_LABEL, Answer, LocalModelServer, Request, Usage, faults
from tests.localmodel.conftest import ScriptedClient

ASKED: Any = [{"role": "user", "content": "Name a job."}]


class Job(BaseModel):
    name: str


def content(client: OpenAI) -> str | None:
    return client.chat.completions.create(model="x", messages=ASKED).choices[0].message.content


def streamed(client: OpenAI) -> str:
    chunks = client.chat.completions.create(model="x", messages=ASKED, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_list_is_consumed_in_order(scripted: ScriptedClient) -> None:
    server, client = scripted(["one", {"name": "two"}, Answer("three")])
    assert [content(client) for _ in range(3)] == ["one", '{"name": "two"}', "three"]
    assert [request.index for request in server.requests] == [0, 1, 2]


def test_an_exhausted_list_is_an_error_that_is_not_retried(scripted: ScriptedClient) -> None:
    server, client = scripted(["one"], max_retries=5)
    content(client)
    with pytest.raises(openai.InternalServerError, match="the script is exhausted: it has 1 answers"):
        content(client)
    assert len(server.requests) == 2


def test_a_function_sees_the_request(scripted: ScriptedClient) -> None:
    def script(request: Request) -> str:
        return f"{request.path} {request.index} {request.body['model']}"

    _, client = scripted(script)
    assert content(client) == "/chat/completions 0 x"


def test_a_failing_function_is_an_error_that_names_its_cause(scripted: ScriptedClient) -> None:
    def script(request: Request) -> str:
        raise LookupError("no such ticket")

    _, client = scripted(script, max_retries=3)
    with pytest.raises(openai.InternalServerError, match="no such ticket"):
        content(client)


def test_sampled_and_scripted_answers_mix_and_say_which_they_are(scripted: ScriptedClient) -> None:
    _, client = scripted([SAMPLE, "fixed"])
    models = [client.chat.completions.create(model="x", messages=ASKED).model for _ in range(2)]
    assert models == [LABEL, SCRIPT_LABEL]


def test_usage_is_counted_given_or_missing(scripted: ScriptedClient) -> None:
    _, client = scripted(["two words", Answer("x", usage=Usage(100, 7, 60, 2)), faults.no_usage()])
    counted, given, missing = (client.chat.completions.create(model="x", messages=ASKED).usage for _ in range(3))
    assert counted is not None
    assert counted.completion_tokens == 2
    assert given is not None
    assert given.prompt_tokens_details is not None
    assert (given.total_tokens, given.prompt_tokens_details.cached_tokens) == (107, 60)
    assert missing is None


def test_no_secret_is_kept_of_the_headers(scripted: ScriptedClient) -> None:
    server, client = scripted(["x"])
    content(client)
    assert "x-stainless-retry-count" in server.requests[0].headers
    assert "authorization" not in server.requests[0].headers


def test_rate_limit_is_retried_after_the_given_time(scripted: ScriptedClient) -> None:
    server, client = scripted([faults.rate_limited(retry_after=0.01), "done"], max_retries=1)
    assert content(client) == "done"
    assert [request.headers["x-stainless-retry-count"] for request in server.requests] == ["0", "1"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.rate_limited(), openai.RateLimitError),
        (faults.server_error(), openai.InternalServerError),
        (faults.server_error(503), openai.InternalServerError),
        (faults.client_error(), openai.BadRequestError),
        (faults.client_error(401), openai.AuthenticationError),
        (faults.reset(), openai.APIConnectionError),
        (faults.cut_body(), openai.APIConnectionError),
        (faults.bad_json(), json.JSONDecodeError),
        (faults.empty_body(), json.JSONDecodeError),
    ],
)
def test_faults_are_the_errors_of_the_client(scripted: ScriptedClient, fault: Answer, error: type[Exception]) -> None:
    _, client = scripted([fault, "the connection works again"])
    with pytest.raises(error):
        content(client)
    assert content(client) == "the connection works again"


def test_a_hanging_answer_is_a_timeout(scripted: ScriptedClient) -> None:
    server, client = scripted([faults.hang()], timeout=0.1)
    with pytest.raises(openai.APITimeoutError):
        content(client)
    assert len(server.wait_for_requests(1)) == 1


def test_a_slow_answer_arrives(scripted: ScriptedClient) -> None:
    _, client = scripted([faults.slow(0.01, "late")])
    assert content(client) == "late"


def test_a_web_page_is_no_completion(scripted: ScriptedClient) -> None:
    _, client = scripted([faults.html_page()])
    answer: Any = client.chat.completions.create(model="x", messages=ASKED)
    assert isinstance(answer, str)
    assert "Sign in" in answer


def test_a_completion_without_choices_arrives(scripted: ScriptedClient) -> None:
    _, client = scripted([faults.no_choices()])
    assert client.chat.completions.create(model="x", messages=ASKED).choices == []


def test_a_truncated_structure_is_a_length_error(scripted: ScriptedClient) -> None:
    _, client = scripted([faults.truncated()])
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="x", messages=ASKED, response_format=Job)


def test_a_wrong_structure_is_a_validation_error(scripted: ScriptedClient) -> None:
    _, client = scripted([{"title": "no name"}])
    with pytest.raises(ValidationError):
        client.chat.completions.parse(model="x", messages=ASKED, response_format=Job)


def test_a_refusal_has_no_content(scripted: ScriptedClient) -> None:
    _, client = scripted([faults.refused("No.")])
    message = client.chat.completions.parse(model="x", messages=ASKED, response_format=Job).choices[0].message
    assert (message.content, message.parsed, message.refusal) == (None, None, "No.")


def test_a_cut_stream_is_a_connection_error(scripted: ScriptedClient) -> None:
    _, client = scripted([faults.cut_stream(after=2)])
    with pytest.raises((openai.APIConnectionError, *_transport_errors())):
        streamed(client)


def test_an_error_in_a_stream_is_an_api_error(scripted: ScriptedClient) -> None:
    _, client = scripted([faults.stream_error(after=2)] * 2)
    with pytest.raises(openai.APIError, match="error in the stream"):
        streamed(client)
    with pytest.raises(openai.APIError, match="error in the stream"):
        list(client.responses.create(model="x", input="Hi.", stream=True))


def test_any_path_can_be_scripted_with_raw_bytes(scripted: ScriptedClient) -> None:
    _, client = scripted([Answer(body=b'{"content": []}')])
    assert client.post("/messages", body={"model": "x"}, cast_to=object) == {"content": []}


def test_embeddings_fail_when_scripted_to(scripted: ScriptedClient) -> None:
    _, client = scripted([faults.server_error(), SAMPLE])
    with pytest.raises(openai.InternalServerError):
        client.embeddings.create(model="x", input="a")
    assert client.embeddings.create(model="x", input="a").model == LABEL


def test_no_more_threads_than_before_after_closing_with_open_connections() -> None:
    before = set(threading.enumerate())
    server = LocalModelServer([faults.hang()]).start()
    client = OpenAI(base_url=server.base_url, api_key="local", max_retries=0)
    client.models.list()
    failures: list[Exception] = []

    def ask() -> None:
        try:
            content(client)
        except openai.APIConnectionError as failure:
            failures.append(failure)

    waiting = threading.Thread(target=ask)
    waiting.start()
    server.wait_for_requests(1)
    server.close()
    server.close()
    waiting.join()
    client.close()
    assert len(failures) == 1
    assert set(threading.enumerate()) <= before
    assert len(server.requests) == 1


def test_waiting_for_requests_that_do_not_come_is_a_timeout(server: LocalModelServer) -> None:
    with pytest.raises(TimeoutError, match="0 of 1 requests"):
        server.wait_for_requests(1, timeout_s=0.01)


def test_a_server_must_be_started_once() -> None:
    server = LocalModelServer()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.base_url
    with server, pytest.raises(RuntimeError, match="started before"):
        server.start()


def _transport_errors() -> tuple[type[Exception], ...]:
    """Return the transport's own error: openai 2 lets it through in the middle of a stream, openai 3 wraps it."""
    if openai.VERSION.startswith("2."):
        return (importlib.import_module("httpx").RemoteProtocolError,)
    return ()
