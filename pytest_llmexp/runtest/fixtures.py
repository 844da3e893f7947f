"""The fixtures. Light to import: what they need is imported when a test asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from openai import OpenAI
    from pydantic import BaseModel

    from pytest_llmexp.runtest.fixture_types import BotFactory, ExperimentRun, RecordMetric
    from pytest_llmexp.tracking.clients import Clients
    from pytest_llmexp.tracking.prompts import Message
    from pytest_llmexp.tracking.recorder import RunRecorder


def _recorder(fixture: str) -> RunRecorder:
    """The run whose setup this is.

    Not from `request`: to make one takes pytest longer than the whole fixture, and it makes one for each run, even
    where only a session fixture takes it.
    """
    from pytest_llmexp.tracking.scope import current_run  # start-up cost: only experiments need it

    run = current_run()
    if run is None:
        raise pytest.UsageError(
            f"the fixture {fixture!r} is for experiments: mark the test with @pytest.mark.experiment(n=10), "
            "and ask for it in fixtures of function scope"
        )
    return run


def _clients() -> Clients:
    """The session's clients. A session fixture's error would be kept for all tests, so unmarked ones may have it."""
    from pytest_llmexp.tracking.scope import current_scope  # start-up cost, as above

    scope = current_scope()
    if scope is None or scope.experiment.clients is None:
        raise pytest.UsageError("the fixture 'llm_client' is for experiments: mark a test @pytest.mark.experiment")
    return scope.experiment.clients


@pytest.fixture
def experiment_run() -> ExperimentRun:
    """The run in progress: index, case, params; tag(key="value"), record(input=, output=, expected=)."""
    from pytest_llmexp.runtest.fixture_types import ExperimentRun  # start-up cost, as below

    return ExperimentRun(_recorder("experiment_run"))


@pytest.fixture
def record_metric() -> RecordMetric:
    """Record a metric of this run: record_metric("name_length", 12, better="lower", bounds=(0, 40)).

    The value is a bool, an int or a finite float; one name gets one value per run.
    """
    return _recorder("record_metric").record_metric


@pytest.fixture(scope="session")
def llm_client() -> OpenAI:
    """The openai client that bots use, shared by the process.

    Override it in conftest.py to use a client of your own; its calls are recorded all the same.
    """
    return _clients().client()


@pytest.fixture
def bot(llm_client: Any) -> BotFactory:
    """Make a bot: bot(system_prompt, model=, temperature=, output=PydanticModel, tools=[functions], name=).

    Calling the bot with messages returns its answer: text, an instance of `output`, or text after tool calls.
    Further keyword arguments (max_tokens=, seed=, output_mode=, max_repair=, ...) are passed on.
    """
    from pytest_llmexp.tracking import bots  # start-up cost: openai and pydantic

    client = None if _is_shared(_recorder("bot"), llm_client) else llm_client
    return _factory(bots.SimpleBot, bots.StructuredBot, bots.ToolBot, client)


@pytest.fixture
def async_bot(llm_client: Any) -> BotFactory:
    """Make a bot for `async def` tests: takes what `bot` takes; the bot's calls are awaited."""
    from pytest_llmexp.tracking import bots  # start-up cost, as above

    client = None if _is_shared(_recorder("async_bot"), llm_client) else llm_client
    return _factory(bots.AsyncSimpleBot, bots.AsyncStructuredBot, bots.AsyncToolBot, client)


def _is_shared(recorder: RunRecorder, client: Any) -> bool:
    clients = recorder.experiment.clients
    return clients is not None and client is clients.made_client()


def _factory(simple: Any, structured: Any, tool: Any, client: Any) -> BotFactory:
    def make(
        system_prompt: str | Message | None = None,
        *,
        model: str | None = None,
        temperature: float | None = None,
        output: type[BaseModel] | None = None,
        tools: Sequence[Callable[..., Any]] | None = None,
        name: str | None = None,
        **parameters: Any,
    ) -> Any:
        shared = {"model_name": model, "temperature": temperature, "name": name, "client": client, **parameters}
        if output is not None and tools is not None:
            raise TypeError("a bot takes output= or tools=, not both: let a second bot structure the answer")
        if output is not None:
            return structured(system_prompt, pydantic_model=output, **shared)
        if tools is not None:
            return tool(system_prompt, tools=tools, **shared)
        return simple(system_prompt, **shared)

    return make
