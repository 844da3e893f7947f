"""Rate limits of a real server: calls of real clients are held back, which is recorded apart from their latency."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, OpenAI, RateLimitError

from pytest_llmexp import Experiment, SimpleBot
from pytest_llmexp.core.errors import ProviderDownError
from pytest_llmexp.core.spending import Limits, Spending
from pytest_llmexp.localmodel import Answer, LocalModelServer, Usage, faults
from pytest_llmexp.ratelimits import Pacing
from pytest_llmexp.replaying import ReplayFrom
from pytest_llmexp.tracking import admission
from pytest_llmexp.tracking.pacing import Caps
from pytest_llmexp.tracking.scope import RunStopped
from pytest_llmexp.tracking.spending import Ledger, SpendingStop
from tests.arrivals import Arrivals
from tests.tracking.conftest import Lab, OpenLab

HELLO: Any = [{"role": "user", "content": "hello"}]
PAUSE_S = 0.8


@pytest.fixture
def ask_of() -> Iterator[Callable[..., Callable[..., Any]]]:
    """Return a function that returns one that asks a lab's server."""
    clients: list[OpenAI] = []

    def make(lab: Lab, **options: Any) -> Callable[..., Any]:
        clients.append(OpenAI(**{"base_url": lab.server.base_url, "api_key": "x", "max_retries": 0, **options}))

        def ask(**more: Any) -> Any:
            return clients[-1].chat.completions.create(model="m", messages=HELLO, **more)

        return ask

    yield make
    for client in clients:
        client.close()


AskOf = Callable[..., Callable[..., Any]]


def limited_at_first(then: Answer | None = None) -> Arrivals:
    """Return a script that refuses the first request for its rate."""
    refused = then or faults.rate_limited(PAUSE_S)
    return Arrivals(lambda request: Answer("a name") if request.index else refused)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 503, 529])
def test_after_a_limit_every_call_waits_as_long_as_the_server_asks_for(
    open_lab: OpenLab, ask_of: AskOf, status: int, stream: bool
) -> None:
    arrivals = limited_at_first(Answer("slow down", status=status, headers={"Retry-After": f"{PAUSE_S}"}))
    lab = open_lab(arrivals)
    with lab.run(index=1), pytest.raises(APIStatusError):
        ask_of(lab)(stream=stream)
    with lab.run(index=2):
        began = time.perf_counter()
        ask_of(lab)()
        took = time.perf_counter() - began
    assert arrivals.times[1] - arrivals.times[0] >= PAUSE_S - 0.05
    refused, held = lab.calls()
    assert refused.wait_s is None
    assert held.wait_s is not None
    assert held.latency_s is not None
    assert held.wait_s > 0.2
    assert held.wait_s + held.latency_s <= took
    assert lab.store.call_totals(lab.id).wait_s == held.wait_s
    assert lab.recording.recorder.pacer is not None
    assert lab.recording.recorder.pacer.limited == (status == 429)


def test_an_error_that_asks_for_no_pause_holds_nothing_back(open_lab: OpenLab, ask_of: AskOf) -> None:
    lab = open_lab([faults.server_error(503), faults.client_error(400), "a"])
    with lab.run():
        for _ in range(2):
            with pytest.raises(APIStatusError):
                ask_of(lab)()
        ask_of(lab)()
    assert [(call.attempts, call.wait_s) for call in lab.calls()] == [(2, None), (1, None)]


def test_a_clients_own_retries_go_on_and_what_they_waited_adds_up(
    open_lab: OpenLab, ask_of: AskOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.001)
    arrivals = Arrivals(lambda request: Answer("a name") if request.index == 2 else faults.rate_limited())
    lab = open_lab(arrivals)
    with lab.run():
        assert ask_of(lab, max_retries=2)().choices[0].message.content == "a name"
    call = lab.call()
    assert (call.status, call.attempts) == ("ok", 3)
    first, second, third = arrivals.times
    waited = third - first
    assert call.wait_s is not None
    assert 0.8 * waited <= call.wait_s + 0.2
    assert call.wait_s <= waited
    assert third - second > second - first  # slower and slower
    assert call.latency_s is not None
    assert call.latency_s < call.wait_s


def test_coroutines_wait_without_holding_up_their_loop(open_lab: OpenLab) -> None:
    arrivals = limited_at_first()
    lab = open_lab(arrivals)
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0.02)

    async def main() -> None:
        async with AsyncOpenAI(base_url=lab.server.base_url, api_key="x", max_retries=0) as client:
            with pytest.raises(RateLimitError):
                await client.chat.completions.create(model="m", messages=HELLO)
            ticking = asyncio.create_task(tick())
            await asyncio.gather(*(client.chat.completions.create(model="m", messages=HELLO) for _ in range(3)))
            ticking.cancel()

    with lab.run():
        asyncio.run(main())
    assert arrivals.times[1] - arrivals.times[0] >= PAUSE_S - 0.05
    assert len(ticks) >= 5
    assert sum(call.wait_s is not None for call in lab.calls()) == 3


def test_a_cancelled_call_waits_no_longer_and_leaves_no_row(open_lab: OpenLab, ask_of: AskOf) -> None:
    lab = open_lab(Arrivals(lambda _: faults.rate_limited(60)))

    async def main() -> None:
        async with AsyncOpenAI(base_url=lab.server.base_url, api_key="x", max_retries=0) as client:
            async with asyncio.timeout(0.3):
                await client.chat.completions.create(model="m", messages=HELLO)

    with lab.run():
        with pytest.raises(RateLimitError):
            ask_of(lab)()
        with pytest.raises(TimeoutError):
            asyncio.run(main())
    assert lab.call().error is not None
    assert lab.server.request_count == 1


