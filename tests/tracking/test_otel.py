"""Spans about models, agents and tools become steps, and no call is counted twice. With the real OpenTelemetry SDK.

Beside the SDK only the openai client is used here: the spans are those that frameworks make, written by hand.
"""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import OpenAI

from pytest_llmexp import SimpleBot, metric, step
from pytest_llmexp.core.models import Call, Step
from pytest_llmexp.report.conversation import ToolUse, Turn, read_request, read_response
from pytest_llmexp.tracking.otel import span_processor
from tests.tracking.conftest import Lab

sdk: Any = pytest.importorskip("opentelemetry.sdk.trace")
trace: Any = pytest.importorskip("opentelemetry.trace")

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper"}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
ANSWERED = {
    "gen_ai.provider.name": "in-process",
    "gen_ai.request.temperature": 0.5,
    "gen_ai.response.model": "m-2026",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 51,
    "gen_ai.usage.output_tokens": 5,
    "gen_ai.usage.cache_read.input_tokens": 3,
    "gen_ai.system_instructions": '[{"type": "text", "content": "Be brief."}]',
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "hello"}]}]),
    "gen_ai.output.messages": json.dumps(
        [{"role": "assistant", "parts": [{"type": "tool_call", "name": "look", "arguments": {"at": "it"}}]}]
    ),
}


@pytest.fixture
def tracer(lab: Lab) -> Any:
    """Return a tracer of a provider that is made while the lab records."""
    return sdk.TracerProvider().get_tracer("a-framework")


def tree(lab: Lab) -> Any:
    """Return the names of steps and calls (`!model`) of all runs, nested."""
    lab.flush()
    records: list[Step | Call] = [*lab.store.steps(lab.id), *lab.calls()]
    children: dict[str | None, list[Step | Call]] = {}
    for record in sorted(records, key=lambda record: record.id.partition("_")[2]):
        children.setdefault(record.parent_step_id if isinstance(record, Step) else record.step_id, []).append(record)

    def below(parent: str | None) -> list[Any]:
        return [
            f"!{record.model_requested}"
            if isinstance(record, Call)
            else (record.name, below(record.id))
            if record.id in children
            else record.name
            for record in children.get(parent, [])
        ]

    return below(None)


def ask(lab: Lab, text: str = "hello", model: str = "m") -> None:
    with OpenAI(base_url=lab.server.base_url, api_key="x", max_retries=0) as client:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])


def test_spans_steps_and_calls_are_one_tree(lab: Lab, tracer: Any) -> None:
    with lab.run(), step("mine"), tracer.start_as_current_span("agent", attributes=AGENT):
        with tracer.start_as_current_span("chat m", attributes=CHAT):
            ask(lab)
        with tracer.start_as_current_span("look", attributes={"gen_ai.operation.name": "execute_tool"}):
            with step("inside the tool"):
                ask(lab)
                with tracer.start_as_current_span("chat m again", attributes=CHAT):
                    ask(lab)
                ask(lab)
            ask(lab)
    again = ["!m", ("chat m again", ["!m"]), "!m"]
    look = ("look", [("inside the tool", again), "!m"])
    assert tree(lab) == [("mine", [("agent", [("chat m", ["!m"]), look])])]
    assert lab.close() == []


def test_a_model_without_http_is_a_call_of_its_own(lab: Lab, tracer: Any) -> None:
    with lab.run() as run, tracer.start_as_current_span("chat m", attributes=CHAT) as span:
        span.set_attributes(ANSWERED)
    assert tree(lab) == [("chat m", ["!m"])]
    call = lab.call()
    assert (call.client, call.endpoint, call.run_id, call.status) == ("otel", "in-process", run.run.id, "ok")
    assert (call.model_requested, call.model_returned, call.temperature) == ("m", "m-2026", 0.5)
    assert (call.input_tokens, call.output_tokens, call.cached_tokens, call.finish_reason) == (51, 5, 3, "stop")
    assert (call.ordinal, call.role) == (1, "generation")
    assert call.latency_s is not None
    assert read_request(call.request) == [Turn("system", "Be brief."), Turn("user", "hello")]
    assert read_response(call.response) == [Turn("assistant", "", (ToolUse("look", {"at": "it"}),))]
    (totals,) = lab.store.run_totals(lab.id)
    assert (totals.calls, totals.input_tokens) == (1, 51)


