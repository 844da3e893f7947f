"""Answers a bot from what is recorded without entering the client, which takes longer than all else in a replayed run.

Only where it is known what the client would send. That is learnt from the client itself: the first request of each
shape goes through it and is compared with the bot's parameters. Whatever is in doubt goes through it too, so nothing
is lost but time. Imports no client.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from functools import partial
from types import FunctionType
from typing import Any, Final, NamedTuple

from pytest_llmexp.core.forks import renew_lock_in_children
from pytest_llmexp.core.ids import canonical_json
from pytest_llmexp.core.models import Call, Json
from pytest_llmexp.tracking.call_rows import new_call, request_key, served_fields
from pytest_llmexp.tracking.capture.httpx_clients import sent_by
from pytest_llmexp.tracking.counting import CallCounter
from pytest_llmexp.tracking.exchange import Sent
from pytest_llmexp.tracking.retries import note_latest
from pytest_llmexp.tracking.scope import Scope, current_scope, ensure_calls_go_on

_SHAPES_KEPT: Final = 256
_PLAIN: Final = (bool, int, float, type(None))


class Shortcuts:
    """What clients were seen to make of parameters of a shape: the request but for its content; None if it differed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renew_lock_in_children(self)
        self._learnt: dict[Hashable, Sent | None] = {}

    def of(self, client: Any, parameters: dict[str, Any]) -> Shortcut | None:
        """Return the shortcut for a chat completion with these parameters; None where there cannot be one."""
        scope = current_scope()
        if scope is None or scope.experiment.replay is None or not _is_untouched(client):
            return None
        try:
            shape = (type(client), str(client.base_url), _shape(parameters))
        except TypeError:
            return None
        if shape not in self._learnt:
            return Shortcut(scope, parameters, None, partial(self._learn, shape))
        sent = self._learnt.get(shape)
        return None if sent is None else Shortcut(scope, parameters, sent, _ignore)

    def _learn(self, shape: Hashable, sent: Sent | None) -> None:
        """Keep what was seen; the first time decides."""
        with self._lock:
            if len(self._learnt) >= _SHAPES_KEPT:
                self._learnt.clear()
            self._learnt.setdefault(shape, sent)


class Shortcut(NamedTuple):
    """The way around the client for one request; `sent` is None as long as it is not known."""

    scope: Scope
    parameters: dict[str, Any]
    sent: Sent | None
    keep: Callable[[Sent | None], None]

    def answer(self) -> Mapping[str, Any] | None:
        """Return the recorded response, handing on that it was served; None if the client is to be asked."""
        ensure_calls_go_on()
        if self.sent is None:
            return None
        try:
            return _serve(self.scope, self.sent, self.parameters)
        except Exception as error:
            self.scope.experiment.note_problem(error)
            return None

    def learn(self, request: Any) -> None:
        """Take in what the client made of the parameters: an httpx request."""
        if self.sent is not None:
            return
        sent = sent_by(request)
        try:
            as_expected = canonical_json(json.loads(sent.content)) == canonical_json(self.parameters)
        except ValueError:
            as_expected = False
        self.keep(sent._replace(content=b"", is_retry=False) if as_expected else None)


def _serve(scope: Scope, sent: Sent, body: dict[str, Json]) -> Mapping[str, Any] | None:
    key = request_key(sent, body["model"], body)
    counter = scope.run.calls if scope.run else scope.experiment.loose
    if (found := _find(scope, counter, key)) is None:
        return None
    counter.made = True
    kept = json.loads(json.dumps(body))  # it is stored later, and parts of it are the caller's
    call = new_call(scope, sent, kept, key, counter.next(), **served_fields(found))
    note_latest(call.id)
    scope.experiment.put(call, lazily=True)
    response: Mapping[str, Any] = found.response
    return response


def _find(scope: Scope, counter: CallCounter, key: str) -> Call | None:
    """Return the recorded call that is served; if there is none, the request counts as not made yet."""
    replay = scope.experiment.replay
    nth = counter.ask(key)
    with suppress(Exception):  # of the store: the client's request meets it too, and there it is noted
        found = replay.look_up(scope.run.run if scope.run else None, key, nth) if replay else None
        if found is not None and isinstance(found.response, dict) and found.stream is None:
            return found
    counter.unask(key)
    return None


def _ignore(sent: Sent | None) -> None:
    pass


def _shape(value: Any) -> Hashable:
    """Return the names and types in a JSON value, which decide what becomes of it. Raises TypeError for any other."""
    if isinstance(value, str):
        return "str"
    if type(value) in _PLAIN:
        return type(value).__name__
    if type(value) is dict:
        return tuple((name, _shape(part)) for name, part in value.items())
    if type(value) is list:
        return frozenset(map(_shape, value))
    raise TypeError(f"a {type(value).__name__} is not plain")


def _is_untouched(client: Any) -> bool:
    """Say whether openai's own methods and our hook send a chat completion: whoever wraps them wants to be called."""
    own = (type(client).request, type(client).post, client.chat.completions.create)
    http_client = getattr(client, "_client", None)
    hooked = getattr(http_client, "send", None)
    return all(_is_from("openai.", method) for method in own) and _is_from("pytest_llmexp.", hooked)


def _is_from(package: str, method: Any) -> bool:
    function = getattr(method, "__func__", method)
    return type(function) is FunctionType and str(function.__globals__.get("__name__")).startswith(package)
