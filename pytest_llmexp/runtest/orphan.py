"""The end of a worker whose controller was stopped or killed: no further call, and soon."""

from __future__ import annotations

import _thread
import os
import signal
import threading

from pytest_llmexp.runtest.session import ExperimentSession

EXIT_AFTER_S = 3.0  # a run that cannot be interrupted must not make the worker outlive its controller
_EXIT_STATUS = 2


def end_orphan(experiment: ExperimentSession) -> None:
    """Let no body make a call, interrupt the main thread as Ctrl-C does, and exit at the latest after 3 seconds.

    Does nothing once the worker has executed what it was given: then the connection ends as it should.
    """
    if not experiment.executing:
        return
    experiment.stop_calls()
    last_resort = threading.Timer(EXIT_AFTER_S, os._exit, [_EXIT_STATUS])
    last_resort.daemon = True
    last_resort.start()
    if hasattr(signal, "pthread_kill"):  # ends a blocking call of the main thread too
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
