"""What recording adds to a call: the same process makes the same calls through the openai client in three ways.

`off`: nothing is recorded. `calls`: one run holds all calls. `runs`: each call is a run of its own.
The ways take turns; the first call of a turn is a warm-up.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from openai import OpenAI

from pytest_llmexp.lifecycle import begin
from pytest_llmexp.recording import Recording
from pytest_llmexp.store import open_store
from pytest_llmexp.tracking.scope import entered
from pytest_llmexp.tracking.sources import resolve_source

RUNS, THREADS = int(os.environ["BENCHMARK_RUNS"]), int(os.environ["BENCHMARK_IN_FLIGHT"])
MODEL, WAYS, TURNS = os.environ["BENCHMARK_MODEL"], ("off", "calls", "runs"), 3
CALLS = RUNS // (len(WAYS) * TURNS) - 1
QUESTION = ("Please read the following notes and say what they have in common. " * 64)[:4096]

Ask = Callable[[int], int]


def asking(client: OpenAI) -> Ask:
    """Return what makes a call and says how many bytes went over the wire both ways."""

    def ask(index: int) -> int:
        response = client.chat.completions.with_raw_response.create(
            model=MODEL, temperature=1.0, messages=[{"role": "user", "content": f"{index}. {QUESTION}"}]
        )
        assert response.parse().choices[0].message.content
        return len(response.http_request.content) + len(response.content)

    return ask


@contextmanager
def recorded(way: str, ask: Ask) -> Iterator[Ask]:
    """Record into a file of the way's own, opened and closed outside of what is measured."""
    if way == "off":
        yield ask
        return
    url, source = f"{way}.db", resolve_source(MODEL, None, os.environ)
    with open_store(url, create=True) as store:
        experiment = begin(store, way, source=source, folder=Path.cwd())
    recording = Recording(url, experiment.id, source)
    recording.open()
    run = recording.recorder.begin_run("calls", 1)

    def ask_in_run(index: int) -> int:
        run = recording.recorder.begin_run("runs", index + 1)
        with entered(run.scope()):
            size = ask(index)
        run.end("passed")
        return size

    with entered(run.scope()):
        yield ask if way == "calls" else ask_in_run
    run.end("passed")
    if problems := recording.close():
        raise SystemExit(f"not recorded: {problems}")


def measure(ask: Ask) -> tuple[float, int]:
    """Make the calls; return the CPU seconds per call, all threads together, and the bytes of all calls."""
    warm_up = ask(CALLS)
    before = time.process_time()
    with ThreadPoolExecutor(THREADS) as pool:
        size = sum(pool.map(ask, range(CALLS)))
    return (time.process_time() - before) / CALLS, warm_up + size


def main() -> None:
    """Let the ways take turns and print what they took."""
    cpu: dict[str, list[float]] = {way: [] for way in WAYS}
    payload = 0
    with OpenAI() as client:
        for turn in range(TURNS):
            for way in (*WAYS[turn:], *WAYS[:turn]):
                with recorded(way, asking(client)) as ask:
                    took, size = measure(ask)
                cpu[way].append(took)
                payload += size if way == "runs" else 0
    medians = {way: statistics.median(took) * 1e6 for way, took in cpu.items()}
    added = {way: medians[way] - medians["off"] for way in ("calls", "runs")}
    stored = sum(file.stat().st_size for file in Path().glob("runs.db*"))
    print(json.dumps({"off_us": medians["off"], **added, "file": stored / payload, "payload": payload}))


main()
