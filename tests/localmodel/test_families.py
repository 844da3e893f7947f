"""What holds for every family of APIs: scripted answers, faults, and errors in its own shape."""

import http.client
from typing import Any, NamedTuple

import pytest

from pytest_llmexp.localmodel import LABEL, SCRIPT_LABEL, Answer, LocalModelServer, faults
from tests.localmodel.plain_http import get, post


class Family(NamedTuple):
    """How to ask: a path and a body, for an answer in one piece and for a stream."""

    name: str
    path: str
    body: dict[str, Any]
    stream_path: str
    stream_body: dict[str, Any]
    unknown: str


MESSAGES = {"messages": [{"role": "user", "content": "Hello."}]}
STREAM = {**MESSAGES, "stream": True}
WHOLE = {**MESSAGES, "stream": False}
CONTENTS = {"contents": [{"parts": [{"text": "Hello."}]}]}
BLOCKS = {"messages": [{"role": "user", "content": [{"text": "Hello."}]}]}
GEMINI = "/v1beta/models/m"
FAMILIES = (
    Family("openai", "/v1/chat/completions", MESSAGES, "/v1/chat/completions", STREAM, "/v1/images"),
    Family("anthropic", "/v1/messages", MESSAGES, "/v1/messages", STREAM, "/v1/messages/batches"),
    Family(
        "gemini",
        f"{GEMINI}:generateContent",
        CONTENTS,
        f"{GEMINI}:streamGenerateContent?alt=sse",
        CONTENTS,
        f"{GEMINI}:countTokens",
    ),
    Family("ollama", "/api/chat", WHOLE, "/api/chat", MESSAGES, "/api/pull"),
    Family("bedrock", "/model/m/converse", BLOCKS, "/model/m/converse-stream", BLOCKS, "/model/m/invoke"),
)
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def shape(family: Family, error: Any) -> tuple[Any, Any]:
    """Return the name and the message of an error, from where the family has them."""
    if family.name == "ollama":
        return None, error["error"]
    if family.name == "bedrock":
        return error["__type"], error["message"]
    return error["error"]["status" if family.name == "gemini" else "type"], error["error"]["message"]


NAMES = {
    429: ("rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED", None, "ThrottlingException"),
    400: (*["invalid_request_error"] * 2, "INVALID_ARGUMENT", None, "ValidationException"),
    500: ("server_error", "api_error", "INTERNAL", None, "InternalServerException"),
    503: ("server_error", "api_error", "UNAVAILABLE", None, "ServiceUnavailableException"),
}


@every_family
def test_every_answer_says_in_a_header_where_it_comes_from(family: Family) -> None:
    with LocalModelServer(lambda request: "Hello." if request.index else faults.no_usage()) as server:
        answers = [post(server, family.path, family.body), post(server, family.stream_path, family.stream_body)]
    assert [answer.headers["x-local-model"] for answer in answers] == [SCRIPT_LABEL] * 2
    with LocalModelServer() as server:
        assert post(server, family.path, family.body).headers["x-local-model"] == LABEL


@every_family
@pytest.mark.parametrize("status", NAMES)
def test_an_error_has_the_shape_of_the_family(family: Family, status: int) -> None:
    with LocalModelServer(lambda request: Answer("Not now.", status=status, headers={"Retry-After": "2"})) as server:
        for path, body in ((family.path, family.body), (family.stream_path, family.stream_body)):
            response = post(server, path, body)
            assert response.status == status
            assert response.headers["retry-after"] == "2"
            assert shape(family, response.json) == (NAMES[status][FAMILIES.index(family)], "Not now.")


@every_family
def test_an_unknown_address_is_a_404_in_its_shape(family: Family, server: LocalModelServer) -> None:
    for response in (post(server, family.unknown, {}), get(server, family.unknown)):
        assert response.status == 404
        assert "Unknown request URL" in shape(family, response.json)[1]


@every_family
def test_malformed_json_is_refused_in_its_shape(family: Family, server: LocalModelServer) -> None:
    response = post(server, family.path, "no object")
    assert response.status == 400
    assert "no JSON object" in shape(family, response.json)[1]


@every_family
def test_a_stream_can_be_cut(family: Family) -> None:
    with LocalModelServer([faults.cut_stream(after=2)]) as server, pytest.raises(http.client.IncompleteRead):
        post(server, family.stream_path, family.stream_body)


@every_family
def test_a_body_can_be_cut(family: Family) -> None:
    with LocalModelServer([faults.cut_body(after=5)]) as server, pytest.raises(http.client.IncompleteRead) as cut:
        post(server, family.path, family.body)
    assert len(cut.value.partial) == 5


@every_family
def test_an_error_can_end_a_stream(family: Family) -> None:
    with LocalModelServer([faults.stream_error(after=2)]) as server:
        response = post(server, family.stream_path, family.stream_body)
    assert response.status == 200
    assert b"error in the stream" in response.raw
    assert b"DONE" not in response.raw


@every_family
def test_a_connection_can_be_reset(family: Family) -> None:
    with LocalModelServer([faults.reset()]) as server, pytest.raises(ConnectionResetError):
        post(server, family.path, family.body)


@every_family
def test_raw_bytes_can_be_sent(family: Family) -> None:
    with LocalModelServer([faults.html_page()]) as server:
        response = post(server, family.path, family.body)
    assert response.headers["content-type"] == "text/html"
    assert response.raw.startswith(b"<!doctype html>")


@every_family
def test_a_hanging_answer_is_in_flight_until_the_server_closes(family: Family) -> None:
    server = LocalModelServer(lambda request: faults.hang() if request.index == 0 else "Hello.").start()
    with pytest.raises(TimeoutError):
        post(server, family.path, family.body, timeout=0.05)
    post(server, family.stream_path, family.stream_body)
    assert (server.request_count, server.in_flight) == (2, 1)
    server.close()
    assert (server.request_count, server.in_flight) == (2, 0)


def test_fine_tuned_models_of_openai_are_no_methods_of_gemini(server: LocalModelServer) -> None:
    assert get(server, "/v1/models/ft:gpt-x:me").json["object"] == "model"
