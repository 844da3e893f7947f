"""The listening socket, its threads and the log of requests.

Standard library only. One thread per connection; all of them end when the listener is closed.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import ThreadingHTTPServer
from typing import Any

from pytest_llmexp.localmodel.connection import Connection
from pytest_llmexp.localmodel.exchange import JsonObject
from pytest_llmexp.localmodel.script import Request, ScriptReader

_JOIN_S = 2.0


class RequestLog:
    """The requests so far, in the order of their arrival. Safe to use from several threads."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._answered = 0
        self._arrival = threading.Condition()

    @contextlib.contextmanager
    def arrival(self, path: str, body: JsonObject, headers: Mapping[str, str]) -> Iterator[Request]:
        """Log a request and wake whoever waits for it; it is in flight until the context ends."""
        with self._arrival:
            request = Request(path, body, len(self._requests), headers)
            self._requests.append(request)
            self._arrival.notify_all()
        try:
            yield request
        finally:
            with self._arrival:
                self._answered += 1

    @property
    def count(self) -> int:
        """How many requests arrived."""
        with self._arrival:
            return len(self._requests)

    @property
    def in_flight(self) -> int:
        """How many requests arrived and are not answered."""
        with self._arrival:
            return len(self._requests) - self._answered

    def all(self) -> list[Request]:
        """Return a copy of the log."""
        with self._arrival:
            return list(self._requests)

    def wait(self, count: int, timeout_s: float) -> list[Request]:
        """Return the log once it has so many requests; raise TimeoutError when that takes too long."""
        with self._arrival:
            if not self._arrival.wait_for(lambda: len(self._requests) >= count, timeout_s):
                raise TimeoutError(f"{len(self._requests)} of {count} requests arrived within {timeout_s:g} s")
            return list(self._requests)


class Listener(ThreadingHTTPServer):
    """Accepts connections until `stop` is called."""

    daemon_threads = True
    request_queue_size = 512
    timeout = 0.5  # seconds; how long `stop` waits at worst if its wake-up connection does not come through

    def __init__(self, host: str, port: int, script: ScriptReader, latency_s: float) -> None:
        self.script = script
        self.latency_s = latency_s
        self.log = RequestLog()
        self.closing = threading.Event()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._open_lock = threading.Lock()
        super().__init__((host, port), Connection)

    def server_bind(self) -> None:
        """Bind without the name look-up of HTTPServer, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def accept_until_stopped(self) -> None:
        """Accept connections; returns after `stop`."""
        while not self.closing.is_set():
            self.handle_request()

    def stop(self, acceptor: threading.Thread) -> None:
        """End the accepting thread and all connections, and close the socket.

        Takes milliseconds; a script that blocks in its own code is left behind after 2 seconds.
        """
        self.closing.set()
        with contextlib.suppress(OSError):
            socket.create_connection((self.server_name, self.server_port), timeout=_JOIN_S).close()
        acceptor.join(_JOIN_S)
        self.server_close()
        with self._open_lock:
            open_now = dict(self._open)
        for connection in open_now.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + _JOIN_S
        for thread in open_now:
            thread.join(max(0.0, deadline - time.monotonic()))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, which `stop` knows."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            daemon=True,
            name="local-model-connection",
        )
        with self._open_lock:
            self._open[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._open_lock:
                self._open.pop(threading.current_thread(), None)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection without the FIN of shutdown(), so that a reset can be one."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a client that goes away is no error, and a failing model is answered with a 500."""
