"""The openai clients of a process: made when first needed, shared, closed at the end. Imports openai on use only."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from pytest_llmexp.core.errors import ConfigurationError
from pytest_llmexp.core.forks import renew_lock_in_children
from pytest_llmexp.tracking.shortcuts import Shortcuts
from pytest_llmexp.tracking.sources import ModelSource
from pytest_llmexp.tracking.transports import make_ssl_context, spreading_client

if TYPE_CHECKING:
    from ssl import SSLContext

    from openai import AsyncOpenAI, OpenAI


class _LoopClient(NamedTuple):
    client: AsyncOpenAI
    closer: AsyncGenerator[None, None]


class LoopClients:
    """Asynchronous clients, one for each event loop: connections cannot be used from another loop.

    A client is closed by `aclose`, or when its loop ends as `asyncio.run` ends it. `make` makes one.
    """

    def __init__(self, make: Callable[[], AsyncOpenAI]) -> None:
        self._make = make
        self._lock = threading.Lock()
        renew_lock_in_children(self)
        self._made: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClient] = WeakKeyDictionary()

    def get(self) -> AsyncOpenAI:
        """Return the client of the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if (made := self._made.get(loop)) is None:
                client = self._make()
                made = self._made[loop] = _LoopClient(client, _closed_with_its_loop(client))
            return made.client

    async def aclose(self) -> None:
        """Close the client of the running event loop."""
        with self._lock:
            made = self._made.pop(asyncio.get_running_loop(), None)
        if made is not None:
            await made.closer.aclose()


class Clients:
    """The clients for one model source. `start_local` starts the built-in server and returns its base URL."""

    def __init__(self, source: ModelSource, start_local: Callable[[], str]) -> None:
        self.source = source
        self.closed = False
        self.shortcuts = Shortcuts()
        self._start_local = start_local
        self._lock = threading.Lock()
        renew_lock_in_children(self)
        self._base_url: str | None = None
        self._client: OpenAI | None = None
        self._process = os.getpid()
        self._of_loops = LoopClients(self._make_async)
        self._ssl_context = cache(_make_ssl_context)  # used under the lock

    def client(self) -> OpenAI:
        """Return the shared client."""
        from openai import DefaultHttpxClient, OpenAI  # start-up cost: 0.8 s that suites without a bot need not pay

        with self._lock:
            if self._process != os.getpid():  # connections cannot be shared with the process that forked this one
                self._client, self._process = None, os.getpid()
            if self._client is None:
                http_client = spreading_client(DefaultHttpxClient, self._ssl_context())
                self._client = OpenAI(base_url=self._address(), api_key=self._key(), http_client=http_client)
            return self._client

    def made_client(self) -> OpenAI | None:
        """Return the shared client if somebody has asked for it."""
        return self._client

    def async_client(self) -> AsyncOpenAI:
        """Return the client of the running event loop; it is closed by `aclose`, or with its loop."""
        return self._of_loops.get()

    def _make_async(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # start-up cost, as above

        with self._lock:
            http_client = spreading_client(DefaultAsyncHttpxClient, self._ssl_context())
            return AsyncOpenAI(base_url=self._address(), api_key=self._key(), http_client=http_client)

    def close(self) -> None:
        """Close the shared client; asynchronous ones are closed in their loop."""
        with self._lock:
            client, self._client = self._client, None
            self.closed = True
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the client of the running event loop."""
        await self._of_loops.aclose()

    def _key(self) -> str:
        return "local" if self.source.local else str(self.source.api_key)

    def _address(self) -> str | None:
        if not self.source.local:
            return self.source.base_url
        if self._base_url is None:
            self._base_url = self._start_local()
        return self._base_url


def _make_ssl_context() -> SSLContext:
    from openai import DefaultHttpxClient  # start-up cost, as above

    return make_ssl_context(DefaultHttpxClient)


def _closed_with_its_loop(client: AsyncOpenAI) -> AsyncGenerator[None, None]:
    """Return a started generator that closes the client when it ends: loops end generators before they close."""

    async def stay_open() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await client.close()

    closer = stay_open()
    with suppress(StopIteration):
        closer.asend(None).send(None)  # runs to the yield, which tells the loop of the generator
    return closer


def forced_tool(output: type[BaseModel]) -> dict[str, Any]:
    """Return the parameters of a request that make the model answer as the arguments of one tool call."""
    from openai import pydantic_function_tool  # start-up cost, as above

    tool = pydantic_function_tool(output)
    return {"tools": [tool], "tool_choice": {"type": "function", "function": {"name": tool["function"]["name"]}}}


def check_sync_client(client: Any) -> None:
    """Raise ConfigurationError for an asynchronous openai client; clients of other makes are believed."""
    from openai import AsyncOpenAI  # start-up cost, as above; whoever hands in a client has paid it

    if isinstance(client, AsyncOpenAI):
        raise ConfigurationError(
            f"client= is an {type(client).__name__}, which cannot be asked without await; use AsyncSimpleBot, "
            "AsyncStructuredBot or AsyncToolBot (the async_bot fixture), or an OpenAI client"
        )


def async_twins(client: Any) -> LoopClients | None:
    """Return asynchronous clients with the address, key and limits of a synchronous one; None if it is not one.

    Raises ConfigurationError for subclasses of OpenAI, whose ways are their own.
    """
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAI  # start-up cost, as above

    if not isinstance(client, OpenAI):
        return None
    if type(client) is not OpenAI:
        raise ConfigurationError(f"client= is an {type(client).__name__}; this bot asks with an AsyncOpenAI client")
    ssl_context = cache(_make_ssl_context)
    return LoopClients(
        lambda: AsyncOpenAI(
            api_key=client.api_key,
            organization=client.organization,
            project=client.project,
            base_url=client.base_url,
            timeout=client.timeout,
            max_retries=client.max_retries,
            http_client=spreading_client(DefaultAsyncHttpxClient, ssl_context()),
        )
    )
