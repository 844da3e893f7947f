"""Leaves what was said out of records: for those who may keep numbers, but no prompts and answers. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final

from pytest_llmexp.core.models import BotSpec, Call, Json, PromptUse, PromptVersion, Record, Run, Step
from pytest_llmexp.tracking.calls import FAULTS
from pytest_llmexp.tracking.recorder import Sink

LEFT_OUT: Final = "(content is not kept)"
_OUR_WORDS = (*FAULTS, "the stream ended with an error")
_KIND = re.compile(r"(?:HTTP \d{3}|(?:[A-Za-z_][\w.]*)?(?:Error|Exception|Failed|Timeout|Interrupt))(?=:|$)")


def without_content(record: Record) -> Record:
    """Return a record without prompts, answers, variables, parameters and messages of errors.

    Ids of cases are kept, as runs are told apart by them.
    """
    leave_out = _BY_TYPE.get(type(record))
    return record if leave_out is None else leave_out(record)


class WithoutContent:
    """Hands records on without content."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def put(self, *records: Record, lazily: bool = False) -> Future[None]:
        """Hand records on."""
        return self._sink.put(*map(without_content, records), lazily=lazily)


def _error(text: str | None) -> str | None:
    """Keep what kind of error it was, which stands before the first colon."""
    if text is None:
        return None
    kind = _KIND.match(text)
    return kind[0] if kind else next((words for words in _OUR_WORDS if text.startswith(words)), LEFT_OUT)


def _mark(call: Call) -> Json:
    return {"closed_early": True} if call.closed_early else None


_BY_TYPE: Final[dict[type[Any], Callable[[Any], Any]]] = {
    Run: lambda run: replace(run, params={}, error=_error(run.error), input=None, output=None, expected=None),
    Step: lambda step: replace(step, input=None, output=None, error=_error(step.error), attributes={}),
    Call: lambda call: replace(call, request=None, response=None, stream=_mark(call), error=_error(call.error)),
    BotSpec: lambda bot: replace(bot, system_prompt=None, params={}),
    PromptVersion: lambda version: replace(version, template=""),
    PromptUse: lambda use: replace(use, variables={}),
}
