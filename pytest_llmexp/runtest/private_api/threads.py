"""What a run that hangs leaves behind must not hold up the interpreter's exit."""

from __future__ import annotations

from concurrent.futures import thread


def leave_pool_threads_behind() -> None:
    """Let the interpreter exit without waiting for the daemon threads of ThreadPoolExecutors (CPython's own list).

    Pools that a run made have daemon threads, as the run's own thread is one. Without the list: nothing to do.
    """
    waited_for = getattr(thread, "_threads_queues", {})
    for worker in [worker for worker in waited_for if worker.daemon and worker.is_alive()]:
        waited_for.pop(worker, None)
