"""`step`: what is kept of a part of a run, in whatever form it is written, and what belongs to it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from pytest_llmexp import AsyncSimpleBot, SimpleBot, ToolBot, metric, step
from pytest_llmexp.core.errors import ConfigurationError, RecordingError
from pytest_llmexp.core.jsonable import MAX_CHARACTERS
from pytest_llmexp.core.models import Call, Record, Step
from pytest_llmexp.localmodel import Answer, ToolCall
from pytest_llmexp.runtest.execution import outside_runs
from pytest_llmexp.tracking.scope import RunStopped, current_scope
from pytest_llmexp.tracking.yielding import MAX_ITEMS
from tests.tracking.conftest import Lab, OpenLab


def steps(lab: Lab) -> dict[str, Step]:
    """Return the steps by name, once everything is stored."""
    lab.flush()
    found = lab.store.steps(lab.id)
    assert len({step.name for step in found}) == len(found)
    return {step.name: step for step in found}


def only(lab: Lab) -> Step:
    """Return the only step."""
    (found,) = steps(lab).values()
    return found


def path(lab: Lab, record: Step | Call) -> list[str]:
    """Return the names of the steps that a record lies in, outermost first."""
    by_id = {step.id: step for step in lab.store.steps(lab.id)}
    names: list[str] = []
    above = record.parent_step_id if isinstance(record, Step) else record.step_id
    while above is not None:
        names.insert(0, by_id[above].name)
        above = by_id[above].parent_step_id
    return names


def test_a_with_statement_keeps_input_output_and_duration(lab: Lab) -> None:
    with lab.run() as run, step("retrieve", query="q", k=2) as retrieving:
        retrieving.output = ["a", {"b": 1.5}]
    found = only(lab)
    assert (found.name, found.kind, found.source, found.run_id) == ("retrieve", "step", "step", run.run.id)
    assert (found.input, found.output, found.error) == ({"query": "q", "k": 2}, ["a", {"b": 1.5}], None)
    assert found.duration_s is not None
    assert 0 <= found.duration_s < 5


def test_an_input_is_kept_as_it_was_and_may_be_given_later(lab: Lab) -> None:
    documents = ["a"]
    with lab.run():
        with step("changes", documents=documents):
            documents.append("b")
        with step("learns later") as block:
            block.input = {"found": 3}
        with step("name and what", name="Ada", what=1):
            pass
        with step(name="by keyword", k=1):
            pass
    found = steps(lab)
    assert found["changes"].input == {"documents": ["a"]}
    assert found["learns later"].input == {"found": 3}
    assert found["name and what"].input == {"name": "Ada", "what": 1}
    assert found["by keyword"].input == {"k": 1}


def test_calls_and_steps_hang_under_the_step_they_are_made_in(lab: Lab) -> None:
    bot = SimpleBot()
    with lab.run():
        bot("before")
        with step("outer"):
            bot("in outer")
            with step("inner"), OpenAI(base_url=lab.server.base_url, api_key="x") as client:
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "in inner"}])
            bot("in outer again")
        bot("after")
    found = {call.request["messages"][-1]["content"]: path(lab, call) for call in lab.calls()}
    assert found == {
        "before": [],
        "in outer": ["outer"],
        "in inner": ["outer", "inner"],
        "in outer again": ["outer"],
        "after": [],
    }
    assert steps(lab)["outer"].parent_step_id is None


def test_an_open_step_is_in_the_store_before_it_ends(lab: Lab) -> None:
    with lab.run():
        with step("long", k=1):
            open_step = only(lab)
            assert (open_step.input, open_step.output, open_step.duration_s) == ({"k": 1}, None, None)
        assert only(lab).id == open_step.id
        assert only(lab).duration_s is not None


class Searcher:
    @step
    def find(self, query: str, *, k: int = 3) -> list[str]:
        return [query] * k

    @classmethod
    @step("make")
    def make(cls, *names: str) -> int:
        return len(names)

    @staticmethod
    @step(name="plain")
    def plain(value: Any) -> Any:
        return value


def test_arguments_are_the_input_and_the_result_is_the_output(lab: Lab) -> None:
    with lab.run():
        assert Searcher().find("q", k=2) == ["q", "q"]
        assert Searcher.make("a", "b") == 2
        assert Searcher.plain(None) is None
        assert step("partial")(functools.partial(max, 3))(5) == 5
        assert step("with a fixed input", source="web")(lambda q: q)("x") == "x"
    found = steps(lab)
    assert (found["find"].input, found["find"].output) == ({"query": "q", "k": 2}, ["q", "q"])
    assert (found["make"].input, found["make"].output) == ({"names": ["a", "b"]}, 2)
    assert (found["plain"].input, found["plain"].output) == ({"value": None}, None)
    assert found["with a fixed input"].input == {"source": "web", "q": "x"}
    assert found["partial"].output == 5


def test_a_decorated_function_stays_what_it_was() -> None:
    @step
    async def coroutine(a: int) -> int:
        """Say so."""
        return a

    @step
    def generator() -> Iterator[int]:
        yield 1

    @step
    async def async_generator() -> AsyncIterator[int]:
        yield 1

    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    assert (coroutine.__name__, coroutine.__doc__) == ("coroutine", "Say so.")
    assert list(inspect.signature(coroutine).parameters) == ["a"]


def test_a_coroutine_function_is_a_step_while_it_is_awaited(lab: Lab) -> None:
    @step
    async def ask(text: str) -> str:
        return str(await AsyncSimpleBot()(text))

    async def body() -> list[str]:
        with step("all"):
            return await asyncio.gather(*(step(f"ask {n}")(ask)(f"hello {n}") for n in range(8)))

    with lab.run():
        assert asyncio.run(body()) == [f"echo: hello {n}" for n in range(8)]
    lab.flush()
    for call in lab.calls():
        number = call.request["messages"][0]["content"].removeprefix("hello ")
        assert path(lab, call) == ["all", f"ask {number}", "ask"]
    asked = [found for found in lab.store.steps(lab.id) if found.name == "ask"]
    assert [found.output for found in asked] == [f"echo: {found.input['text']}" for found in asked]


def test_a_generator_is_a_step_but_its_consumer_is_not(lab: Lab) -> None:
    bot = SimpleBot()

    @step
    def produce(count: int) -> Iterator[str]:
        for index in range(count):
            yield bot(f"inside {index}")

    with lab.run():
        values = []
        for index, value in enumerate(produce(2)):
            values.append(value)
            bot(f"outside {index}")
    assert values == ["echo: inside 0", "echo: inside 1"]
    found = only(lab)
    assert (found.input, found.output, found.error) == ({"count": 2}, values, None)
    where = {call.request["messages"][0]["content"]: call.step_id for call in lab.calls()}
    assert where == {"inside 0": found.id, "outside 0": None, "inside 1": found.id, "outside 1": None}


def test_a_closed_generator_is_a_step_without_error(lab: Lab) -> None:
    cleaned = []

    @step
    def produce() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            cleaned.append(current_scope())

    with lab.run():
        generator = produce()
        assert next(generator) == 1
        generator.close()  # type: ignore[attr-defined]
        produce()  # never asked for a value: nothing happened
    found = only(lab)
    assert (found.output, found.error) == ([1], None)
    assert found.duration_s is not None
    assert [scope and scope.step_id for scope in cleaned] == [found.id]


def test_what_is_sent_and_thrown_reaches_the_generator(lab: Lab) -> None:
    @step
    def talk() -> Any:
        got = []
        try:
            got.append((yield "first"))
            yield "second"
        except ValueError as error:
            got.append(str(error))
            yield "third"
        return got

    def relay() -> Any:
        result.append((yield from talk()))

    result: list[Any] = []
    with lab.run():
        relaying = relay()
        assert next(relaying) == "first"
        assert relaying.send("hello") == "second"
        assert relaying.throw(ValueError("odd")) == "third"
        assert list(relaying) == []
    assert result == [["hello", "odd"]]
    assert only(lab).output == ["first", "second", "third"]


def test_an_exception_of_a_generator_is_its_error(lab: Lab) -> None:
    @step
    def breaks() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    with lab.run(), pytest.raises(KeyError, match="gone"):
        list(breaks())
    assert (only(lab).output, only(lab).error) == ([1], "KeyError: 'gone'")


def test_asynchronous_generators_are_steps_too(lab: Lab) -> None:
    @step
    async def produce(count: int) -> AsyncIterator[str]:
        for index in range(count):
            yield str(await AsyncSimpleBot()(f"inside {index}"))

    @step("closed early")
    async def endless() -> Any:
        got = 0
        try:
            while True:
                try:
                    got = yield got
                except ValueError:
                    got = -1
        finally:
            await AsyncSimpleBot()("cleaning up")

    async def body() -> list[str]:
        values = []
        async for value in produce(2):
            values.append(value)
            await AsyncSimpleBot()("outside")
        stream = endless()
        assert await anext(stream) == 0
        assert await stream.asend(7) == 7
        assert await stream.athrow(ValueError()) == -1
        await stream.aclose()
        return values

    with lab.run():
        values = asyncio.run(body())
    found = steps(lab)
    assert found["produce"].output == values == ["echo: inside 0", "echo: inside 1"]
    assert (found["closed early"].output, found["closed early"].error) == ([0, 7, -1], None)
    assert found["closed early"].duration_s is not None
    where = [(call.request["messages"][0]["content"], call.step_id) for call in lab.calls()]
    mine = found["produce"].id
    assert where == [
        ("inside 0", mine),
        ("outside", None),
        ("inside 1", mine),
        ("outside", None),
        ("cleaning up", found["closed early"].id),
    ]


def test_a_long_generator_and_a_large_output_are_kept_in_part(lab: Lab) -> None:
    @step
    def count() -> Iterator[int]:
        yield from range(MAX_ITEMS + 23)

    @step
    def much() -> Iterator[str]:
        for _ in range(10):
            yield "x" * MAX_CHARACTERS

    with lab.run():
        assert len(list(count())) == MAX_ITEMS + 23
        assert len(list(much())) == 10
        with step("large", text="y" * (MAX_CHARACTERS + 5)) as block:
            block.output = {"numbers": list(range(1_000_000)), "text": "z"}
    found = steps(lab)
    assert found["count"].output == [*range(MAX_ITEMS), "... 23 more"]
    assert found["much"].output == ["x" * MAX_CHARACTERS, "... 9 more"]
    assert found["large"].input["text"].endswith("yyy... 13 more characters")
    assert len(str(found["large"].output)) < 3 * MAX_CHARACTERS
    assert lab.close() == []


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_odd_values_are_no_failure(lab: Lab) -> None:
    circle: list[Any] = []
    circle.append(circle)
    with lab.run():
        with step("odd", odd=Odd(), nan=float("nan"), circle=circle, surrogate="\ud800", bytes=b"\xff") as block:
            block.output = {Odd(): 1}
        with pytest.raises(OddError), step("odd error"):
            raise OddError
    found = steps(lab)
    assert found["odd"].input["odd"] == f"<{__name__}.Odd>"
    assert found["odd error"].error == "OddError"
    assert lab.close() == []


@pytest.mark.parametrize("error", [ValueError("bad"), AssertionError(), RunStopped("over"), KeyboardInterrupt()])
def test_every_exception_is_recorded_and_passes(lab: Lab, error: BaseException) -> None:
    @step
    def decorated() -> None:
        raise error

    with lab.run():
        with pytest.raises(type(error)), step("block"):
            raise error
        with pytest.raises(type(error)):
            decorated()
        after = current_scope()
    assert after is not None
    assert after.step_id is None
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    assert {found.error for found in steps(lab).values()} == {text}


def test_a_cancelled_step_says_so(lab: Lab) -> None:
    @step
    async def hangs() -> None:
        await asyncio.sleep(60)

    async def body() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hangs(), 0.01)

    with lab.run():
        asyncio.run(body())
    assert only(lab).error == "CancelledError"


def test_wrong_arguments_are_the_functions_own_error(lab: Lab) -> None:
    with lab.run(), pytest.raises(TypeError, match="missing 1 required"):
        Searcher().find()  # type: ignore[call-arg]
    assert "missing 1 required" in str(only(lab).error)


def test_outside_of_an_experiment_a_step_just_works() -> None:
    with step("nothing", odd=Odd()) as block:
        block.output = Odd()
        assert current_scope() is None
    assert Searcher().find("q", k=1) == ["q"]
    assert list(step("numbers")(lambda: iter([1]))()) == [1]

    @step
    def produce() -> Iterator[int]:
        yield from range(3)

    assert list(produce()) == [0, 1, 2]


@contextmanager
def a_shared_fixture() -> Iterator[None]:
    with outside_runs():
        yield


def test_steps_that_belong_to_no_single_run_have_none(lab: Lab) -> None:
    with step("before any run"):
        SimpleBot()("unattributed")
    with lab.run(), step("in the test"), a_shared_fixture(), step("shared"):
        SimpleBot()("shared")
    found = steps(lab)
    assert [(found[name].run_id, found[name].parent_step_id) for name in ("before any run", "shared")] == [
        (None,) * 2
    ] * 2
    assert [call.run_id for call in lab.calls()] == [None, None]
    assert [path(lab, call) for call in lab.calls()] == [["before any run"], ["shared"]]


def test_a_step_after_the_end_of_its_run_belongs_to_no_run(lab: Lab) -> None:
    over = threading.Event()

    def late() -> None:
        with step("late"):
            SimpleBot()("late")

    def wait() -> None:
        over.wait(10)
        late()

    with lab.run() as run, step("in time"):
        thread = threading.Thread(target=wait)
        thread.start()
        with step("goes on") as longer:
            pass
    over.set()
    thread.join()
    found = steps(lab)
    assert (found["late"].run_id, found["late"].parent_step_id) == (None, None)
    assert (lab.call().run_id, lab.call().step_id) == (None, found["late"].id)
    assert (found["goes on"].run_id, longer.name) == (run.run.id, "goes on")


@pytest.mark.parametrize("wrong", ["", " ", 5, None, ["x"]])
def test_a_step_has_a_name(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="name is text that is not empty"):
        step(wrong)


def test_wrong_uses_say_what_to_do(lab: Lab) -> None:
    block = step("once")
    with lab.run():
        with block:
            pass
        with pytest.raises(ConfigurationError, match="in each with statement"), block:
            pass
    with pytest.raises(ConfigurationError, match="decorates a function"):
        step(Searcher)
    with pytest.raises(ConfigurationError, match="put it below @classmethod"):
        step("x")(classmethod(lambda cls: 1))  # type: ignore[arg-type]


def test_a_decorator_may_decorate_several_functions(lab: Lab) -> None:
    parsing = step("parse")
    first, second = parsing(lambda x: x), parsing(lambda x: -x)
    with lab.run():
        assert (first(1), second(1)) == (1, -1)
    lab.flush()
    assert [found.output for found in lab.store.steps(lab.id)] == [1, -1]


def test_what_cannot_be_recorded_is_a_problem_and_no_exception(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*records: Record, lazily: bool = False) -> None:
        raise RecordingError("the disk is full")

    with lab.run(), monkeypatch.context() as patched:
        patched.setattr(lab.recording.recorder, "_sink", type("Full", (), {"put": staticmethod(refuse)}))
        with step("lost") as block:
            block.output = 1
    assert lab.close() == ["RecordingError: the disk is full"] * 2


def test_calls_of_a_metric_and_of_tools_hang_under_their_steps(open_lab: OpenLab) -> None:
    lab = open_lab([Answer(tool_calls=[ToolCall("look_up", {"what": "x"})]), "done"])

    @step
    def look_up(what: str) -> str:
        """Look something up."""
        SimpleBot("I look up.")
        return what * 2

    @metric
    def judged(text: str) -> int:
        with step("judging"):
            return len(text)

    with lab.run(), step("agent"):
        judged(ToolBot("You help.", tools=[look_up])("go"))
    found = steps(lab)
    assert path(lab, found["look_up"]) == ["agent"]
    assert (found["look_up"].input, found["look_up"].output) == ({"what": "x"}, "xx")
    assert path(lab, found["judging"]) == ["agent"]
    first, second = lab.calls()
    assert (first.step_id, second.step_id) == (found["agent"].id,) * 2
    assert second.parent_call_id == first.id


def nest(number: int, ask: Callable[[str], object]) -> None:
    """Three steps in each other, with a call in the innermost and one after it."""
    with step(f"{number} a"), step(f"{number} b"):
        with step(f"{number} c"):
            ask(f"{number} in c")
        ask(f"{number} in b")


def test_parents_are_exact_with_many_threads_in_flight(lab: Lab) -> None:
    """32 threads in each of 4 runs nest steps at the same time, some in pools and threads of their own."""
    everybody = threading.Barrier(32)
    bot = SimpleBot()

    def one(number: int) -> None:
        everybody.wait(60)
        if number % 3 == 0:
            with step(f"{number} around"), ThreadPoolExecutor(1) as pool:
                pool.submit(nest, number, bot).result()
        elif number % 3 == 1:
            with step(f"{number} around"):
                thread = threading.Thread(target=nest, args=(number, bot))
                thread.start()
                thread.join()
        else:
            step(f"{number} around")(nest)(number, bot)

    for index in range(1, 5):
        with lab.run(index=index), ThreadPoolExecutor(32) as pool:
            list(pool.map(one, range(index * 100, index * 100 + 32)))
    assert lab.close() == []
    check_nests(lab, [number for index in range(1, 5) for number in range(index * 100, index * 100 + 32)])


def test_parents_are_exact_with_many_tasks_in_flight(lab: Lab) -> None:
    async def one(number: int, client: AsyncOpenAI) -> None:
        async def ask(text: str) -> None:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])

        with step(f"{number} around"), step(f"{number} a"), step(f"{number} b"):
            with step(f"{number} c"):
                await ask(f"{number} in c")
            await asyncio.sleep(0)
            await ask(f"{number} in b")

    async def body() -> None:
        async with AsyncOpenAI(base_url=lab.server.base_url, api_key="x") as client:
            await asyncio.gather(*(one(number, client) for number in range(100, 132)))

    with lab.run():
        asyncio.run(body())
    assert lab.close() == []
    check_nests(lab, list(range(100, 132)))


def check_nests(lab: Lab, numbers: list[int]) -> None:
    by_name = {found.name: found for found in lab.store.steps(lab.id)}
    assert len(by_name) == 4 * len(numbers)
    for number in numbers:
        around = [f"{number} around", f"{number} a", f"{number} b"]
        assert path(lab, by_name[f"{number} c"]) == around
        assert all(by_name[name].duration_s is not None for name in around)
    calls = lab.calls()
    assert len(calls) == 2 * len(numbers)
    runs = {found.id: found.run_id for found in by_name.values()}
    for call in calls:
        number, _, inner = call.request["messages"][0]["content"].split()
        wanted = [f"{number} around", f"{number} a", f"{number} b", *([f"{number} c"] if inner == "c" else [])]
        assert path(lab, call) == wanted
        assert call.run_id == runs[str(call.step_id)]


def test_a_step_left_in_another_context_gives_back_the_run(lab: Lab) -> None:
    """As a fixture that is set up in one task and torn down in another does."""
    with lab.run() as run:
        block = step("fixture")
        copy_context().run(block.__enter__)
        block.__exit__(None, None, None)
        scope = current_scope()
    assert scope is not None
    assert scope.run is run
    assert scope.step_id is None
    assert only(lab).duration_s is not None
