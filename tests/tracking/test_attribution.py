"""Every call, prompt and metric belongs to the run that made it, whatever thread, task or process it was made in."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from pytest_llmexp import AsyncSimpleBot, SimpleBot, metric, prompt
from pytest_llmexp.tracking.recorder import RunRecorder
from pytest_llmexp.tracking.scope import current_run, current_scope, entered
from pytest_llmexp.tracking.threads import context_follows_threads
from tests.tracking.conftest import Lab


@prompt("user")
def asking(what: str) -> None:
    """Tell me of {{ what }}."""


@metric
def length(text: str) -> int:
    return len(text)


def in_a_thread(body: Callable[[], object]) -> None:
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()


def in_a_subclass_of_thread(body: Callable[[], object]) -> None:
    class Worker(threading.Thread):
        def run(self) -> None:
            body()

    worker = Worker()
    worker.start()
    worker.join()


def in_a_timer(body: Callable[[], object]) -> None:
    timer = threading.Timer(0, body)
    timer.start()
    timer.join()


def in_a_pool(body: Callable[[], object]) -> None:
    with ThreadPoolExecutor(2) as pool:
        pool.submit(body).result()


def in_a_pools_map(body: Callable[[], object]) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: body(), [1]))


def in_a_thread_of_a_thread(body: Callable[[], object]) -> None:
    in_a_thread(lambda: in_a_pool(lambda: in_a_thread(body)))


def in_to_thread(body: Callable[[], object]) -> None:
    asyncio.run(asyncio.to_thread(body))


def in_an_executor_of_a_loop(body: Callable[[], object]) -> None:
    async def submit() -> None:
        await asyncio.get_running_loop().run_in_executor(None, body)

    asyncio.run(submit())


def in_a_gathered_task(body: Callable[[], object]) -> None:
    async def task() -> None:
        body()

    async def both() -> None:
        await asyncio.gather(task(), asyncio.sleep(0))

    asyncio.run(both())


def in_a_loop_of_another_thread(body: Callable[[], object]) -> None:
    async def coroutine() -> None:
        body()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    copy_context().run(lambda: thread.start())
    asyncio.run_coroutine_threadsafe(coroutine(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


PLACES = [
    in_a_thread,
    in_a_subclass_of_thread,
    in_a_timer,
    in_a_pool,
    in_a_pools_map,
    in_a_thread_of_a_thread,
    in_to_thread,
    in_an_executor_of_a_loop,
    in_a_gathered_task,
    in_a_loop_of_another_thread,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_what_is_made_elsewhere_belongs_to_the_run(lab: Lab, place: Callable[[Callable[[], object]], None]) -> None:
    def body() -> None:
        length(SimpleBot()(asking(place.__name__)))
        with OpenAI(base_url=lab.server.base_url, api_key="x") as client:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "raw"}])

    with lab.run() as run:
        place(body)
    assert [call.run_id for call in lab.calls()] == [run.run.id] * 2
    assert [use.run_id for use in lab.store.prompt_uses(lab.id)] == [run.run.id]
    assert [recorded.run_id for recorded in lab.store.metrics(lab.id)] == [run.run.id]


def test_gathered_asynchronous_calls_belong_to_the_run(lab: Lab) -> None:
    async def body() -> None:
        async with AsyncOpenAI(base_url=lab.server.base_url, api_key="x") as client:
            raw = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "raw"}])
            await asyncio.gather(raw, *(AsyncSimpleBot()(f"call {index}") for index in range(8)))

    with lab.run() as run:
        asyncio.run(body())
    assert [call.run_id for call in lab.calls()] == [run.run.id] * 9
    assert sorted(call.ordinal for call in lab.calls()) == list(range(1, 10))
    assert {call.parent_call_id for call in lab.calls()} == {None}


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_calls_of_a_forked_child_belong_to_the_run(lab: Lab) -> None:
    bot = SimpleBot()
    with lab.run() as run:
        bot("parent before")
        child = os.fork()
        if child == 0:
            try:
                bot("child")
                length("child")
                current = current_run()
                assert current is not None
                current.experiment.settle(current.experiment.put())
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        bot("parent after")
    asked = {call.request["messages"][0]["content"]: call for call in lab.calls()}
    assert set(asked) == {"parent before", "child", "parent after"}
    assert {(call.run_id, call.status) for call in asked.values()} == {(run.run.id, "ok")}
    assert [recorded.value for recorded in lab.store.metrics(lab.id)] == [5.0]


def test_a_forked_child_has_a_client_of_its_own(lab: Lab) -> None:
    clients = lab.recording.clients
    mine = clients.client()
    assert clients.client() is mine
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, b"same" if clients.client() is mine else b"other")
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        assert answer.read() == b"other"
    assert clients.client() is mine


def test_nothing_goes_to_the_wrong_run_with_many_in_flight(lab: Lab) -> None:
    """Twelve runs at a time, each with calls in threads, pools, tasks and metrics; each says its own number."""
    everybody = threading.Barrier(12)
    shared = ThreadPoolExecutor(4)

    def one_run(index: int) -> str:
        with lab.run(index=index) as run:
            everybody.wait(30)
            bot = SimpleBot(f"system {index}")

            def ask(how: str) -> None:
                bot(asking(f"run {index} {how}"))

            async def gathered() -> None:
                twin = AsyncSimpleBot(f"system {index}")
                await asyncio.gather(*(twin(asking(f"run {index} task {task}")) for task in range(3)))

            in_a_thread(lambda: ask("thread"))
            in_a_pool(lambda: ask("pool"))
            list(shared.map(lambda part: ask(f"shared {part}"), range(3)))
            asyncio.run(gathered())
            length("x" * index)
            return run.run.id

    with ThreadPoolExecutor(12) as pool:
        ids = list(pool.map(one_run, range(1, 37)))
    shared.shutdown()
    assert lab.close() == []
    calls = lab.calls()
    assert len(calls) == 36 * 8
    for call in calls:
        index = ids.index(str(call.run_id)) + 1
        system, user = (message["content"] for message in call.request["messages"])
        assert system == f"system {index}"
        assert user.startswith(f"Tell me of run {index} ")
        assert call.response["choices"][0]["message"]["content"] == f"echo: {user}"
    assert {(ids.index(found.run_id) + 1) for found in lab.store.metrics(lab.id)} == set(range(1, 37))
    assert all(found.value == ids.index(found.run_id) + 1 for found in lab.store.metrics(lab.id))
    uses = lab.store.prompt_uses(lab.id)
    assert len(uses) == 36 * 8
    assert all(use.variables["what"].startswith(f"run {ids.index(use.run_id) + 1} ") for use in uses)
    for run_id in ids:
        assert sorted(call.ordinal for call in calls if call.run_id == run_id) == list(range(1, 9))


def test_a_call_after_the_end_of_its_run_belongs_to_no_run(lab: Lab) -> None:
    over, asked = threading.Event(), threading.Event()

    def late() -> None:
        over.wait(10)
        SimpleBot("You are late.")(asking("something"))
        length("late")
        asked.set()

    with lab.run():
        thread = threading.Thread(target=late)
        thread.start()
    with lab.run(index=2):
        over.set()
        thread.join()
    assert asked.is_set()
    assert lab.call().run_id is None
    assert lab.store.call_totals(lab.id).unattributed == 1
    assert lab.store.prompt_uses(lab.id) == []
    assert lab.store.metrics(lab.id) == []


def test_a_call_that_began_in_a_run_stays_there_when_it_ends_later(open_lab: Callable[..., Lab]) -> None:
    go = threading.Event()

    def answer(_: Any) -> str:
        go.wait(10)
        return "late"

    lab = open_lab(answer)
    with lab.run() as run:
        thread = threading.Thread(target=lambda: SimpleBot()("hello"))
        thread.start()
        lab.server.wait_for_requests(1)
    go.set()
    thread.join()
    assert (lab.call().run_id, lab.call().status) == (run.run.id, "ok")


def test_calls_outside_of_any_run_are_unattributed(lab: Lab) -> None:
    SimpleBot()("hello")
    assert lab.call().run_id is None
    assert lab.call().bot_id == lab.store.bots(lab.id)[0].id


def test_a_thread_that_outlives_the_experiment_fails_with_a_clear_error(lab: Lab) -> None:
    over = threading.Event()
    raised: list[Exception] = []

    def late() -> None:
        over.wait(10)
        try:
            SimpleBot()("hello")
        except Exception as error:
            raised.append(error)

    with lab.run():
        thread = threading.Thread(target=late)
        thread.start()
    lab.close()
    over.set()
    thread.join()
    assert [type(error).__name__ for error in raised] == ["ModelError"]
    assert "serves experiments only" in str(raised[0])


def test_a_pool_that_a_run_warmed_up_brings_no_run_to_others(lab: Lab) -> None:
    with ThreadPoolExecutor(1) as pool, lab.run() as run:
        assert pool.submit(current_run).result() is run
        outside = copy_context()
        outside.run(lambda: _leave_scope(lambda: run_of_pool.append(pool.submit(current_scope).result())))
    assert run_of_pool.pop() is None


run_of_pool: list[Any] = []


def _leave_scope(body: Callable[[], object]) -> None:
    with entered(None):
        body()


def test_thread_methods_are_restored_whatever_the_order_of_leaving() -> None:
    before = threading.Thread.start, ThreadPoolExecutor.submit
    first, second = context_follows_threads(), context_follows_threads()
    first.__enter__()
    during = threading.Thread.start
    second.__enter__()
    assert threading.Thread.start is during
    assert during is not before[0]
    first.__exit__(None, None, None)
    assert threading.Thread.start is during
    second.__exit__(None, None, None)
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == before


def test_a_scope_may_be_left_in_another_context_than_it_was_entered(lab: Lab) -> None:
    before = current_scope()
    run: RunRecorder = lab.recording.recorder.begin_run("a_test", 1)
    scope = entered(run.scope())
    copy_context().run(scope.__enter__)
    with entered(run.scope()):
        scope.__exit__(None, None, None)
        assert current_scope() is before
    run.end("passed")
