"""What the hook in the HTTP client adds to a call of the openai client, whose answers are made in this process.

`off`: no hook. `outside`: the hook is installed, but there is no experiment to record into. `recorded`: the calls of
one run. `replayed`: these answers, served to the same run of a second experiment. The ways take turns, in this order.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openai import DefaultHttpxClient, OpenAI

from pytest_llmexp.lifecycle import begin
from pytest_llmexp.recording import Recording
from pytest_llmexp.replaying import ReplayFrom
from pytest_llmexp.store import open_store
from pytest_llmexp.tracking.capture import capturing
from pytest_llmexp.tracking.scope import entered
from pytest_llmexp.tracking.sources import ModelSource

WAYS, TURNS = ("off", "outside", "recorded", "replayed"), 3
CALLS = int(os.environ["BENCHMARK_RUNS"])
ADDRESS = "http://127.0.0.1:9/v1"  # nobody is there, and nobody is asked
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "model",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Blue. " * 7}}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 10, "total_tokens": 22},
}


def make_client() -> OpenAI:
    """Return a client whose transport answers at once. openai 3 is built on httpx2, openai 2 on httpx."""
    modules = (sys.modules[base.__module__] for base in DefaultHttpxClient.__mro__)
    library: Any = next(module for module in modules if hasattr(module, "MockTransport"))
    transport = library.MockTransport(lambda request: library.Response(200, json=ANSWER))
    return OpenAI(base_url=ADDRESS, api_key="none-is-needed", http_client=library.Client(transport=transport))


@contextmanager
def in_run(turn: int, replay: ReplayFrom | None) -> Iterator[None]:
    """Record into a run of an experiment in the turn's file."""
    url, source = f"turn{turn}.db", ModelSource("model", ADDRESS, "none-is-needed")
    with open_store(url, create=True) as store:
        experiment = begin(store, "calls", source=source, folder=Path.cwd())
    recording = Recording(url, experiment.id, source, replay=replay)
    recording.open()
    run = recording.recorder.begin_run("calls", 1)
    with entered(run.scope()):
        yield
    run.end("passed")
    if problems := recording.close():
        raise SystemExit(f"not recorded: {problems}")


@contextmanager
def hooked(way: str, turn: int) -> Iterator[None]:
    """Be in the state that a way measures."""
    if way == "off":
        yield
    elif way == "outside":
        with capturing():
            yield
    else:
        with in_run(turn, ReplayFrom("only") if way == "replayed" else None):
            yield


def measure(client: OpenAI) -> float:
    """Return the CPU microseconds per call, all threads together; the first call is a warm-up."""
    before = 0.0
    for index in range(CALLS + 1):
        if index == 1:
            before = time.process_time()
        answer = client.chat.completions.create(
            model="model", temperature=1.0, messages=[{"role": "user", "content": f"{index}. Name a colour."}]
        )
        assert answer.choices[0].message.content
    return (time.process_time() - before) / CALLS * 1e6


def main() -> None:
    """Let the ways take turns and print what they took."""
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    with make_client() as client:
        for turn in range(TURNS):
            for way in WAYS:
                with hooked(way, turn):
                    took[way].append(measure(client))
    medians = {way: statistics.median(values) for way, values in took.items()}
    print(json.dumps({"off": medians["off"], **{way: medians[way] - medians["off"] for way in WAYS[1:]}}))


main()
