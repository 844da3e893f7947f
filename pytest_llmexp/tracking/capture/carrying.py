"""Takes one call from its request to its recorded response, for whatever library sends it; sync and async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pytest_llmexp.tracking.calls import CallInProgress
from pytest_llmexp.tracking.exchange import Received

R = TypeVar("R")


def carry_out(
    call: CallInProgress, send: Callable[[], R], record: Callable[[R], R], answer: Callable[[Received], R]
) -> R:
    """Return the response of a call, once it may start.

    Args:
        call: The call.
        send: Sends the request.
        record: Hands what `send` returned to the call, at once or as it is read, and returns what the caller gets.
        answer: Makes a response of the library from a recorded one.
    """
    __tracebackhide__ = True
    if (replayed := call.replayed()) is not None:
        return answer(replayed)
    call.admit()
    try:
        with call.sending():
            response = send()
        return record(response)
    except Exception as error:
        call.settle(call.failed(error))
        raise
    except BaseException as error:  # an interrupt is not held up by the store
        call.failed(error)
        raise


async def carry_out_async(
    call: CallInProgress,
    send: Callable[[], Awaitable[R]],
    record: Callable[[R], Awaitable[R]],
    answer: Callable[[Received], R],
) -> R:
    """Do what `carry_out` does for a library that is awaited."""
    __tracebackhide__ = True
    if (replayed := call.replayed()) is not None:
        return answer(replayed)
    await call.admit_async()
    try:
        with call.sending():
            response = await send()
        return await record(response)
    except Exception as error:
        await call.settle_async(call.failed(error))
        raise
    except BaseException as error:  # a cancelled task must not wait
        call.failed(error)
        raise
