"""Drives dialogues: sends what they want to say with an openai client and runs the tools they call.

That the calls are recorded is the capture hook's work. Imports no client.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, TypeVar

from pytest_llmexp.core.errors import AnswerError, ConfigurationError
from pytest_llmexp.tracking.clients import forced_tool
from pytest_llmexp.tracking.dialogue import Reception, Send
from pytest_llmexp.tracking.scope import current_scope, entered
from pytest_llmexp.tracking.shortcuts import Shortcut, Shortcuts
from pytest_llmexp.tracking.tools import CallTool

T = TypeVar("T")
Talk = Generator[Any, Any, T]


def drive(talk: Talk[T], client: Any, shortcuts: Shortcuts | None = None) -> T:
    """Take a dialogue to its end; exceptions of a step are thrown into it.

    With `shortcuts`, recorded answers need not go through the client.
    """
    try:
        step = next(talk)
        while True:
            try:
                result = _take(client, step, shortcuts)
            except Exception as error:
                step = talk.throw(error)
            else:
                step = talk.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def drive_async(talk: Talk[T], client: Any, shortcuts: Shortcuts | None = None) -> T:
    """Do what `drive` does with an asynchronous client."""
    try:
        step = next(talk)
        while True:
            try:
                result = await _take_async(client, step, shortcuts)
            except Exception as error:
                step = talk.throw(error)
            else:
                step = talk.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _take(client: Any, step: Send | CallTool, shortcuts: Shortcuts | None) -> Any:
    if isinstance(step, Send):
        method, parameters = _method_and_parameters(client, step)
        shortcut = _shortcut(client, step, parameters, shortcuts)
        if shortcut is not None and (answer := shortcut.answer()) is not None:
            return Reception(answer, _unparsed)
        raw = method(**parameters)
        if shortcut is not None:
            shortcut.learn(raw.http_request)
        return _reception(raw)
    with _outside_of_the_question():
        result = step.function(**step.arguments)
    if inspect.iscoroutine(result):
        result.close()
        raise ConfigurationError("this tool is a coroutine function; use AsyncToolBot (the async_bot fixture)")
    return result


async def _take_async(client: Any, step: Send | CallTool, shortcuts: Shortcuts | None) -> Any:
    if isinstance(step, Send):
        method, parameters = _method_and_parameters(client, step)
        shortcut = _shortcut(client, step, parameters, shortcuts)
        if shortcut is not None and (answer := shortcut.answer()) is not None:
            return Reception(answer, _unparsed)
        raw = await method(**parameters)
        if shortcut is not None:
            shortcut.learn(raw.http_request)
        return _reception(raw)
    with _outside_of_the_question():
        result = step.function(**step.arguments)
        return await result if isinstance(result, Awaitable) else result


def _outside_of_the_question() -> AbstractContextManager[None]:
    """Calls that a tool makes are the run's, but not the bot's."""
    scope = current_scope()
    return entered(replace(scope, asking=None) if scope else None)


def _method_and_parameters(client: Any, step: Send) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Choose the client's method; its raw form also gives the text of answers that do not parse."""
    completions = client.chat.completions.with_raw_response
    if step.output is None:
        return completions.create, step.parameters
    if step.output_mode == "json":
        return completions.create, {**step.parameters, "response_format": {"type": "json_object"}}
    if step.output_mode == "schema":
        return completions.parse, {**step.parameters, "response_format": step.output}
    return completions.parse, {**step.parameters, **forced_tool(step.output)}


def _shortcut(client: Any, step: Send, parameters: dict[str, Any], shortcuts: Shortcuts | None) -> Shortcut | None:
    """Return the way around the client, unless the answer is the client's to parse."""
    if shortcuts is None or not (step.output is None or step.output_mode == "json"):
        return None
    return shortcuts.of(client, parameters)


def _unparsed() -> Any:
    raise AnswerError("this answer did not go through the client, which would parse it")


def _reception(raw: Any) -> Reception:
    try:
        body = json.loads(raw.text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise AnswerError(f"the server's answer is not a JSON object: {raw.text[:500]!r}")
    return Reception(body, raw.parse)
