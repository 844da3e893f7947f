"""What is asked of a model and what it replies, free of any wire format.

Every wire module reads an `Ask` from a request body and renders `Reply` objects into a response body.
Standard library only.
"""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LOCAL_MODEL = "local-sampler"
LABEL = "local-sampler (not an LLM)"
SCRIPT_LABEL = "local-script (not an LLM)"

JsonObject = dict[str, Any]

_PIECE = re.compile(r"\s*(?:\w+(?:['’-]\w+)*|[^\w\s])|\s+$")


class BadRequest(Exception):
    """A request body that the endpoint refuses.

    Args:
        message: What was given, what is allowed.
        param: The name of the offending field of the body.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Message(NamedTuple):
    """One message of a conversation: system, user, assistant or tool."""

    role: str
    text: str


class Tool(NamedTuple):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: JsonObject


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool: its arguments as a mapping, or as text that is sent as it is (even when it is no JSON)."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str = field(default_factory=lambda: new_id("call_"))

    @property
    def argument_text(self) -> str:
        """The arguments as text."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments, ensure_ascii=False)

    @property
    def argument_value(self) -> Any:
        """The arguments as a JSON value; text that is no JSON stays text."""
        if not isinstance(self.arguments, str):
            return dict(self.arguments)
        try:
            return json.loads(self.arguments)
        except ValueError:
            return self.arguments


@dataclass(frozen=True)
class Usage:
    """Tokens of one call."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class Ask:
    """A request for replies, with OpenAI's defaults filled in.

    `schema` is the JSON schema the answer must fit ({} for any JSON object, None for text); `tool_choice` is "auto",
    "none", "required" or the name of a tool; `max_tokens` counts the pieces of `pieces`.
    """

    messages: tuple[Message, ...]
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    schema: JsonObject | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    logprobs: bool = False
    stream: bool = False
    include_usage: bool = False

    def last(self, role: str) -> str:
        """Return the text of the last message of this role, or an empty text."""
        return next((message.text for message in reversed(self.messages) if message.role == role), "")


@dataclass(frozen=True)
class Reply:
    """One answer, in OpenAI's words.

    `logprobs` has a natural logarithm for each of `pieces(text)`, or is None when they are not known; `stopped_by` is
    the stop text that ended the answer.
    """

    text: str | None = None
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    logprobs: tuple[float, ...] | None = None
    stopped_by: str | None = None

    @property
    def said(self) -> str:
        """The text or the refusal, for the families that have one field for both."""
        return (self.text if self.refusal is None else self.refusal) or ""


def pieces(text: str) -> list[str]:
    """Cut a text into the pieces that count as its tokens: words and marks, each with the space before it."""
    return _PIECE.findall(text)


def count_usage(ask: Ask, replies: tuple[Reply, ...]) -> Usage:
    """Count the tokens of a call by the pieces of its texts."""
    tools = sum(len(pieces(f"{tool.name} {tool.description} {tool.parameters}")) for tool in ask.tools)
    asked = sum(len(pieces(message.text)) + 3 for message in ask.messages)
    return Usage(asked + tools, sum(map(_reply_tokens, replies)))


def _reply_tokens(reply: Reply) -> int:
    called = sum(len(pieces(f"{call.name} {call.arguments}")) for call in reply.tool_calls)
    return len(pieces(reply.text or "")) + len(pieces(reply.refusal or "")) + called


def new_id(prefix: str) -> str:
    """Return a fresh id such as `chatcmpl-3f...`."""
    return prefix + uuid.uuid4().hex[:24]
