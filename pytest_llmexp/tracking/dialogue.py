"""What bots say and how they read the answer, without saying who sends it.

A dialogue is a generator: it yields a `Send` or a tool's `CallTool`, is sent back the `Reception` or the
tool's result, and returns the bot's answer. Synchronous and asynchronous bots drive the same dialogues. Imports
no client.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from pytest_llmexp.core.errors import (
    AnswerError,
    RefusalError,
    StructureError,
    ToolLoopError,
    TruncatedError,
)
from pytest_llmexp.core.jsonable import jsonable
from pytest_llmexp.tracking.tools import ToolResult, run_tool

OutputMode = Literal["schema", "tool", "json"]
ChatMessage = Mapping[str, Any]
M = TypeVar("M", bound=BaseModel)


class Send(NamedTuple):
    """A chat completion to ask for; `output` is the pydantic model that the client shall parse."""

    parameters: dict[str, Any]
    output: type[BaseModel] | None = None
    output_mode: OutputMode = "schema"


class Reception(NamedTuple):
    """The response as JSON, and the client's own parsing of it, which raises what the client raises."""

    body: Mapping[str, Any]
    parse: Callable[[], Any]


class Reply(str):
    """A model's text. It is a str; `model`, `finish_reason` and `tool_results` tell how it came about."""

    __slots__ = ("finish_reason", "model", "tool_results")
    model: str
    finish_reason: str | None
    tool_results: tuple[ToolResult, ...]

    def __new__(
        cls, content: str, model: str = "", finish_reason: str | None = None, tool_results: Sequence[ToolResult] = ()
    ) -> Reply:
        reply = super().__new__(cls, content)
        reply.model, reply.finish_reason, reply.tool_results = model, finish_reason, tuple(tool_results)
        return reply

    @property
    def content(self) -> str:
        """The text itself."""
        return str(self)

    @property
    def role(self) -> str:
        """`assistant`, so that a reply can be handed back to a bot as part of a conversation."""
        return "assistant"


@dataclass(frozen=True, slots=True)
class Answer:
    """The parts of a chat completion that dialogues look at."""

    model: str
    message: Mapping[str, Any]
    finish_reason: str | None

    @property
    def content(self) -> str:
        """The text, empty where there is none."""
        return str(self.message.get("content") or "")


def read_answer(body: Mapping[str, Any]) -> Answer:
    """Return the first choice of a chat completion; RefusalError or AnswerError if there is no use in it."""
    choices = body.get("choices")
    if not choices:
        raise AnswerError(f"the response holds no choices: {json.dumps(body)[:500]}")
    choice = choices[0]
    message = choice.get("message") or {}
    if message.get("refusal"):
        raise RefusalError(f"the model refused: {message['refusal']}")
    if choice.get("finish_reason") == "content_filter":
        raise RefusalError("the provider's content filter stopped the answer")
    return Answer(str(body.get("model") or ""), message, choice.get("finish_reason"))


def text_dialogue(parameters: Mapping[str, Any], messages: list[ChatMessage]) -> Generator[Any, Any, Reply]:
    """Ask once, answer with the text."""
    reception = yield Send({**parameters, "messages": messages})
    answer = read_answer(reception.body)
    return Reply(answer.content, answer.model, answer.finish_reason)


def structured_dialogue(
    parameters: Mapping[str, Any],
    messages: list[ChatMessage],
    output: type[M],
    output_mode: OutputMode,
    max_repair: int,
) -> Generator[Any, Any, M]:
    """Ask for an instance of `output`; show the model its mistake and ask again up to `max_repair` times."""
    for _ in range(max_repair + 1):
        reception = yield Send({**parameters, "messages": messages}, output, output_mode)
        answer = read_answer(reception.body)
        if answer.finish_reason == "length":
            raise TruncatedError(
                f"the answer was cut off by the token limit after {len(answer.content)} characters; "
                f"raise max_tokens or ask for less: {answer.content[-200:]!r}"
            )
        try:
            return _structure(reception, answer, output, output_mode)
        except (ValidationError, ValueError, StructureError) as error:
            problem = error
        written = answer.content or _tool_arguments(answer)
        messages = [*messages, {"role": "assistant", "content": written}, _repair(problem)]
    raise StructureError(
        f"the answer does not fit {output.__name__} after {max_repair + 1} attempt(s): {problem}; "
        f"the last answer was {written[:500]!r}; allow repairs with max_repair=, or try another output_mode"
    ) from problem


def _structure(reception: Reception, answer: Answer, output: type[M], output_mode: OutputMode) -> M:
    if output_mode == "json":
        return output.model_validate_json(_without_fence(answer.content))
    message = reception.parse().choices[0].message
    if output_mode == "schema":
        parsed = message.parsed
    else:
        parsed = message.tool_calls[0].function.parsed_arguments if message.tool_calls else None
    if parsed is None:
        raise StructureError("the answer holds no structured part")
    if not isinstance(parsed, output):
        raise StructureError(f"the client parsed a {type(parsed).__name__}")
    return parsed


def _repair(problem: Exception) -> ChatMessage:
    reason = (
        "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the answer'}: {e['msg']}" for e in problem.errors())
        if isinstance(problem, ValidationError)
        else str(problem)
    )
    return {"role": "user", "content": f"Your answer does not fit the schema ({reason}). Answer again, JSON only."}


def json_instruction(output: type[BaseModel]) -> str:
    """Return the sentence that asks for JSON of a schema where the server cannot enforce one."""
    return f"Answer with JSON only, which fits this JSON schema: {json.dumps(output.model_json_schema())}"


def _without_fence(text: str) -> str:
    lines = text.strip().splitlines()
    fenced = len(lines) > 1 and lines[0].startswith("```") and lines[-1].strip() == "```"
    return "\n".join(lines[1:-1]) if fenced else text


def _tool_arguments(answer: Answer) -> str:
    calls = answer.message.get("tool_calls") or []
    return str(calls[0].get("function", {}).get("arguments", "")) if calls else ""


def tool_dialogue(
    parameters: Mapping[str, Any],
    messages: list[ChatMessage],
    tools: Mapping[str, Callable[..., Any]],
    max_rounds: int,
) -> Generator[Any, Any, Reply]:
    """Let the model call tools until it answers with text, at most `max_rounds` times."""
    results: list[ToolResult] = []
    for _ in range(max_rounds):
        reception = yield Send({**parameters, "messages": messages})
        answer = read_answer(reception.body)
        calls = answer.message.get("tool_calls") or []
        if not calls:
            return Reply(answer.content, answer.model, answer.finish_reason, results)
        messages = [*messages, {"role": "assistant", "content": answer.content or None, "tool_calls": calls}]
        for call in calls:
            result = yield from run_tool(call.get("function") or {}, tools)
            results.append(result)
            content = result.result if isinstance(result.result, str) else json.dumps(jsonable(result.result))
            messages = [*messages, {"role": "tool", "tool_call_id": call.get("id"), "content": content}]
    raise ToolLoopError(
        f"the model still called tools after {max_rounds} rounds: {', '.join(result.name for result in results)}; "
        "raise max_rounds= if that is what the task needs"
    )
