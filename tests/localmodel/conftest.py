"""A running server and real clients for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from openai import OpenAI

from pytest_llmexp.localmodel import LocalModelServer
from pytest_llmexp.localmodel.script import Script

ScriptedClient = Callable[..., tuple[LocalModelServer, OpenAI]]


@pytest.fixture
def server() -> Iterator[LocalModelServer]:
    """Return a server whose sampling model answers."""
    with LocalModelServer() as running:
        yield running


@pytest.fixture
def client(server: LocalModelServer) -> Iterator[OpenAI]:
    """Return a client of `server`."""
    with OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as opened:
        yield opened


@pytest.fixture
def scripted() -> Iterator[ScriptedClient]:
    """Return a function that starts a server with a script and a client of it."""
    with ExitStack() as stack:

        def start(script: Script, *, max_retries: int = 0, timeout: float = 30.0) -> tuple[LocalModelServer, OpenAI]:
            server = stack.enter_context(LocalModelServer(script))
            client = OpenAI(base_url=server.base_url, api_key="local", max_retries=max_retries, timeout=timeout)
            return server, stack.enter_context(client)

        yield start
