"""What bots share: a system prompt, a model, parameters of the request, and what they say.

What dialogues are like is in `dialogue`, who sends them in `asking`. Imports no client.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, validate_call

from pytest_llmexp.core.errors import ConfigurationError, ModelError
from pytest_llmexp.core.ids import tagged_hash
from pytest_llmexp.core.jsonable import jsonable
from pytest_llmexp.core.models import BotSpec
from pytest_llmexp.tracking import dialogue
from pytest_llmexp.tracking.clients import Clients
from pytest_llmexp.tracking.dialogue import ChatMessage, OutputMode, Reply
from pytest_llmexp.tracking.prompts import ROLES, Message
from pytest_llmexp.tracking.scope import Asking, Scope, current_scope, entered
from pytest_llmexp.tracking.shortcuts import Shortcuts
from pytest_llmexp.tracking.sources import resolve_source
from pytest_llmexp.tracking.tools import describe_tool

M = TypeVar("M", bound=BaseModel)
Say = str | Message | Reply | ChatMessage


_OURS = ("messages", "model", "stream", "stream_options")  # what a bot itself puts into a request
_PRIVATE = ("extra_headers", "extra_query", "extra_body")  # the client's options that may hold keys: not recorded


class Bot:
    """What all bots share: a system prompt, a model, parameters of the request and a client."""

    kind = "bot"

    def __init__(
        self,
        system_prompt: str | Message | None,
        *,
        model_name: str | None,
        temperature: float | None,
        name: str | None,
        client: Any,
        parameters: dict[str, Any],
        details: dict[str, Any] | None = None,
    ) -> None:
        _check_system_prompt(system_prompt)
        _check_temperature(temperature)
        if model_name is not None and not (isinstance(model_name, str) and model_name.strip()):
            raise ModelError(f"model_name is the name of a model, not {model_name!r}")
        if ours := [parameter for parameter in _OURS if parameter in parameters]:
            raise ConfigurationError(f"{', '.join(ours)}: the bot sets this itself; use a client for other requests")
        if client is not None:
            self._take_client(client)
        self.system_prompt = system_prompt
        self.temperature = temperature
        self.name = name or _default_name(system_prompt, type(self).kind)
        self._client = client
        self._parameters = parameters
        self._details = details or {}
        self._model_name = model_name
        self._own_clients: Clients | None = None
        if current_scope():
            self.model_name  # noqa: B018  a bot that cannot be asked fails here, not after other calls were paid

    @property
    def model_name(self) -> str:
        """The model that is asked. ModelError if none is named, or the named one cannot be reached."""
        if self._client is None:
            return self._clients().source.model_for(self._model_name)
        shared = _shared_clients()
        if self._model_name is None and (shared is None or shared.source.model is None or shared.source.local):
            raise ModelError("no model: a bot with a client of its own needs model_name= or --experiment-model")
        return self._model_name or str(shared and shared.source.model)

    def _take_client(self, client: Any) -> None:
        """Raise ConfigurationError for a client that this bot cannot ask."""

    def _clients(self) -> Clients:
        """The clients of the experiment in progress; outside of one, clients made from the environment."""
        if (shared := _shared_clients()) is not None:
            return shared
        if self._own_clients is None:
            self._own_clients = Clients(resolve_source(self._model_name, None, os.environ), _no_local_server)
        return self._own_clients

    def _shortcuts(self) -> Shortcuts | None:
        """What is known of the shared clients' requests; of a client that the user has made nothing is presumed."""
        return self._clients().shortcuts if self._client is None else None

    def _request(self) -> dict[str, Any]:
        sent = {"model": self.model_name, **self._parameters}
        return sent if self.temperature is None else {**sent, "temperature": self.temperature}

    def _messages(self, said: Sequence[Say]) -> list[ChatMessage]:
        if not said:
            raise ConfigurationError("a bot needs something to answer: bot(message)")
        system = [] if self.system_prompt is None else [_chat_message(self.system_prompt, "system")]
        return [*system, *(_chat_message(message, "user") for message in said)]

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Make the calls of one question this bot's."""
        scope = current_scope()
        if scope is None:
            yield
            return
        spec = self._spec(scope)
        scope.experiment.see_bot(spec)
        with entered(replace(scope, asking=Asking(spec))):
            yield

    def _spec(self, scope: Scope) -> BotSpec:
        text = None if self.system_prompt is None else str(self.system_prompt)
        version = getattr(self.system_prompt, "version", None)
        text_hash = None if text is None else version.hash if version else tagged_hash("prompt", "system", text)
        parameters = {name: value for name, value in self._parameters.items() if name not in _PRIVATE}
        described: dict[str, Any] = {
            "name": self.name,
            "kind": type(self).kind,
            "model_name": self.model_name,
            "temperature": self.temperature,
            "system_prompt": text,
            "system_prompt_hash": text_hash,
            "params": jsonable({**parameters, **self._details}),
        }
        experiment_id = scope.experiment.experiment_id
        digest = tagged_hash("bot", experiment_id, described).partition(":")[2]
        return BotSpec(id=f"bot_{digest[:26]}", experiment_id=experiment_id, **described)


class TextBot(Bot):
    kind = "SimpleBot"

    def __init__(
        self,
        system_prompt: str | Message | None = None,
        *,
        model_name: str | None = None,
        temperature: float | None = None,
        name: str | None = None,
        client: Any = None,
        **parameters: Any,
    ) -> None:
        super().__init__(
            system_prompt,
            model_name=model_name,
            temperature=temperature,
            name=name,
            client=client,
            parameters=parameters,
        )

    def _talk(self, said: Sequence[Say]) -> Generator[Any, Any, Reply]:
        return dialogue.text_dialogue(self._request(), self._messages(said))


