"""What the processes of the fault tests run: `python -m tests.faults.store_processes <role> <db> <arguments>`.

They tell on standard output what they did, one line at a time, unbuffered.
"""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event

from pytest_llmexp.core.errors import LlmexpError
from pytest_llmexp.core.models import Call
from pytest_llmexp.store import Writer, open_store
from tests.store.examples import call, experiment, metric, run


def answer(name: str) -> dict[str, str]:
    """Return what the call of this name was answered: long enough to span pages."""
    return {"content": f"{name} " * 1500}


def numbered_call(name: str, run_id: str | None = "run_1") -> Call:
    """Return the call of this name."""
    return call(name, run_id, response=answer(name), error=name)


def tell(*words: object) -> None:
    """Say something to the test, also just before a SIGKILL."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def open_fresh(db: str) -> None:
    """Open a store that may not be there yet, with all others at once: when standard input ends."""
    sys.stdin.read()
    store = open_store(db, create=True)
    store.write([experiment(f"exp_{os.getpid()}")])
    store.close()
    tell("opened")


def write_for_ever(db: str, worker: str) -> None:
    """Write until killed; each acknowledged pair of a call and a metric is told."""
    writer = Writer(lambda: open_store(db))
    number = 0
    while True:
        name = f"{worker}-{number:06}"
        own = run(f"run_{name}", run_index=number + 1)
        writer.put(own, numbered_call(name, own.id), metric("m", number, own.id)).result()
        tell(name)
        number += 1


def write_some(db: str, worker: str, count: str) -> None:
    """Write a number of calls, each in a transaction of its own, and tell from when to when the file was locked.

    A transaction that SQLite is told of while the file is not locked is told too, as is a close.
    """
    store = open_store(db)
    spans: list[list[int]] = []
    stray: list[str] = []
    lock: Any = store._connections._lock
    locked = lock.held

    @contextmanager
    def held() -> Iterator[None]:
        with locked():
            spans.append([time.monotonic_ns()])
            yield
            spans[-1].append(time.monotonic_ns())

    def check(statement: str) -> None:
        if statement.startswith(("BEGIN", "COMMIT", "close")) and not (spans and len(spans[-1]) == 1):
            stray.append(statement)

    lock.held = held
    event.listen(store._connections.engine, "close", lambda connection, record: check("close"))
    with store._connections.inserting() as connection:
        connection.set_trace_callback(check)
    tell("ready")
    sys.stdin.read()
    for number in range(int(count)):
        store.write([numbered_call(f"{worker}-{number:06}")])
    store.close()
    for span in spans:
        tell(*span)
    if stray:
        tell("not locked:", stray)


def fill_the_disk(db: str, limit: str) -> None:
    """Write until no file may grow any more, then go on with more room."""
    store = open_store(db)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    number = 0
    try:
        while True:
            store.write([numbered_call(f"before-{number:06}")])
            tell(f"before-{number:06}")
            number += 1
    except LlmexpError as error:
        tell("error:", type(error).__name__, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.write([numbered_call("after-000000")])
    tell("after-000000")
    store.close()


def create_with_umask(db: str, umask: str) -> None:
    """Make a store under a umask and leave all its files behind, as a killed process does."""
    os.umask(int(umask, 8))
    store = open_store(db, create=True)
    store.write([experiment()])
    for path in sorted(Path(db).parent.iterdir()):
        tell(f"{path.stat().st_mode & 0o777:04o}", path.name)
    os._exit(0)


if __name__ == "__main__":
    {each.__name__: each for each in (open_fresh, write_for_ever, write_some, fill_the_disk, create_with_umask)}[
        sys.argv[1]
    ](*sys.argv[2:])
