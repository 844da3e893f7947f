"""Scripted answers: what a test wants the server to say, or how it wants the server to fail.

Standard library only.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from pytest_llmexp.localmodel.exchange import Ask, JsonObject, Reply, ToolCall, Usage


class Sentinel(Enum):
    """Values that stand for a behaviour."""

    SAMPLE = "the sampling model answers"
    COUNTED = "usage is counted from the texts"


SAMPLE: Final = Sentinel.SAMPLE
COUNTED: Final = Sentinel.COUNTED


@dataclass(frozen=True)
class Request:
    """A request as the server received it.

    Attributes:
        path: The path, decoded and without a query. OpenAI's are without the leading `/v1`, for example
            `/chat/completions`; the others are whole: `/v1/messages`, `/v1beta/models/x:generateContent`, `/api/chat`,
            `/model/x/converse`. The model that a path names is in no other field.
        body: The parsed JSON body.
        index: How many requests came before it.
        headers: Lower-case names; only those that carry no secret (`x-stainless-retry-count`, `user-agent`, ...).
    """

    path: str
    body: JsonObject
    index: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """One scripted answer: its content, or a raw response, and the faults on the way.

    Attributes:
        text: The content of the message.
        parsed: A JSON value, sent as the content.
        tool_calls: Calls of tools; arguments may be broken JSON text.
        refusal: The refusal of the message.
        finish_reason: "stop" or "tool_calls" unless given; "length" and "content_filter" are the others OpenAI knows.
            Other families get their own word for it; what is none of these is sent as it is.
        usage: Counted from the texts unless given; None leaves it out of the response.
        status: HTTP status; other than 200 sends an error of the family that was asked, with `text` as its message.
        body: Bytes sent as they are, instead of any content.
        headers: Further response headers, such as Retry-After.
        latency_s: Seconds to wait before answering, on top of the server's own.
        hang: Answer nothing until the server closes.
        cut_after: Close the connection after so many events of a stream, or bytes of a body.
        error_after: Send an error event after so many events of a stream, and end it.
        reset: Reset the connection instead of answering.
    """

    text: str | None = None
    parsed: Any = None
    tool_calls: Sequence[ToolCall] = ()
    refusal: str | None = None
    finish_reason: str | None = None
    usage: Usage | Sentinel | None = COUNTED
    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_s: float = 0.0
    hang: bool = False
    cut_after: int | None = None
    error_after: int | None = None
    reset: bool = False

    def replies(self, ask: Ask) -> tuple[Reply, ...]:
        """Return the content as replies, one for each that was asked for."""
        text = self.text if self.parsed is None else json.dumps(self.parsed, ensure_ascii=False)
        reason = self.finish_reason or ("tool_calls" if self.tool_calls else "stop")
        return (Reply(text, self.refusal, tuple(self.tool_calls), reason),) * ask.n


Scripted = Answer | str | JsonObject | Sentinel
ScriptFunction = Callable[[Request], Scripted]
Script = ScriptFunction | Sequence[Scripted]


class ScriptReader:
    """Hands out the answers of a script: a function is called, a sequence is consumed in the order of the requests.

    Args:
        script: None lets the sampling model answer everything. In a sequence, or as what a function returns, a text is
            the content, a dict the JSON content, `SAMPLE` the sampling model.
    """

    def __init__(self, script: Script | None) -> None:
        self._script = script if script is None or callable(script) else list(script)
        self._used = 0
        self._lock = threading.Lock()

    def next(self, request: Request) -> Answer | None:
        """Return the scripted answer, or None when the sampling model answers."""
        if self._script is None:
            return None
        try:
            scripted = self._script(request) if callable(self._script) else self._take(self._script)
            return _as_answer(scripted)
        except Exception as error:
            return script_failure(f"the script failed on request {request.index}: {error!r}")

    def _take(self, script: list[Scripted]) -> Scripted:
        with self._lock:
            position, self._used = self._used, self._used + 1
        if position < len(script):
            return script[position]
        return script_failure(
            f"the script is exhausted: it has {len(script)} answers and this is request {position + 1}"
        )


def script_failure(message: str) -> Answer:
    """Return a 500 that clients do not retry: asking again cannot help."""
    return Answer(message, status=500, headers={"x-should-retry": "false"})


def _as_answer(scripted: Scripted) -> Answer | None:
    if isinstance(scripted, Answer):
        return scripted
    if isinstance(scripted, str):
        return Answer(scripted)
    if isinstance(scripted, dict):
        return Answer(parsed=scripted)
    if scripted is SAMPLE:
        return None
    raise TypeError(f"{type(scripted).__name__} is no answer; give an Answer, a text, a dict or SAMPLE")