def test_a_span_keeps_input_output_kind_and_attributes(lab: Lab, tracer: Any) -> None:
    tool = {"openinference.span.kind": "TOOL", "input.value": '{"q": 1}', "output.value": "plain", "tool.name": "look"}
    with lab.run(), tracer.start_as_current_span("look", attributes=tool):
        pass
    lab.flush()
    (found,) = lab.store.steps(lab.id)
    assert (found.kind, found.source, found.input, found.output) == ("tool", "otel", {"q": 1}, "plain")
    assert found.attributes == {"openinference.span.kind": "TOOL", "tool.name": "look"}
    assert found.duration_s is not None
    assert lab.calls() == []


def test_openinference_tells_of_tokens_too(lab: Lab, tracer: Any) -> None:
    told = {
        "openinference.span.kind": "LLM",
        "llm.model_name": "m",
        "llm.token_count.prompt": 7,
        "llm.token_count.completion": 8,
        "input.value": json.dumps({"messages": [{"role": "user", "content": "hi"}]}),
    }
    with lab.run(), tracer.start_as_current_span("llm", attributes=told):
        pass
    lab.flush()
    call = lab.call()
    assert (call.model_requested, call.input_tokens, call.output_tokens) == ("m", 7, 8)
    assert read_request(call.request) == [Turn("user", "hi")]


def test_a_span_that_failed_says_why(lab: Lab, tracer: Any) -> None:
    with lab.run(), pytest.raises(ValueError, match="bad"), tracer.start_as_current_span("chat", attributes=CHAT):
        raise ValueError("bad")
    lab.flush()
    assert [found.error for found in lab.store.steps(lab.id)] == ["ValueError: bad"]
    assert (lab.call().status, lab.call().error) == ("error", "ValueError: bad")


def test_an_open_span_about_models_is_in_the_store(lab: Lab, tracer: Any) -> None:
    with lab.run(), tracer.start_as_current_span("agent", attributes=AGENT):
        assert tree(lab) == ["agent"]
        assert lab.store.steps(lab.id)[0].duration_s is None


def test_other_spans_are_kept_only_where_something_lies_in_them(lab: Lab, tracer: Any) -> None:
    with lab.run():
        with tracer.start_as_current_span("query"):
            pass
        with tracer.start_as_current_span("handle"), tracer.start_as_current_span("plan"):
            ask(lab)
        with tracer.start_as_current_span("around"), step("mine"):
            pass
    assert tree(lab) == [("handle", [("plan", ["!m"])]), ("around", ["mine"])]
    assert {found.kind for found in lab.store.steps(lab.id) if found.source == "otel"} == {"span"}


def test_a_call_in_a_step_inside_of_a_models_span_is_counted_once(lab: Lab, tracer: Any) -> None:
    with lab.run(), tracer.start_as_current_span("chat m", attributes=CHAT), step("transport"):
        ask(lab)
    assert tree(lab) == [("chat m", [("transport", ["!m"])])]


def test_a_models_span_around_another_is_not_another_call(lab: Lab, tracer: Any) -> None:
    with (
        lab.run(),
        tracer.start_as_current_span("fallback", attributes=CHAT),
        tracer.start_as_current_span("chat m", attributes=CHAT),
    ):
        pass
    assert tree(lab) == [("fallback", [("chat m", ["!m"])])]


def test_spans_that_nobody_enters_find_their_calls(lab: Lab, tracer: Any) -> None:
    """As LangChain's instrumentation makes them: started and ended in callbacks, and what they are said at the end."""
    told = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
    with lab.run():
        chain = tracer.start_span("chain")
        for name in ("first", "second"):
            span = tracer.start_span(name, context=trace.set_span_in_context(chain))
            ask(lab)
            span.set_attributes(told)
            span.end()
        silent = tracer.start_span("in-process", context=trace.set_span_in_context(chain))
        silent.set_attributes({**told, "llm.model_name": "other"})
        silent.end()
        chain.set_attribute("openinference.span.kind", "CHAIN")
        chain.end()
    assert tree(lab) == [("chain", [("first", ["!m"]), ("second", ["!m"]), ("in-process", ["!other"])])]


def test_only_a_call_that_fits_is_told_of_by_a_span_that_nobody_entered(lab: Lab, tracer: Any) -> None:
    told = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
    with lab.run():
        ask(lab)
        first, second = tracer.start_span("first", attributes=told), tracer.start_span("second", attributes=told)
        another = tracer.start_span("another model", attributes={**told, "llm.model_name": "other"})
        ask(lab)
        for span in (another, first, second):
            span.end()
        tracer.start_span("later", attributes=told).end()
    found = sorted((str(call.model_requested), str(call.client) == "otel") for call in lab_calls(lab))
    assert found == [("m", False), ("m", False), ("m", True), ("m", True), ("other", True)]


