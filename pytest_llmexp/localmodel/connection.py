"""One HTTP connection: reads requests, writes responses and faults.

Standard library only. Responses are buffered and Nagle's algorithm is off: with it a call on loopback takes 44 ms.
"""

import json
import socket
import struct
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import parse_qs, unquote, urlsplit

from pytest_llmexp.localmodel.answering import Outgoing, answer, catalog, error, unknown
from pytest_llmexp.localmodel.errors import Problem
from pytest_llmexp.localmodel.exchange import JsonObject
from pytest_llmexp.localmodel.routes import Route, find
from pytest_llmexp.localmodel.script import Answer

if TYPE_CHECKING:
    from pytest_llmexp.localmodel.listener import Listener

_KEPT_HEADERS = ("user-agent", "content-type", "accept", "idempotency-key")


class Connection(BaseHTTPRequestHandler):
    """Serves the requests of one connection until it is closed."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm: ClassVar[bool] = True
    wbufsize: ClassVar[int] = 64 * 1024

    @property
    def listener(self) -> "Listener":
        """The server that accepted this connection."""
        return cast("Listener", self.server)

    def do_GET(self) -> None:
        """Answer from the lists of models."""
        self._write(catalog(self._route()))

    def do_POST(self) -> None:
        """Record the request, then answer it by the script or the sampling model."""
        route = self._route()
        try:
            body = _json_object(self._read_body())
        except ValueError as problem:
            self._write(error(route, Problem(400, f"The body is no JSON object: {problem}.")))
            return
        with self.listener.log.arrival(route.path, body, _kept(self.headers.items())) as request:
            scripted = self.listener.script.next(request)
            if self._comes_to_an_answer(scripted):
                self._write(answer(route, request, scripted))

    def do_DELETE(self) -> None:
        """Answer that there is nothing here."""
        self._read_body()
        self._write(unknown(self._route(), self.command))

    do_PUT = do_PATCH = do_DELETE  # noqa: N815 - the names that http.server calls

    def handle(self) -> None:
        """Serve requests; a client that goes away in the middle is no error."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the requests are kept by the server."""

    def _route(self) -> Route:
        url = urlsplit(self.path)
        (alt, *_) = parse_qs(url.query).get("alt", [""])
        return find(unquote(url.path).rstrip("/"), alt)

    def _comes_to_an_answer(self, scripted: Answer | None) -> bool:
        """Wait as long as the script wants; say whether the connection is there for an answer then."""
        latency_s = self.listener.latency_s + (scripted.latency_s if scripted else 0.0)
        closed = latency_s > 0 and self.listener.closing.wait(latency_s)
        if scripted is not None and scripted.hang:
            closed = self.listener.closing.wait()
        elif scripted is not None and scripted.reset and not closed:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            closed = True
        self.close_connection = self.close_connection or closed
        return not closed

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _write(self, outgoing: Outgoing) -> None:
        """Write a response. Its last bytes leave after the method returned, when the request is no longer in flight."""
        self.send_response(outgoing.status)
        for name, value in outgoing.headers.items():
            self.send_header(name, value)
        if outgoing.events is None:
            self._write_body(outgoing)
        else:
            self._write_events(outgoing.events, outgoing)

    def _write_body(self, outgoing: Outgoing) -> None:
        self._content_type(outgoing)
        self.send_header("Content-Length", str(len(outgoing.body)))
        self.end_headers()
        self.wfile.write(outgoing.body[: outgoing.cut_after])
        self.close_connection = self.close_connection or outgoing.cut_after is not None

    def _write_events(self, events: tuple[bytes, ...], outgoing: Outgoing) -> None:
        self._content_type(outgoing)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events[: outgoing.cut_after]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
        if outgoing.cut_after is None:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def _content_type(self, outgoing: Outgoing) -> None:
        if "content-type" not in {name.lower() for name in outgoing.headers}:
            self.send_header("Content-Type", outgoing.content_type)


def _json_object(raw: bytes) -> JsonObject:
    body = json.loads(raw)
    if not isinstance(body, dict):
        raise ValueError(f"it is a {type(body).__name__}")
    return body


def _kept(headers: Any) -> Mapping[str, str]:
    lowered = {name.lower(): value for name, value in headers}
    return {name: value for name, value in lowered.items() if name in _KEPT_HEADERS or name.startswith("x-stainless-")}
