"""Tools of a ToolBot: how they are described to the model, and what happens when it calls one."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from pytest_llmexp.core.errors import ConfigurationError
from pytest_llmexp.core.models import Json


class CallTool(NamedTuple):
    """A tool to run with the model's arguments."""

    function: Callable[..., Any]
    arguments: dict[str, Any]


class ToolResult(NamedTuple):
    """One tool call of a dialogue."""

    name: str
    arguments: Mapping[str, Json]
    result: Any


def describe_tool(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the tool definition of a function: its name, docstring and the JSON schema of its parameters."""
    name = getattr(function, "__name__", None)
    if not callable(function) or name is None or not name.isidentifier():
        raise ConfigurationError(f"a tool is a function with a name, not {function!r}")
    try:
        schema = TypeAdapter[Any](function).json_schema()  # type: ignore[arg-type]  # a function has a core schema too
    except Exception as error:
        raise ConfigurationError(f"tool {name}: its parameters have no JSON schema: {error}") from None
    description = " ".join((function.__doc__ or "").split())
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def run_tool(function: Mapping[str, Any], tools: Mapping[str, Callable[..., Any]]) -> Generator[Any, Any, ToolResult]:
    """Run one tool. The model's mistakes go back to the model; a tool's own exception ends the run."""
    name, written = str(function.get("name")), function.get("arguments") or "{}"
    try:
        arguments = json.loads(written)
        if not isinstance(arguments, dict):
            raise ValueError("the arguments are no JSON object")
    except ValueError as error:
        return ToolResult(name, {"arguments": written}, f"Error: the arguments are no JSON object: {error}")
    if name not in tools:
        return ToolResult(name, arguments, f"Error: there is no tool {name!r}; there are: {', '.join(tools)}")
    try:
        result = yield CallTool(tools[name], arguments)
    except ValidationError as error:
        if _raised_within(tools[name], error):
            raise
        return ToolResult(name, arguments, f"Error: {error}")
    return ToolResult(name, arguments, result)


def _raised_within(tool: Callable[..., Any], error: BaseException) -> bool:
    """Tell an error of the tool's own body from one of the arguments it was called with."""
    body, frame = getattr(inspect.unwrap(tool), "__code__", None), error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code is body:
            return True
        frame = frame.tb_next
    return False
