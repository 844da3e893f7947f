"""The openai clients of a process: their requests are spread over pools, their connections kept, and closed."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import (
    APIConnectionError,
    AsyncOpenAI,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
    OpenAI,
)

from pytest_llmexp import SimpleBot
from pytest_llmexp.localmodel import Answer, LocalModelServer
from pytest_llmexp.localmodel.script import Request
from pytest_llmexp.tracking.clients import Clients, async_twins
from pytest_llmexp.tracking.sources import ModelSource
from pytest_llmexp.tracking.transports import FULL, MOST, Pools, make_ssl_context, spreading_client
from tests.tracking.conftest import OpenLab

ASKED: Any = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


class Gate:
    """A script that answers nobody until so many requests wait, and then those."""

    def __init__(self, count: int) -> None:
        self._together = threading.Barrier(count)

    def __call__(self, request: Request) -> str:
        self._together.wait(30)
        return "hello"


@contextmanager
def clients_of(server: LocalModelServer) -> Iterator[Clients]:
    clients = Clients(ModelSource("m", server.base_url, "key"), lambda: server.base_url)
    try:
        yield clients
    finally:
        clients.close()


@pytest.fixture
def server() -> Iterator[LocalModelServer]:
    with LocalModelServer(lambda _: "hello") as server:
        yield server


@pytest.fixture
def pools() -> list[str]:
    """Return the pools that `counted` and `counted_async` clients have opened."""
    return []


@pytest.fixture
def counted(server: LocalModelServer, pools: list[str]) -> Iterator[OpenAI]:
    class Counting(DefaultHttpxClient):
        def _init_transport(self, *args: Any, **options: Any) -> Any:
            pools.append("direct")
            return super()._init_transport(*args, **options)

        def _init_proxy_transport(self, *args: Any, **options: Any) -> Any:
            pools.append("proxy")
            return super()._init_proxy_transport(*args, **options)

    http_client = spreading_client(Counting, make_ssl_context(Counting))
    with OpenAI(base_url=server.base_url, api_key="key", max_retries=0, http_client=http_client) as client:
        yield client


@pytest.fixture
def counted_async(server: LocalModelServer, pools: list[str]) -> AsyncOpenAI:
    class Counting(DefaultAsyncHttpxClient):
        def _init_transport(self, *args: Any, **options: Any) -> Any:
            pools.append("direct")
            return super()._init_transport(*args, **options)

    http_client = spreading_client(Counting, make_ssl_context(Counting))
    return AsyncOpenAI(base_url=server.base_url, api_key="key", max_retries=0, http_client=http_client)


def connection(response: Any) -> Any:
    """Return the stream of bytes below a raw response."""
    return response.http_response.extensions["network_stream"]


def the_socket(response: Any) -> Any:
    """Return the socket below a raw response; closed, it has the number -1."""
    return connection(response).get_extra_info("socket")


def test_another_pool_is_opened_when_all_are_full() -> None:
    opened = iter(range(1000))
    pools = Pools(lambda: next(opened))
    taken = [pools.take() for _ in range(FULL + 2)]
    assert [pool.transport for pool in taken] == [0] * FULL + [1, 1]
    pools.give_back(taken[0])
    assert [pools.take().transport for _ in range(2)] == [0, 1]


def test_no_more_than_so_many_pools_are_opened_and_beyond_that_all_are_used_alike() -> None:
    opened = iter(range(1000))
    pools = Pools(lambda: next(opened))
    taken = [pools.take() for _ in range((FULL + 2) * MOST)]
    assert pools.transports() == [*range(MOST)]
    assert {pool.busy for pool in taken} == {FULL + 2}


def test_requests_one_after_another_use_one_connection(server: LocalModelServer) -> None:
    with clients_of(server) as clients:
        raw = clients.client().chat.completions.with_raw_response
        used = {connection(raw.create(**ASKED)).get_extra_info("client_addr") for _ in range(20)}
    assert len(used) == 1


def test_connections_are_kept_from_one_wave_of_requests_to_the_next() -> None:
    """One pool keeps 100 of them."""
    many = 120
    with LocalModelServer(Gate(many)) as server, clients_of(server) as clients, ThreadPoolExecutor(many) as threads:
        raw = clients.client().chat.completions.with_raw_response

        def wave() -> set[Any]:
            answers = list(threads.map(lambda _: raw.create(**ASKED), range(many)))
            return {connection(answer).get_extra_info("client_addr") for answer in answers}

        first = wave()
        assert len(first) == many
        assert wave() == first


def test_connections_are_kept_from_one_wave_of_asynchronous_requests_to_the_next() -> None:
    many = 120

    async def waves() -> list[set[Any]]:
        raw = clients.async_client().chat.completions.with_raw_response

        async def wave() -> set[Any]:
            answers = await asyncio.gather(*(raw.create(**ASKED) for _ in range(many)))
            return {connection(answer).get_extra_info("client_addr") for answer in answers}

        return [await wave(), await wave()]

    with LocalModelServer(Gate(many)) as server, clients_of(server) as clients:
        first, second = asyncio.run(waves())
    assert len(first) == many
    assert second == first


def test_a_stream_keeps_its_pool_busy_until_it_is_closed(counted: OpenAI, pools: list[str]) -> None:
    streams = [counted.chat.completions.create(**ASKED, stream=True) for _ in range(FULL)]
    assert pools == ["direct"]
    counted.chat.completions.create(**ASKED)
    assert pools == ["direct", "direct"]
    for stream in streams:
        stream.close()
    for stream in [counted.chat.completions.create(**ASKED, stream=True) for _ in range(2 * FULL)]:
        assert [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    assert pools == ["direct", "direct"]


def test_an_asynchronous_stream_keeps_its_pool_busy_until_it_is_closed(
    counted_async: AsyncOpenAI, pools: list[str]
) -> None:
    async def streaming() -> None:
        async with counted_async as client:
            streams = [await client.chat.completions.create(**ASKED, stream=True) for _ in range(FULL)]
            assert pools == ["direct"]
            await client.chat.completions.create(**ASKED)
            assert pools == ["direct", "direct"]
            for stream in streams:
                await stream.close()
            for stream in [await client.chat.completions.create(**ASKED, stream=True) for _ in range(2 * FULL)]:
                assert [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
            assert pools == ["direct", "direct"]

    asyncio.run(streaming())


def test_requests_that_fail_do_not_keep_a_pool_busy(counted: OpenAI, pools: list[str]) -> None:
    with LocalModelServer([Answer(reset=True)] * (FULL + 1)) as broken:
        client = counted.with_options(base_url=broken.base_url)
        for _ in range(FULL + 1):
            with pytest.raises(APIConnectionError):
                client.chat.completions.create(**ASKED)
    assert pools == ["direct"]


def test_requests_that_are_cancelled_do_not_keep_a_pool_busy(counted_async: AsyncOpenAI, pools: list[str]) -> None:
    async def cancelling(silent: LocalModelServer) -> None:
        async with counted_async as client:
            waiting = client.with_options(base_url=silent.base_url)
            tasks = [asyncio.create_task(waiting.chat.completions.create(**ASKED)) for _ in range(FULL)]
            await asyncio.to_thread(silent.wait_for_requests, FULL)
            for task in tasks:
                task.cancel()
            assert {type(ended) for ended in await asyncio.gather(*tasks, return_exceptions=True)} == {
                asyncio.CancelledError
            }
            await client.chat.completions.create(**ASKED)

    with LocalModelServer([Answer(hang=True)] * FULL) as silent:
        asyncio.run(cancelling(silent))
    assert pools == ["direct"]


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def test_the_environments_proxy_is_used(server: LocalModelServer, no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("HTTP_PROXY", server.base_url.removesuffix("/v1"))
    clients = Clients(ModelSource("m", "http://model.invalid/v1", "key"), lambda: "")

    async def ask() -> None:
        await clients.async_client().chat.completions.create(**ASKED)
        await clients.aclose()

    clients.client().chat.completions.create(**ASKED)
    clients.close()
    asyncio.run(ask())
    assert len(server.requests) == 2


def test_the_environments_exceptions_from_the_proxy_hold(
    server: LocalModelServer, no_proxies: pytest.MonkeyPatch
) -> None:
    no_proxies.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    no_proxies.setenv("NO_PROXY", "127.0.0.1")
    with clients_of(server) as clients:
        clients.client().chat.completions.create(**ASKED)
    assert len(server.requests) == 1


def test_requests_through_a_proxy_are_spread_as_well(
    no_proxies: pytest.MonkeyPatch, server: LocalModelServer, pools: list[str], request: pytest.FixtureRequest
) -> None:
    no_proxies.setenv("HTTP_PROXY", server.base_url.removesuffix("/v1"))
    client: OpenAI = request.getfixturevalue("counted").with_options(base_url="http://model.invalid/v1")
    streams = [client.chat.completions.create(**ASKED, stream=True) for _ in range(FULL + 1)]
    assert pools == ["direct", "proxy", "proxy"]
    for stream in streams:
        stream.close()


def test_the_environments_certificates_are_used(
    server: LocalModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(FileNotFoundError):
        OpenAI(base_url=server.base_url, api_key="key")
    with clients_of(server) as clients, pytest.raises(FileNotFoundError):
        clients.client()


def test_clients_share_one_ssl_context(
    server: LocalModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It takes 20 ms to make. A missing file tells when one is made."""

    async def ask(client: Callable[[], AsyncOpenAI]) -> None:
        await client().chat.completions.create(**ASKED)

    with clients_of(server) as clients:
        twins = async_twins(clients.client())
        assert twins is not None
        asyncio.run(ask(twins.get))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
        asyncio.run(ask(twins.get))
        asyncio.run(ask(clients.async_client))
        asyncio.run(ask(clients.async_client))
    assert len(server.requests) == 4


