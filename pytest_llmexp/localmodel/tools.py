"""Calls of tools: which tool fits a message, and what in the message its arguments are.

Standard library only.
"""

import re
from typing import Any

from pytest_llmexp.localmodel.exchange import Ask, JsonObject, Tool
from pytest_llmexp.localmodel.numbers import number_fits, numbers_in
from pytest_llmexp.localmodel.relevance import stems
from pytest_llmexp.localmodel.schema import SchemaSampler
from pytest_llmexp.localmodel.writer import Writer

_QUOTED = re.compile(r"[\"“](.+?)[\"”]|(?<!\w)'([^']+)'(?!\w)")
_NAME = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w-]*(?:\s+[A-Z][\w-]*)*")
_ARITHMETIC = re.compile(r"[\d(][\d\s.()]*(?:[-+*/^%][\d\s.()]+)+")
_WHOLE_MESSAGE = frozenset({"query", "question", "text", "message", "input", "prompt", "content", "q"})
_OVERLAP_WEIGHT = 2.0


def choose_tool(ask: Ask, writer: Writer) -> Tool | None:
    """Return the tool to call: the one that shares most words with the user's message, or None to answer."""
    if not ask.tools or ask.tool_choice == "none":
        return None
    named = [tool for tool in ask.tools if tool.name == ask.tool_choice]
    if named:
        return named[0]
    is_forced = ask.tool_choice == "required"
    if not is_forced and ask.messages[-1].role != "user":
        return None
    overlaps = {tool.name: _overlap(tool, writer) for tool in ask.tools}
    fitting = {name: _OVERLAP_WEIGHT * count for name, count in overlaps.items() if count or is_forced}
    chosen = writer.choose(fitting) if fitting else None
    return next((tool for tool in ask.tools if tool.name == chosen), None)


def tool_arguments(tool: Tool, message: str, writer: Writer) -> JsonObject:
    """Return arguments that fit the tool's schema; numbers, quoted texts and names come from the message."""
    sampler = SchemaSampler(tool.parameters, writer, message)
    arguments = sampler.value({"type": "object", **tool.parameters})
    if not isinstance(arguments, dict):
        return {}
    found = _Findings(message)
    for name in arguments:
        schema = sampler.resolve(tool.parameters.get("properties", {}).get(name))
        value = found.take(schema, name)
        if value is not None:
            arguments[name] = value
    return arguments


def _overlap(tool: Tool, writer: Writer) -> int:
    parameters = " ".join(tool.parameters.get("properties") or {})
    return len(set(stems(f"{tool.name} {tool.description} {parameters}")) & writer.relevance.asked.keys())


class _Findings:
    """What a message offers for arguments; everything is given once, in order."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._numbers = numbers_in(message)
        quoted = ["".join(groups) for groups in _QUOTED.findall(message)]
        self._texts = quoted + [name for name in _NAME.findall(_QUOTED.sub(" x ", message)) if name != "I"]

    def take(self, schema: JsonObject, name: str) -> Any:
        """Return a value for a property that has no enum and no format, or None when the message offers none."""
        if any(key in schema for key in ("enum", "const", "format", "anyOf", "oneOf")):
            return self._named_option(schema)
        if schema.get("type") in ("integer", "number"):
            return self._number(schema)
        return self._text(schema, name) if schema.get("type") == "string" else None

    def _named_option(self, schema: JsonObject) -> Any:
        words = set(re.findall(r"\w+", self._message.casefold()))
        return next((option for option in schema.get("enum", ()) if str(option).casefold() in words), None)

    def _number(self, schema: JsonObject) -> float | int | None:
        for number in self._numbers:
            if number_fits(schema, number):
                self._numbers.remove(number)
                return int(number) if schema["type"] == "integer" else number
        return None

    def _text(self, schema: JsonObject, name: str) -> str | None:
        if name in _WHOLE_MESSAGE:
            offered = [self._message]
        else:
            offered = _ARITHMETIC.findall(self._message) if name == "expression" else self._texts
        for text in offered:
            if schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", len(text)):
                offered.remove(text)
                return str(text).strip()
        return None
