"""How long a commit takes when threads hand in calls as fast as they can, each waiting for its own.

Harder than real calls, between which a thread waits for the model.
"""

import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pytest_llmexp.core.clock import utc_now
from pytest_llmexp.core.ids import new_id
from pytest_llmexp.core.models import Call
from pytest_llmexp.core.redact import Redactor
from pytest_llmexp.lifecycle import begin
from pytest_llmexp.store import Writer, open_store
from pytest_llmexp.tracking.sources import ModelSource

THREADS, COMMITS = 64, int(os.environ["BENCHMARK_RUNS"])
TEXT = ("Please read the following notes and say what they have in common. " * 64)[:4096]


def main() -> None:
    """Print the percentiles in milliseconds."""
    with open_store("commits.db", create=True) as store:
        experiment = begin(store, "commits", source=ModelSource("model"), folder=Path.cwd())
        url = store.url
    writer = Writer(lambda: open_store(url, redact=Redactor(os.environ)))
    writer.put().result()

    def commit(ordinal: int) -> float:
        call = Call(
            id=new_id("call"),
            experiment_id=experiment.id,
            ordinal=ordinal,
            request={"messages": [{"role": "user", "content": TEXT}]},
            response={"choices": [{"message": {"role": "assistant", "content": TEXT}}]},
            status="ok",
            started_at=utc_now(),
        )
        started = time.perf_counter()
        writer.put(call).result()
        return (time.perf_counter() - started) * 1000

    commit(0)  # opens the store
    with ThreadPoolExecutor(THREADS) as pool:
        took = list(pool.map(commit, range(1, COMMITS + 1)))
    writer.close()
    if writer.lost:
        raise SystemExit(f"{writer.lost} records were lost: {writer.errors[0]}")
    percentiles = statistics.quantiles(took, n=100)
    print(json.dumps({"p50_ms": percentiles[49], "p99_ms": percentiles[98], "max_ms": max(took)}))


main()
