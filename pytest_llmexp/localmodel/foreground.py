"""Serves the sampling model in the foreground, for programs in any language.

Standard library only. The one function behind both `python -m pytest_llmexp.localmodel` and the command line tool.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from pytest_llmexp.localmodel.exchange import LABEL, LOCAL_MODEL
from pytest_llmexp.localmodel.server import LocalModelServer


def serve(
    host: str = "127.0.0.1", port: int = 8080, *, latency_s: float = 0.0, announce: Callable[[str], object] = print
) -> None:
    """Serve until Ctrl-C or SIGTERM. Call it from the main thread.

    Args:
        host: The address to bind.
        port: The port to bind; 0 takes a free one.
        latency_s: Seconds to wait before every answer.
        announce: Gets the lines for the user, of which the first is the base URL of OpenAI's API alone.

    Raises:
        OSError: The address cannot be bound.
    """
    ended = threading.Event()
    with LocalModelServer(host=host, port=port, latency_s=latency_s) as server, _set_by_sigterm(ended):
        announce(server.base_url)
        announce(f"Clients of Anthropic, Gemini, Ollama and Amazon Bedrock take {server.root_url} instead.")
        announce(f"Serving {LABEL} as model {LOCAL_MODEL!r}; any API key will do. End with Ctrl-C.")
        with contextlib.suppress(KeyboardInterrupt):
            ended.wait()


@contextlib.contextmanager
def _set_by_sigterm(ended: threading.Event) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
