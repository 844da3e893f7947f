"""LocalModelServer: model APIs on loopback, sampling or scripted. It is not a language model.

Standard library only.
"""

import threading
from types import TracebackType

from pytest_llmexp.localmodel.listener import Listener
from pytest_llmexp.localmodel.script import Request, Script, ScriptReader


class LocalModelServer:
    """Serves what clients of OpenAI, Anthropic, Gemini, Ollama and Amazon Bedrock ask over HTTP.

    Every answer says that it comes from no language model: in the field that names the model where the API has one
    (Bedrock's has none), and in the header `X-Local-Model`.

    Args:
        script: Answers to give, see `ScriptReader`; without it the sampling model answers.
        latency_s: Seconds to wait before every answer.
        host: The address to bind; loopback unless told otherwise.
        port: The port to bind; 0 takes a free one.

    Use it as a context manager, or call `start` and `close`.
    """

    def __init__(
        self, script: Script | None = None, *, latency_s: float = 0.0, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._reader = ScriptReader(script)
        self._latency_s = latency_s
        self._address = (host, port)
        self._listener: Listener | None = None
        self._acceptor: threading.Thread | None = None

    def start(self) -> "LocalModelServer":
        """Bind the port and accept connections. A server starts once."""
        if self._listener is not None:
            raise RuntimeError("this server was started before; make a new one")
        self._listener = Listener(*self._address, self._reader, self._latency_s)
        self._acceptor = threading.Thread(
            target=self._listener.accept_until_stopped, daemon=True, name="local-model-acceptor"
        )
        self._acceptor.start()
        return self

    def close(self) -> None:
        """End all connections, also those in the middle of an answer. Closing again does nothing."""
        if self._listener is not None and self._acceptor is not None:
            self._listener.stop(self._acceptor)
            self._acceptor = None

    def __enter__(self) -> "LocalModelServer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The bound port."""
        return self._started().server_port

    @property
    def base_url(self) -> str:
        """The URL to give to a client of OpenAI's API as its base URL, for example `http://127.0.0.1:40123/v1`."""
        return f"{self.root_url}/v1"

    @property
    def root_url(self) -> str:
        """The URL to give to clients of the other APIs, for example `http://127.0.0.1:40123`."""
        listener = self._started()
        return f"http://{listener.server_name}:{listener.server_port}"

    @property
    def requests(self) -> list[Request]:
        """The POST requests with a JSON body received so far, retries included; still there after `close`."""
        return self._started().log.all()

    @property
    def request_count(self) -> int:
        """How many requests there are in `requests`."""
        return self._started().log.count

    @property
    def in_flight(self) -> int:
        """How many of the requests have no whole answer yet; one whose client went away counts until it is noticed."""
        return self._started().log.in_flight

    def wait_for_requests(self, count: int, timeout_s: float = 10.0) -> list[Request]:
        """Return the requests once there are so many; raise TimeoutError after so many seconds."""
        return self._started().log.wait(count, timeout_s)

    def _started(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("the server is not started; use it in a with statement or call start()")
        return self._listener
