"""`async def` fixtures of experiments, on the event loop that `async def` tests of this process share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from pytest_llmexp.runtest.collection import plan_key
from pytest_llmexp.runtest.loop import LoopThread


@contextmanager
def on_the_loop(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest, loop: LoopThread) -> Iterator[None]:
    """Give pytest a plain function in place of an async fixture's, for the body of the with statement.

    Fixtures that pytest-asyncio or anyio take are plain functions by now. Of function scope, only runs' fixtures
    are taken; wider ones may serve any test.
    """
    function: Any = fixturedef.func
    is_async = inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function)
    if not is_async or (fixturedef.scope == "function" and plan_key not in request.node.stash):
        yield
        return
    fixturedef.func = _plain(function, request, loop)  # type: ignore[misc]
    try:
        yield
    finally:
        fixturedef.func = function  # type: ignore[misc]


def _plain(function: Any, request: pytest.FixtureRequest, loop: LoopThread) -> Callable[..., Any]:
    """Return a function that is no coroutine function: a generator where `function` is an async generator."""

    def bound() -> Any:  # a method was found on one instance of its class, and is called on that of the test
        instance = request.instance
        if inspect.ismethod(function) and isinstance(instance, type(function.__self__)):
            return function.__func__.__get__(instance)
        return function

    def returning(**arguments: Any) -> Any:
        return loop.run(bound()(**arguments))

    def yielding(**arguments: Any) -> Iterator[Any]:
        generator = bound()(**arguments)
        yield loop.run(anext(generator))
        with suppress(StopAsyncIteration):
            loop.run(anext(generator))
            pytest.fail(f"the fixture {request.fixturename!r} yields more than once", pytrace=False)

    plain = yielding if inspect.isasyncgenfunction(function) else returning
    return functools.update_wrapper(
        plain, function, assigned=("__name__", "__qualname__", "__doc__", "__module__"), updated=()
    )
