"""Beside others that look at the same calls: vcrpy's cassettes, and the spans of a framework."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_llmexp.localmodel import LocalModelServer
from pytest_llmexp.replaying import ReplayFrom
from tests.clients.asking import TEXT, WAYS
from tests.tracking.conftest import Lab

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def server() -> Iterator[LocalModelServer]:
    """The sampling model: every answer is another one."""
    with LocalModelServer() as started:
        yield started


@pytest.mark.parametrize(
    "name", ["openai_chat", "openai_stream", "anthropic_message", "requests_post", "genai_content"]
)
def test_calls_that_a_cassette_answers_are_recorded_and_replayed(
    name: str, server: LocalModelServer, tmp_path: Path
) -> None:
    import vcr

    answers = []
    for turn, replay in enumerate((None, None, ReplayFrom("only"))):
        lab = Lab(server, tmp_path, replay=replay)
        with lab.run(), vcr.use_cassette(str(tmp_path / "cassette.yaml"), record_mode="once") as cassette:
            answers.append(WAYS[name].ask(server.root_url))
        assert lab.close() == []
        assert len(server.requests) == 1  # the cassette answered the second time, and nobody asked the third
        assert cassette.play_count == (turn == 1)
        (call,) = lab.calls()
        assert (call.status, bool(call.replayed_from)) == ("ok", turn == 2)
        lab.store.close()
    assert answers[0] == answers[1] == answers[2]


@pytest.fixture(autouse=True)
def traced() -> None:
    """Set the process's tracer provider, as an application does, once."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())


def _agent(model: Any) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.instrumented import InstrumentationSettings

    def weather(city: str) -> str:
        """Tell the weather."""
        return f"rain in {city}"

    agent: Any = Agent(model, name="clerk")
    agent.instrument = InstrumentationSettings()
    agent.tool_plain(weather)
    return agent


def test_an_agents_spans_are_steps_and_its_calls_are_counted_once(server: LocalModelServer, tmp_path: Path) -> None:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel("m", provider=OpenAIProvider(base_url=server.base_url, api_key="x"))
    lab = Lab(server, tmp_path)
    with lab.run():
        _agent(model).run_sync(TEXT)
    assert lab.close() == []
    steps = {step.id: step for step in lab.store.steps(lab.id)}
    assert "agent" in {step.kind for step in steps.values()}
    calls = lab.calls()
    assert len(calls) == len(server.requests)
    for call in calls:
        assert call.client != "otel"
        assert call.step_id in steps
    lab.store.close()


def test_a_model_without_http_is_a_call_that_its_span_tells_of(server: LocalModelServer, tmp_path: Path) -> None:
    from pydantic_ai.models.test import TestModel

    lab = Lab(server, tmp_path)
    with lab.run():
        _agent(TestModel()).run_sync(TEXT)
    assert lab.close() == []
    assert server.requests == []
    calls = lab.calls()
    assert {call.client for call in calls} == {"otel"}
    assert all(call.input_tokens and call.status == "ok" for call in calls)
    assert {step.kind for step in lab.store.steps(lab.id)} >= {"agent", "tool"}
    lab.store.close()
