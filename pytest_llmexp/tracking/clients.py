"""The openai clients of a process: made when first needed, shared, closed at the end. Imports openai on use only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pytest_llmexp.tracking.sources import ModelSource

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI


class Clients:
    """The clients for one model source. `start_local` starts the built-in server and returns its base URL."""

    def __init__(self, source: ModelSource, start_local: Callable[[], str]) -> None:
        self.source = source
        self._start_local = start_local
        self._lock = threading.Lock()
        self._base_url: str | None = None
        self._client: OpenAI | None = None
        self._async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = WeakKeyDictionary()

    def client(self) -> OpenAI:
        """Return the shared client."""
        from openai import OpenAI  # start-up cost: 0.8 s that suites without a bot need not pay

        with self._lock:
            if self._client is None:
                self._client = OpenAI(base_url=self._address(), api_key=self._key())
            return self._client

    def made_client(self) -> OpenAI | None:
        """Return the shared client if somebody has asked for it."""
        return self._client

    def async_client(self) -> AsyncOpenAI:
        """Return the client of the running event loop: its connections cannot be used from another loop."""
        from openai import AsyncOpenAI  # start-up cost, as above

        loop = asyncio.get_running_loop()
        with self._lock:
            if (client := self._async_clients.get(loop)) is None:
                client = AsyncOpenAI(base_url=self._address(), api_key=self._key())
                self._async_clients[loop] = client
            return client

    def close(self) -> None:
        """Close the shared client; asynchronous ones are closed in their loop by `aclose`."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the client of the running event loop."""
        with self._lock:
            client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    def _key(self) -> str:
        return "local" if self.source.local else str(self.source.api_key)

    def _address(self) -> str | None:
        if not self.source.local:
            return self.source.base_url
        if self._base_url is None:
            self._base_url = self._start_local()
        return self._base_url
