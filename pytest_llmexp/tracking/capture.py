"""Sees the calls of any client: a hook around `send` of httpx (openai 2) and httpx2 (openai 3).

The hook imports neither library: it waits until somebody does. Outside a scope it passes everything through.
What it sees goes to `calls`, streamed answers through `streams`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import wrapt

from pytest_llmexp.tracking.calls import begin_call, read_received
from pytest_llmexp.tracking.patching import SharedPatch
from pytest_llmexp.tracking.recorder import ensure_calls_go_on
from pytest_llmexp.tracking.streams import tee, tee_async

LIBRARIES = ("httpx", "httpx2")
_patch = SharedPatch()  # of the process, as what it patches


@contextmanager
def capturing() -> Iterator[None]:
    """Install the hook for the body of the with statement; nested and overlapping uses share one."""
    with _patch.held():
        for name in LIBRARIES:
            wrapt.when_imported(name)(_patch_library)
        yield


def _patch_library(library: ModuleType) -> None:
    _patch.replace(library.Client, "send", partial(_send, library))
    _patch.replace(library.AsyncClient, "send", partial(_send_async, library))


def _send(library: ModuleType, original: Any, client: Any, request: Any, **options: Any) -> Any:
    ensure_calls_go_on()
    if (call := begin_call(request)) is None:
        return original(client, request, **options)
    try:
        response = original(client, request, **options)
    except Exception as error:
        call.settle(call.failed(error))
        raise
    except BaseException as error:  # an interrupt is not held up by the store
        call.failed(error)
        raise
    if options.get("stream") and not response.is_stream_consumed:
        response.stream = tee(library, response, call)
    else:
        call.settle(call.answered(read_received(response)))
    return response


async def _send_async(library: ModuleType, original: Any, client: Any, request: Any, **options: Any) -> Any:
    ensure_calls_go_on()
    if (call := begin_call(request)) is None:
        return await original(client, request, **options)
    try:
        response = await original(client, request, **options)
    except Exception as error:
        await call.settle_async(call.failed(error))
        raise
    except BaseException as error:  # a cancelled task must not wait
        call.failed(error)
        raise
    if options.get("stream") and not response.is_stream_consumed:
        response.stream = tee_async(library, response, call)
    else:
        await call.settle_async(call.answered(read_received(response)))
    return response