def lab_calls(lab: Lab) -> list[Call]:
    lab.flush()
    return lab.calls()


def test_two_instrumentations_may_tell_of_the_same_call(lab: Lab, tracer: Any) -> None:
    other = sdk.TracerProvider().get_tracer("another-framework")
    told = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
    with lab.run():
        outer = tracer.start_span("outer", attributes=told)
        inner = other.start_span("inner", attributes=told)
        ask(lab)
        inner.end()
        outer.end()
    assert len(lab.calls()) == 1


def test_calls_inside_a_metric_are_evaluation(lab: Lab, tracer: Any) -> None:
    @metric
    def judged() -> int:
        with tracer.start_as_current_span("chat", attributes={**CHAT, **ANSWERED}):
            return 1

    with lab.run():
        judged()
    lab.flush()
    assert lab.call().role == "evaluation"
    assert lab.store.run_totals(lab.id) == []


def test_spans_outside_of_runs_are_left_alone(lab: Lab, tracer: Any) -> None:
    with tracer.start_as_current_span("session", attributes=AGENT):
        with lab.run(), step("mine"):
            ask(lab)
        with tracer.start_as_current_span("chat", attributes=CHAT):
            pass
    assert tree(lab) == [("mine", ["!m"])]


def test_a_span_of_one_run_is_no_parent_in_another(lab: Lab, tracer: Any) -> None:
    with lab.run(), tracer.start_as_current_span("agent", attributes=AGENT), lab.run(index=2) as second:
        ask(lab)
        with step("mine"), tracer.start_as_current_span("chat", attributes=CHAT):
            ask(lab)
    assert tree(lab) == ["agent", "!m", ("mine", [("chat", ["!m"])])]
    assert {call.run_id for call in lab.calls()} == {second.run.id}


def test_parents_are_exact_with_many_threads_and_tasks(lab: Lab, tracer: Any) -> None:
    everybody = threading.Barrier(16)

    def one(number: int) -> None:
        everybody.wait(60)
        with tracer.start_as_current_span(f"{number} agent", attributes=AGENT), step(f"{number} step"):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(chat, number).result()
            asyncio.run(asyncio.to_thread(chat, number))

    def chat(number: int) -> None:
        with tracer.start_as_current_span(f"{number} chat", attributes=CHAT):
            ask(lab, model=f"{number}")

    with lab.run(), ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(16)))
    found = {name.split()[0]: below for name, below in tree(lab)}
    assert len(found) == 16
    for number, below in found.items():
        assert below == [(f"{number} step", [(f"{number} chat", [f"!{number}"])] * 2)]
    assert lab.close() == []


def test_bots_calls_hang_under_spans(lab: Lab, tracer: Any) -> None:
    with lab.run(), tracer.start_as_current_span("agent", attributes=AGENT):
        SimpleBot("You.", model_name="b")("hi")
    assert tree(lab) == [("agent", ["!b"])]


@pytest.fixture
def early() -> Any:
    """Return a provider that was made before anything recorded."""
    return sdk.TracerProvider()


def test_a_provider_made_before_is_given_the_processor_by_hand(early: Any, lab: Lab) -> None:
    for _ in range(2):
        early.add_span_processor(span_processor())
        span_processor().attach(early)
    with lab.run(), early.get_tracer("x").start_as_current_span("agent", attributes=AGENT):
        pass
    assert tree(lab) == ["agent"]


def test_nothing_is_left_behind(lab: Lab, tracer: Any) -> None:
    with lab.run(), tracer.start_as_current_span("agent", attributes=AGENT):
        ask(lab)
    assert lab.close() == []
    assert lab.recording.recorder.spans is None
    with tracer.start_as_current_span("after", attributes=AGENT):
        pass
    processor = span_processor()
    assert not processor._open
    assert not processor._by_step
    assert not processor._calls
    assert sdk.TracerProvider.__init__.__module__ == "opentelemetry.sdk.trace"
    assert not hasattr(sdk.TracerProvider.__init__, "__wrapped__")


def test_a_span_that_cannot_be_read_is_a_problem_and_no_exception(
    lab: Lab, tracer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> bool:
        raise RuntimeError("by design")

    monkeypatch.setattr("pytest_llmexp.tracking.spans.tells_of_models", broken)
    with lab.run(), tracer.start_as_current_span("agent", attributes=AGENT):
        pass
    assert lab.close() == ["RuntimeError: by design"] * 2
