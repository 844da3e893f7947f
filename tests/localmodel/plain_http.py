"""Requests without any client, for the APIs whose clients the tests do not need: bytes in, bytes out."""

import http.client
import json
from contextlib import closing
from typing import Any, NamedTuple

from pytest_llmexp.localmodel import LocalModelServer


class Response(NamedTuple):
    """What came back; header names are in lower case."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.raw)

    @property
    def events(self) -> list[Any]:
        """The data of server-sent events, which must be named after their type if they are named."""
        assert self.headers["content-type"] == "text/event-stream"
        found = []
        for block in self.raw.decode().removesuffix("\n\n").split("\n\n"):
            *names, data = block.split("\n")
            found.append(json.loads(data.removeprefix("data: ")))
            assert names in ([], [f"event: {found[-1].get('type')}"])
        return found

    @property
    def lines(self) -> list[Any]:
        """The JSON of each line."""
        assert self.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in self.raw.splitlines()]


def post(server: LocalModelServer, path: str, body: Any, timeout: float = 30) -> Response:
    """Send a JSON body and read the whole response."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)) as connection:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return _read(connection)


def get(server: LocalModelServer, path: str) -> Response:
    """Read an address."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", path)
        return _read(connection)


def _read(connection: http.client.HTTPConnection) -> Response:
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Response(response.status, headers, response.read())
