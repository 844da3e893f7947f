"""Test a bot that calls Python functions: did it choose the right one, and with the right arguments?

`tools=` takes plain functions. Their names, docstrings and annotations are what the model is told about them. The
answer is a `Reply`: a text that also knows, as `tool_results`, which tools were called and what they returned.
"""

import pytest

from pytest_llmexp import BotFactory, ExperimentRun, RecordMetric, prompt


def order_status(order_number: int) -> str:
    """Look up where an order is."""
    return f"order {order_number} is on its way"


def opening_hours(city: str) -> str:
    """Look up when the shop in a city is open."""
    return f"the shop in {city} is open from 9 to 18"


@prompt("system")
def shop_sysprompt() -> None:
    """You answer the customers of a shop. Look things up, do not guess."""


@pytest.mark.experiment(n=5)
@pytest.mark.parametrize(
    ("question", "tool", "argument"),
    [
        pytest.param("Where is my order 4711?", "order_status", 4711, id="order"),
        pytest.param("When is your shop in Oslo open?", "opening_hours", "Oslo", id="hours"),
    ],
)
def test_right_tool(
    bot: BotFactory,
    record_metric: RecordMetric,
    experiment_run: ExperimentRun,
    question: str,
    tool: str,
    argument: object,
) -> None:
    clerk = bot(shop_sysprompt(), tools=[order_status, opening_hours])
    reply = clerk(question)  # recorded: a call that asks for the tool, and a call that reads its result
    called = [result.name for result in reply.tool_results]
    experiment_run.record(input=question, output=reply, expected=tool)
    record_metric("right_tool", called == [tool])
    record_metric("right_argument", any(argument in result.arguments.values() for result in reply.tool_results))
