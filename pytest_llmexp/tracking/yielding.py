"""Generators as steps: their bodies are inside the step, those of their consumers are not.

The step lasts from the first value asked for until the generator is exhausted or closed.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

from pytest_llmexp.core.jsonable import MAX_CHARACTERS, Shortener, jsonable
from pytest_llmexp.core.models import Json

if TYPE_CHECKING:
    from pytest_llmexp.tracking.steps import StepBlock

MAX_ITEMS = 1000  # kept of what a generator yields
MakeBlock = Callable[[tuple[Any, ...], dict[str, Any]], "StepBlock"]


class _Yielding:
    """A step in progress and what its generator has yielded so far, as JSON, up to a limit."""

    def __init__(self, block: StepBlock) -> None:
        self.inside = block.inside
        self._block = block
        self._kept: list[Json] = []
        self._count = 0
        self._shorten = Shortener(MAX_CHARACTERS)
        block.begin()

    def note(self, value: Any) -> Any:
        self._count += 1
        if self._count <= MAX_ITEMS and self._shorten.left > 0 and self._block.is_recorded:
            self._kept.append(self._shorten(jsonable(value)))
        return value

    def end(self, error: BaseException | None = None) -> None:
        more = self._count - len(self._kept)
        self._block.end(error, [*self._kept, f"... {more} more"] if more else self._kept)


def yielding(function: Callable[..., Generator[Any, Any, Any]], block: MakeBlock) -> Callable[..., Any]:
    """Return the generator function with a step around the body of each of its generators."""

    @functools.wraps(function)
    def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner, step = function(*args, **kwargs), _Yielding(block(args, kwargs))
        resume = functools.partial(next, inner)
        try:
            while True:
                with step.inside():
                    value = resume()
                try:
                    sent = yield step.note(value)
                except GeneratorExit:
                    with step.inside():
                        inner.close()
                    raise
                except BaseException as thrown:
                    resume = functools.partial(inner.throw, thrown)
                else:
                    resume = functools.partial(inner.send, sent)
        except StopIteration as end:
            step.end()
            return end.value
        except BaseException as error:
            step.end(error)
            raise

    return generate


def yielding_async(function: Callable[..., AsyncGenerator[Any, Any]], block: MakeBlock) -> Callable[..., Any]:
    """Do what `yielding` does for an asynchronous generator function."""

    @functools.wraps(function)
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner, step = function(*args, **kwargs), _Yielding(block(args, kwargs))
        resume = functools.partial(anext, inner)
        try:
            while True:
                with step.inside():
                    value = await resume()
                try:
                    sent = yield step.note(value)
                except GeneratorExit:
                    with step.inside():
                        await inner.aclose()
                    raise
                except BaseException as thrown:
                    resume = functools.partial(inner.athrow, thrown)
                else:
                    resume = functools.partial(inner.asend, sent)
        except StopAsyncIteration:
            step.end()
        except BaseException as error:
            step.end(error)
            raise

    return generate
