"""@metric: the border that values pass, one value per name and run, and the role of calls made inside."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from pytest_llmexp import AsyncSimpleBot, SimpleBot, metric
from pytest_llmexp.core.errors import MetricError
from tests.tracking.conftest import Lab


class Score(BaseModel):
    score: int = 3


@metric
def value_of(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("value", "kind", "stored"),
    [
        (True, "boolean", 1.0),
        (False, "boolean", 0.0),
        (7, "ordinal", 7.0),
        (-0.25, "float", -0.25),
        (np.float32(0.5), "float", 0.5),
        (np.int64(4), "ordinal", 4.0),
        (np.bool_(True), "boolean", 1.0),
    ],
)
def test_scalars_are_recorded_and_returned_unchanged(lab: Lab, value: Any, kind: str, stored: float) -> None:
    with lab.run() as run:
        assert value_of(value) is value
    (recorded,) = lab.store.metrics(lab.id)
    assert (recorded.run_id, recorded.name, recorded.kind, recorded.value) == (run.run.id, "value_of", kind, stored)


@pytest.mark.parametrize("value", ["9", None, math.nan, math.inf, 1j, [1], {"a": 1}, Score(), (1,), object()])
def test_everything_else_is_an_error_that_names_metric_and_type(lab: Lab, value: Any) -> None:
    with lab.run(), pytest.raises(MetricError, match=rf"metric 'value_of': .*{type(value).__name__}"):
        value_of(value)
    assert lab.store.metrics(lab.id) == []


def test_a_second_value_under_one_name_is_an_error(lab: Lab) -> None:
    with lab.run():
        value_of(1)
        with pytest.raises(MetricError, match=r"has a value in this run already: 1 .*the new one: 2"):
            value_of(2)
    with lab.run(index=2):
        value_of(2)
    assert [recorded.value for recorded in lab.store.metrics(lab.id)] == [1.0, 2.0]


def test_a_metric_may_have_another_name_a_direction_and_bounds(lab: Lab) -> None:
    @metric(name="coolness", better="higher", bounds=(1, 10))
    def judge(value: int) -> int:
        return value

    with lab.run():
        judge(4)
    with lab.run(index=2), pytest.raises(MetricError, match=r"11\.0 is outside its bounds"):
        judge(11)
    (recorded,) = lab.store.metrics(lab.id)
    assert (recorded.name, recorded.better, recorded.detail) == ("coolness", "higher", {"bounds": [1.0, 10.0]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"better": "up"}, "allowed: 'higher', 'lower'"),
        ({"bounds": (10, 1)}, "low < high"),
        ({"bounds": 10}, "low < high"),
        ({"bounds": ()}, "low < high"),
        ({"name": " "}, "not empty"),
    ],
)
def test_wrong_options_are_errors_at_decoration(options: Any, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        metric(**options)(lambda: 1)


def test_a_name_as_the_only_argument_says_how_to_give_one() -> None:
    with pytest.raises(MetricError, match=r"a name is given as @metric\(name='coolness'\)"):
        metric("coolness")  # type: ignore[call-overload]


def test_outside_of_a_run_a_metric_is_just_a_function() -> None:
    assert value_of("no scalar at all") == "no scalar at all"
    assert value_of.__name__ == "value_of"


def test_outside_of_a_run_of_an_experiment_nothing_is_recorded(lab: Lab) -> None:
    assert value_of("text") == "text"
    assert lab.close() == []
    assert lab.store.metrics(lab.id) == []


def test_a_coroutine_function_is_a_metric_too(lab: Lab) -> None:
    @metric
    async def judged(text: str) -> float:
        answer = await AsyncSimpleBot("You judge.")(text)
        return float(len(answer))

    async def body() -> float:
        await AsyncSimpleBot("You name.")("name it")
        return await judged("data chef")

    with lab.run():
        assert asyncio.run(body()) == len("echo: data chef")
    (recorded,) = lab.store.metrics(lab.id)
    assert (recorded.name, recorded.value) == ("judged", 15.0)
    assert [call.role for call in lab.calls()] == ["generation", "evaluation"]


def test_a_coroutine_that_nobody_awaited_is_an_error_that_says_so(lab: Lab) -> None:
    async def answer() -> int:
        return 1

    coroutine = answer()
    with lab.run(), pytest.raises(MetricError, match="it was not awaited"):
        value_of(coroutine)
    assert asyncio.run(coroutine) == 1


def test_calls_inside_a_metric_are_evaluation_and_stay_out_of_the_totals(lab: Lab) -> None:
    bot = SimpleBot("You help.")

    @metric
    def inner(text: str) -> int:
        return len(bot(f"inner {text}"))

    @metric
    def outer(text: str) -> int:
        bot("judge before")
        inner(text)
        return len(bot("judge after"))

    with lab.run():
        bot("generate")
        outer("x")
        bot("generate again")
    roles = {call.request["messages"][-1]["content"]: call.role for call in lab.calls()}
    assert roles == {
        "generate": "generation",
        "judge before": "evaluation",
        "inner x": "evaluation",
        "judge after": "evaluation",
        "generate again": "generation",
    }
    (totals,) = lab.store.run_totals(lab.id)
    assert totals.calls == 2
    assert totals.input_tokens == sum(call.input_tokens or 0 for call in lab.calls() if call.role == "generation")
    assert {recorded.name for recorded in lab.store.metrics(lab.id)} == {"inner", "outer"}


def test_an_exception_of_a_metric_passes_and_the_role_ends_with_it(lab: Lab) -> None:
    @metric
    def broken() -> int:
        raise ZeroDivisionError("by design")

    with lab.run():
        with pytest.raises(ZeroDivisionError, match="by design"):
            broken()
        SimpleBot()("afterwards")
    assert lab.store.metrics(lab.id) == []
    assert lab.call().role == "generation"


def test_a_metric_after_the_end_of_its_run_is_refused(lab: Lab) -> None:
    with lab.run() as run:
        pass
    with pytest.raises(MetricError, match="its run has ended"):
        run.record_metric("late", 1)
    assert lab.close() == []
    assert lab.store.metrics(lab.id) == []
