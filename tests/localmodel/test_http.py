"""What only a raw connection shows: malformed requests, keep-alive, speed, and the command that serves."""

import http.client
import json
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from pytest_llmexp.localmodel import LABEL, LocalModelServer, Request
from tests.localmodel.plain_http import post

BODY = json.dumps({"messages": [{"role": "user", "content": "Hello"}]})


@pytest.fixture
def connection(server: LocalModelServer) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as opened:
        yield opened


def answer(connection: http.client.HTTPConnection) -> tuple[int, Any]:
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@pytest.mark.parametrize("body", ["{not json", "[1]", "", '"text"'])
def test_malformed_json_is_refused_and_the_connection_stays(
    connection: http.client.HTTPConnection, server: LocalModelServer, body: str
) -> None:
    connection.request("POST", "/v1/chat/completions", body)
    status, error = answer(connection)
    assert status == 400
    assert "no JSON object" in error["error"]["message"]
    assert error["error"]["type"] == "invalid_request_error"
    connection.request("GET", "/v1/models")
    assert answer(connection)[0] == 200
    assert server.requests == []


def test_chunked_request_is_read(connection: http.client.HTTPConnection) -> None:
    parts = iter([BODY[:10].encode(), BODY[10:].encode()])
    connection.request("POST", "/v1/chat/completions", parts, encode_chunked=True)
    assert answer(connection)[1]["model"] == LABEL


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/v1/files"), ("DELETE", "/v1/models/x")])
def test_other_addresses_are_404_in_the_shape_of_openai(
    connection: http.client.HTTPConnection, method: str, path: str
) -> None:
    connection.request(method, path)
    status, error = answer(connection)
    assert status == 404
    assert error["error"]["code"] == "unknown_url"


def test_calls_do_not_wait_for_delayed_acknowledgements(connection: http.client.HTTPConnection) -> None:
    durations = []
    for _ in range(50):
        start = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", BODY, {"Content-Type": "application/json"})
        assert answer(connection)[0] == 200
        durations.append(time.perf_counter() - start)
    # With Nagle's algorithm every call takes 40 ms; the median is far from both sides even on a busy machine.
    assert statistics.median(durations) < 0.035


def test_many_connections_at_once_are_accepted(server: LocalModelServer) -> None:
    opened = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(256)]
    request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for one in opened:
        one.sendall(request)
    for one in opened:
        with one, one.makefile("rb") as reply:
            assert reply.read().startswith(b"HTTP/1.1 200")


def test_nothing_is_printed_when_clients_go_away(server: LocalModelServer, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as one:
        one.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
    server.close()
    assert capfd.readouterr() == ("", "")


def test_requests_in_flight_are_counted() -> None:
    release = threading.Event()

    def script(request: Request) -> str:
        release.wait(30)
        return "Done."

    with LocalModelServer(script) as server:
        assert (server.request_count, server.in_flight) == (0, 0)
        asking = [
            threading.Thread(target=post, args=(server, "/v1/chat/completions", json.loads(BODY))) for _ in range(3)
        ]
        for thread in asking:
            thread.start()
        server.wait_for_requests(3)
        assert server.in_flight == 3
        release.set()
        for thread in asking:
            thread.join()
        assert (server.request_count, server.in_flight) == (3, 0)


def test_the_root_is_the_base_without_its_version(server: LocalModelServer) -> None:
    assert server.base_url == f"{server.root_url}/v1"
    assert server.root_url == f"http://127.0.0.1:{server.port}"


def test_importing_needs_the_standard_library_only() -> None:
    code = (
        "import sys, pytest_llmexp.localmodel.__main__;"
        "print(sorted({'openai', 'pydantic', 'pytest', 'httpx', 'sqlalchemy', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_module_serves_until_it_is_terminated() -> None:
    command = [sys.executable, "-m", "pytest_llmexp.localmodel", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        port = int(url.removesuffix("/v1").rsplit(":", 1)[1])
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("POST", "/v1/chat/completions", BODY)
            assert answer(connection)[1]["model"] == LABEL
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