def test_calls_on_a_trio_loop_wait_on_it() -> None:
    trio = pytest.importorskip("trio")
    slept = []

    async def sleep_twice() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(admission._sleep, 0.1)
            slept.append(trio.current_time())

    trio.run(sleep_twice)
    assert slept
    assert "trio" in sys.modules


def test_a_session_that_ends_ends_the_wait(open_lab: OpenLab, ask_of: AskOf) -> None:
    lab = open_lab(limited_at_first(faults.rate_limited(50)))
    with lab.run():
        with pytest.raises(RateLimitError):
            ask_of(lab)()
        stop = threading.Timer(0.2, lambda: setattr(lab.recording.recorder, "stopped", True))
        stop.start()
        began = time.perf_counter()
        with pytest.raises(RunStopped, match="the session is ending"):
            ask_of(lab)()
        assert time.perf_counter() - began < 20
    lab.flush()
    assert len(lab.calls()) == lab.server.request_count == 1


def test_a_limit_that_is_reached_meanwhile_ends_the_wait(open_lab: OpenLab, ask_of: AskOf) -> None:
    lab = open_lab(limited_at_first(faults.rate_limited(50)))
    spent = [Spending(tokens=1)]
    lab.recording.recorder.ledger = Ledger(Limits(tokens=100), lambda: spent[0])
    with lab.run() as run:
        with pytest.raises(RateLimitError):
            ask_of(lab)()
        change = threading.Timer(0.2, lambda: spent.append(spent.pop()._replace(tokens=100)))
        change.start()
        with pytest.raises(SpendingStop, match="cut short"):
            ask_of(lab)()
        assert run.refusal is not None
    lab.flush()
    assert len(lab.calls()) == lab.server.request_count == 1


def test_a_replayed_call_is_not_held_back(open_lab: OpenLab, ask_of: AskOf) -> None:
    first = open_lab(["a", "b", "c"])
    with first.run():
        for _ in range(3):
            ask_of(first)()
    first.close()
    again = open_lab(server=first.server, replay=ReplayFrom("only"), pacing=Pacing(Caps(1, 1)))
    with again.run():
        for _ in range(3):
            ask_of(again)()
    assert [call.wait_s for call in again.calls()] == [None] * 3
    assert first.server.request_count == 3


@pytest.mark.parametrize("caps", [Caps(600), Caps(None, 60_000)])
def test_a_cap_is_kept_by_sixteen_threads(open_lab: OpenLab, caps: Caps) -> None:
    """600 calls of a hundred tokens, which the mean of the calls before knows of, are 60,000 tokens."""
    arrivals = Arrivals(lambda _: Answer("a name", usage=Usage(60, 40)))
    lab = open_lab(arrivals, pacing=Pacing(caps))
    with OpenAI(base_url=lab.server.base_url, api_key="x") as client, lab.run():

        def ask(_: int) -> None:
            client.chat.completions.create(model="m", messages=HELLO)

        ask(0)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask, range(1, 60)))
    assert len(arrivals.times) == 60
    assert arrivals.keep(600, late_s=0.5)
    assert arrivals.times[-1] - arrivals.times[0] >= 2
    waits = [call.wait_s for call in lab.calls() if call.wait_s]
    assert len(waits) >= 20


def test_a_board_that_cannot_be_made_is_said(open_lab: OpenLab, ask_of: AskOf, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("")
    lab = open_lab(["a"], pacing=Pacing(Caps(10), board=tmp_path / "file" / "traffic"))
    with lab.run():
        ask_of(lab)()
    assert lab.call().status == "ok"
    (problem,) = lab.close()
    assert "NotADirectoryError" in problem or "FileExistsError" in problem


def test_a_board_that_breaks_holds_no_call_back(open_lab: OpenLab, ask_of: AskOf, tmp_path: Any) -> None:
    board = tmp_path / "x" / "traffic"
    lab = open_lab(["a"], pacing=Pacing(Caps(10), board=board))
    board.write_bytes(b"\1\0".ljust(64) + b"\xff\xff\0\0 no JSON".ljust(70_000))
    with lab.run():
        ask_of(lab)()
    assert lab.call().status == "ok"
    assert lab.close()


def test_the_servers_of_a_lab_are_known_apart(open_lab: OpenLab, ask_of: AskOf) -> None:
    lab = open_lab(limited_at_first(faults.rate_limited(50)))
    with lab.run(), LocalModelServer(["a"]) as other:
        with pytest.raises(RateLimitError):
            ask_of(lab)()
        ask_of(lab, base_url=other.base_url)()
        assert other.request_count == 1


def test_an_experiment_block_ends_where_its_provider_is_down(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalModelServer(lambda _: faults.client_error(401)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "x")
        with (
            Experiment("names", 20, concurrency=1, db=tmp_path / "x.db", model="m") as experiment,
            pytest.raises(ProviderDownError, match=r"failed 3 runs in a row.*; 17 of 20 runs of .* were not made"),
        ):
            experiment.run(lambda: SimpleBot("You name jobs.")("Hello"))
    assert server.request_count == 3
    assert "PROVIDER DOWN" in experiment.summary
