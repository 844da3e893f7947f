"""HTTP clients for openai's, whose transports spread the requests over several pools of connections.

A pool of httpx looks through all its requests and connections whenever a request begins or ends, and keeps at most 100
idle connections; so with many requests in flight one pool costs CPU time and opens connections again and again.
Works on openai's own http clients, which it is handed; imports neither openai nor httpx. It overrides two private
methods: should a later httpx not call them, the clients have one pool, as openai's have.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from ssl import SSLContext

T = TypeVar("T")

FULL = 16  # requests in flight at which another pool is opened; measured in docs/decisions/0012
MOST = 64  # pools: 1,024 connections, about as many as openai's own client may open


@dataclass(slots=True, eq=False)
class Pool(Generic[T]):
    """A transport of httpx, which holds one pool of connections, and the number of its requests in flight."""

    transport: T
    busy: int = 0


class Pools(Generic[T]):
    """The pools of one client, opened by `open_pool` as they are needed. Safe to use from several threads."""

    def __init__(self, open_pool: Callable[[], T]) -> None:
        self._open_pool = open_pool
        self._lock = threading.RLock()  # reentrant: the garbage collector may close a stream at any point, also in here
        self._opened = [Pool(open_pool())]

    def take(self) -> Pool[T]:
        """Return the first pool that is not full; it has one more request in flight until it is given back.

        The first one, not the least busy one: what was opened for some requests then suffices for as many others.
        """
        with self._lock:
            pool = next((pool for pool in self._opened if pool.busy < FULL), None) or self._another()
            pool.busy += 1
            return pool

    def _another(self) -> Pool[T]:
        if len(self._opened) >= MOST:
            return min(self._opened, key=attrgetter("busy"))
        pool = Pool(self._open_pool())
        self._opened.append(pool)
        return pool

    def give_back(self, pool: Pool[T]) -> None:
        """Note that a request has ended."""
        with self._lock:
            pool.busy -= 1

    def transports(self) -> list[T]:
        """Return what has been opened."""
        with self._lock:
            return [pool.transport for pool in self._opened]


def make_ssl_context(stock: type) -> SSLContext:
    """Return the SSL context that an http client of this class would make for itself, which takes 20 ms."""
    context: SSLContext = _library(stock).create_ssl_context()
    return context


def spreading_client(stock: Any, ssl_context: SSLContext) -> Any:
    """Return an http client like `stock()`, but with pools for its transports: one for every proxy, one for the rest.

    Args:
        stock: `openai.DefaultHttpxClient` or `openai.DefaultAsyncHttpxClient`.
        ssl_context: What `make_ssl_context` made; clients may share it.
    """
    library = _library(stock)
    spread = _async_transport(library) if issubclass(stock, library.AsyncClient) else _transport(library)

    class SpreadingClient(stock):  # type: ignore[misc]
        def _init_transport(self, *args: Any, **options: Any) -> Any:
            return spread(partial(super()._init_transport, *args, **options))

        def _init_proxy_transport(self, *args: Any, **options: Any) -> Any:
            return spread(partial(super()._init_proxy_transport, *args, **options))

    return SpreadingClient(verify=ssl_context)


def _library(stock: type) -> Any:
    """Return the module that a client's class is from, httpx or httpx2: both may be installed."""
    modules = (sys.modules[base.__module__] for base in stock.__mro__)
    return next(module for module in modules if hasattr(module, "BaseTransport"))


def _transport(library: Any) -> Any:
    class Stream(library.SyncByteStream):  # type: ignore[misc]
        def __init__(self, inner: Any, ended: Callable[[], None]) -> None:
            self._inner, self._ended = inner, ended

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._inner)

        def close(self) -> None:
            try:
                self._inner.close()
            finally:
                self._ended()

    class SpreadingTransport(library.BaseTransport):  # type: ignore[misc]
        def __init__(self, open_pool: Callable[[], Any]) -> None:
            self._pools = Pools(open_pool)

        def handle_request(self, request: Any) -> Any:
            pool = self._pools.take()
            try:
                response = pool.transport.handle_request(request)
            except BaseException:
                self._pools.give_back(pool)
                raise
            response.stream = Stream(response.stream, partial(self._pools.give_back, pool))
            return response

        def close(self) -> None:
            for transport in self._pools.transports():
                transport.close()

        def __del__(self) -> None:
            with suppress(Exception):  # nobody closes the client of a forgotten bot; openai's own does this too
                self.close()

    return SpreadingTransport


def _async_transport(library: Any) -> Any:
    class Stream(library.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, inner: Any, ended: Callable[[], None]) -> None:
            self._inner, self._ended = inner, ended

        def __aiter__(self) -> AsyncIterator[bytes]:
            return aiter(self._inner)

        async def aclose(self) -> None:
            try:
                await self._inner.aclose()
            finally:
                self._ended()

    class SpreadingTransport(library.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self, open_pool: Callable[[], Any]) -> None:
            self._pools = Pools(open_pool)

        async def handle_async_request(self, request: Any) -> Any:
            pool = self._pools.take()
            try:
                response = await pool.transport.handle_async_request(request)
            except BaseException:
                self._pools.give_back(pool)
                raise
            response.stream = Stream(response.stream, partial(self._pools.give_back, pool))
            return response

        async def aclose(self) -> None:
            for transport in self._pools.transports():
                await transport.aclose()

    return SpreadingTransport
