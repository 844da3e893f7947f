"""The messages and tools of a conversation, read from what the wire formats have in common.

Standard library only.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from pytest_llmexp.localmodel.exchange import BadRequest, JsonObject, Message, Tool
from pytest_llmexp.localmodel.fields import mapping


def plain_text(content: Any) -> str:
    """Return the text of a message's content: a text, or parts of which those with a text count."""
    if isinstance(content, list):
        return "\n".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def system(content: Any) -> tuple[Message, ...]:
    """Return the system message of some content, or none when it has no text."""
    text = plain_text(content)
    return (Message("system", text),) if text else ()


def turn(role: str, text: str, results: Sequence[str]) -> Iterator[Message]:
    """Yield the messages of a turn that holds results of tools and text: a turn of results only has no text."""
    yield from (Message("tool", result) for result in results)
    if text or not results:
        yield Message(role, text)


def tool(given: Any, parameters: Any) -> Tool:
    """Return a tool from an object with its name and description, and the schema of its parameters."""
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise BadRequest("Every tool needs a 'name'.", "tools")
    return Tool(given["name"], given.get("description") or "", parameters or {"type": "object"})


def function_tool(tool_object: JsonObject) -> Tool:
    """Return a tool in the way of chat completions: an object with a `function`."""
    function = mapping(tool_object, "function")
    return tool(function, function.get("parameters"))