@pytest.mark.parametrize("stock", [DefaultHttpxClient, DefaultAsyncHttpxClient])
def test_openais_own_settings_stay(stock: Any) -> None:
    ours, theirs = spreading_client(stock, make_ssl_context(stock)), stock()
    for name in ("timeout", "follow_redirects", "max_redirects", "trust_env", "base_url"):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_the_timeout_is_openais(server: LocalModelServer) -> None:
    async def asynchronous() -> Any:
        return clients.async_client().timeout

    with clients_of(server) as clients, OpenAI(base_url=server.base_url, api_key="key") as theirs:
        assert clients.client().timeout == theirs.timeout
        assert asyncio.run(asynchronous()) == theirs.timeout


def test_closing_the_client_closes_all_its_connections(counted: OpenAI, pools: list[str]) -> None:
    raw = counted.chat.completions.with_raw_response
    streamed = [raw.create(**ASKED, stream=True) for _ in range(FULL + 1)]
    sockets = [the_socket(answer) for answer in streamed]
    for answer in streamed[: FULL // 2]:
        answer.parse().close()
    assert len(pools) == 2
    assert all(socket.fileno() >= 0 for socket in sockets[FULL // 2 :])
    counted.close()
    assert {socket.fileno() for socket in sockets} == {-1}


@pytest.mark.parametrize("close", [True, False], ids=["closed", "left-to-its-loop"])
def test_an_asynchronous_client_closes_all_its_connections(close: bool) -> None:
    many = FULL + 1

    async def ask() -> list[Any]:
        raw = clients.async_client().chat.completions.with_raw_response
        answers = await asyncio.gather(*(raw.create(**ASKED) for _ in range(many)))
        sockets = [the_socket(answer) for answer in answers]
        assert all(socket.fileno() >= 0 for socket in sockets)
        if close:
            await clients.aclose()
            assert {socket.fileno() for socket in sockets} == {-1}
        return sockets

    with LocalModelServer(Gate(many)) as server, clients_of(server) as clients:
        sockets = asyncio.run(ask())
    assert {socket.fileno() for socket in sockets} == {-1}


def test_a_client_that_nobody_closes_closes_its_connections(server: LocalModelServer) -> None:
    """As openai's own does; otherwise Python warns of open sockets."""
    clients = Clients(ModelSource("m", server.base_url, "key"), lambda: "")
    socket = the_socket(clients.client().chat.completions.with_raw_response.create(**ASKED))
    assert socket.fileno() >= 0
    del clients
    gc.collect()
    assert socket.fileno() == -1


def test_each_of_many_calls_in_flight_is_recorded_once(open_lab: OpenLab) -> None:
    many = 2 * FULL + 1
    lab = open_lab(Gate(many))
    with lab.run(), ThreadPoolExecutor(many) as threads:
        bot = SimpleBot(None)
        assert [*threads.map(bot, [str(number) for number in range(many)])] == ["hello"] * many
    asked = [call.request["messages"][0]["content"] for call in lab.calls()]
    assert sorted(asked, key=int) == [str(number) for number in range(many)]