class OutputBot(Bot, Generic[M]):
    kind = "StructuredBot"

    def __init__(
        self,
        system_prompt: str | Message | None = None,
        *,
        pydantic_model: type[M],
        model_name: str | None = None,
        temperature: float | None = None,
        name: str | None = None,
        output_mode: OutputMode = "schema",
        max_repair: int = 0,
        client: Any = None,
        **parameters: Any,
    ) -> None:
        if not (isinstance(pydantic_model, type) and issubclass(pydantic_model, BaseModel)):
            raise ConfigurationError(f"pydantic_model= (output=) is a subclass of BaseModel, not {pydantic_model!r}")
        if output_mode not in ("schema", "tool", "json"):
            raise ConfigurationError(f"unknown output_mode {output_mode!r}; allowed: schema, tool, json")
        if isinstance(max_repair, bool) or not isinstance(max_repair, int) or max_repair < 0:
            raise ConfigurationError(f"max_repair is a number of repairs from 0, not {max_repair!r}")
        if ours := [name for name in ("response_format", "tools", "tool_choice") if name in parameters]:
            raise ConfigurationError(f"{', '.join(ours)}: pydantic_model= and output_mode= decide this")
        self.pydantic_model, self.output_mode, self.max_repair = pydantic_model, output_mode, max_repair
        super().__init__(
            system_prompt,
            model_name=model_name,
            temperature=temperature,
            name=name,
            client=client,
            parameters=parameters,
            details={"output": pydantic_model.__name__, "output_mode": output_mode, "max_repair": max_repair},
        )

    def _talk(self, said: Sequence[Say]) -> Generator[Any, Any, M]:
        messages = self._messages(said)
        if self.output_mode == "json":
            messages = [{"role": "system", "content": dialogue.json_instruction(self.pydantic_model)}, *messages]
        return dialogue.structured_dialogue(
            self._request(), messages, self.pydantic_model, self.output_mode, self.max_repair
        )


class ToolUser(Bot):
    kind = "ToolBot"

    def __init__(
        self,
        system_prompt: str | Message | None = None,
        *,
        tools: Sequence[Callable[..., Any]],
        model_name: str | None = None,
        temperature: float | None = None,
        name: str | None = None,
        max_rounds: int = 10,
        client: Any = None,
        **parameters: Any,
    ) -> None:
        if isinstance(max_rounds, bool) or not isinstance(max_rounds, int) or max_rounds < 1:
            raise ConfigurationError(f"max_rounds is a number of requests from 1, not {max_rounds!r}")
        if not isinstance(tools, list | tuple) or not tools:
            raise ConfigurationError(f"tools= is a list of at least one function, not {tools!r}")
        described = [describe_tool(tool) for tool in tools]
        self._tools = {tool.__name__: validate_call(tool) for tool in tools}
        if len(self._tools) < len(described):
            raise ConfigurationError(f"two tools have one name: {', '.join(tool.__name__ for tool in tools)}")
        self.max_rounds = max_rounds
        super().__init__(
            system_prompt,
            model_name=model_name,
            temperature=temperature,
            name=name,
            client=client,
            parameters={**parameters, "tools": described},
            details={"max_rounds": max_rounds},
        )

    def _talk(self, said: Sequence[Say]) -> Generator[Any, Any, Reply]:
        return dialogue.tool_dialogue(self._request(), self._messages(said), self._tools, self.max_rounds)


def _chat_message(said: Say, default_role: str) -> ChatMessage:
    if isinstance(said, Message):
        said.note_use()
        role = said.role if default_role == "user" or said.role in ("system", "developer") else default_role
        return {"role": role, "content": said.content}
    if isinstance(said, Reply):
        return {"role": said.role, "content": said.content}
    if isinstance(said, str):
        return {"role": default_role, "content": said}
    if isinstance(said, dict) and said.get("role") in (*ROLES, "tool"):
        if isinstance(content := said.get("content"), Message):
            content.note_use()
        return said
    raise ConfigurationError(f"a message is text, a prompt's message or a dict with a role, not {said!r:.200}")


def _check_system_prompt(system_prompt: object) -> None:
    if system_prompt is not None and not isinstance(system_prompt, str):
        hint = "call it: bot(my_prompt())" if callable(system_prompt) else "pass text, or what a @prompt returns"
        raise ConfigurationError(f"a system prompt is text or a prompt's message, not {system_prompt!r:.200}; {hint}")


def _check_temperature(temperature: object) -> None:
    if temperature is None:
        return
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not math.isfinite(temperature) or temperature < 0:  # type: ignore[arg-type,operator]
        raise ConfigurationError(
            f"temperature is a number from 0, or None for the model's default, not {temperature!r}"
        )


def _shared_clients() -> Clients | None:
    """The clients of the experiment in progress; a thread that outlives its experiment has none."""
    scope = current_scope()
    clients = scope.experiment.clients if scope else None
    return None if clients is None or clients.closed else clients


def _default_name(system_prompt: object, kind: str) -> str:
    version = getattr(system_prompt, "version", None)
    return version.name.rpartition(".")[2] if version else kind


def _no_local_server() -> str:
    raise ModelError(
        "no model or API key is configured; the built-in stand-in serves experiments only: "
        "run this in a test or `with Experiment(...)`, or set OPENAI_API_KEY"
    )
