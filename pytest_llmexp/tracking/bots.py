"""SimpleBot, StructuredBot, ToolBot and their asynchronous twins: thin shells over the openai client.

What they say is in `dialogue`; that their calls are recorded is the capture hook's work. Here: which client
and model, and driving a dialogue.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, validate_call

from pytest_llmexp.core.errors import AnswerError, ConfigurationError, ModelError
from pytest_llmexp.core.ids import tagged_hash
from pytest_llmexp.core.jsonable import jsonable
from pytest_llmexp.core.models import BotSpec
from pytest_llmexp.tracking import dialogue
from pytest_llmexp.tracking.clients import Clients
from pytest_llmexp.tracking.dialogue import CallTool, ChatMessage, OutputMode, Reception, Reply, Send
from pytest_llmexp.tracking.prompts import ROLES, Message
from pytest_llmexp.tracking.recorder import Asking, Scope, current_scope, entered
from pytest_llmexp.tracking.sources import resolve_source

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
Say = str | Message | Reply | ChatMessage


class _Bot:
    """What all bots share: a system prompt, a model, parameters of the request and a client."""

    kind = "bot"

    def __init__(
        self,
        system_prompt: str | Message | None,
        *,
        model_name: str | None,
        temperature: float | None,
        name: str | None,
        client: OpenAI | AsyncOpenAI | None,
        parameters: dict[str, Any],
        details: dict[str, Any] | None = None,
    ) -> None:
        self.system_prompt = system_prompt
        self.temperature = temperature
        self.name = name or _default_name(system_prompt, type(self).kind)
        self._client = client
        self._parameters = parameters
        self._details = details or {}
        self._model_name = model_name
        if model_name is not None and not (isinstance(model_name, str) and model_name.strip()):
            raise ModelError(f"model_name is the name of a model, not {model_name!r}")
        self._own_clients: Clients | None = None
        if current_scope():
            self.model_name  # noqa: B018  a bot that cannot be asked fails here, not after other calls were paid

    @property
    def model_name(self) -> str:
        """The model that is asked. ModelError if none is named, or the named one cannot be reached."""
        if self._client is None:
            return self._clients().source.model_for(self._model_name)
        scope = current_scope()
        source = scope.experiment.clients.source if scope and scope.experiment.clients else None
        if self._model_name is None and (source is None or source.model is None or source.local):
            raise ModelError("no model: a bot with a client of its own needs model_name= or --experiment-model")
        return self._model_name or str(source.model)  # type: ignore[union-attr]

    def _clients(self) -> Clients:
        """The clients of the experiment in progress; outside of one, clients made from the environment."""
        scope = current_scope()
        if scope and scope.experiment.clients:
            return scope.experiment.clients
        if self._own_clients is None:
            self._own_clients = Clients(resolve_source(self._model_name, None, os.environ), _no_local_server)
        return self._own_clients

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
        described: dict[str, Any] = {
            "name": self.name,
            "kind": type(self).kind,
            "model_name": self.model_name,
            "temperature": self.temperature,
            "system_prompt": text,
            "system_prompt_hash": text_hash,
            "params": jsonable({**self._parameters, **self._details}),
        }
        experiment_id = scope.experiment.experiment_id
        digest = tagged_hash("bot", experiment_id, described).partition(":")[2]
        return BotSpec(id=f"bot_{digest[:26]}", experiment_id=experiment_id, **described)


class _SyncBot(_Bot):
    def _drive(self, talk: Generator[Any, Any, T]) -> T:
        client = self._client or self._clients().client()
        with self._asking():
            return _finish(talk, lambda step: _take_step(client, step))


class _AsyncBot(_Bot):
    async def _drive(self, talk: Generator[Any, Any, T]) -> T:
        client = self._client or self._clients().async_client()
        with self._asking():
            try:
                step = next(talk)
                while True:
                    try:
                        result = await _take_step_async(client, step)
                    except Exception as error:
                        step = talk.throw(error)
                    else:
                        step = talk.send(result)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]


class _TextTalk(_Bot):
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


class _StructuredTalk(_Bot, Generic[M]):
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
        if not isinstance(max_repair, int) or max_repair < 0:
            raise ConfigurationError(f"max_repair is a number of repairs from 0, not {max_repair!r}")
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


class _ToolTalk(_Bot):
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
        described = [dialogue.describe_tool(tool) for tool in tools]
        if not described:
            raise ConfigurationError("tools= needs at least one function")
        self._tools = {tool.__name__: validate_call(tool) for tool in tools}
        self.max_rounds = max_rounds
        super().__init__(
            system_prompt,
            model_name=model_name,
            temperature=temperature,
            name=name,
            client=client,
            parameters={**parameters, "tools": described},
        )

    def _talk(self, said: Sequence[Say]) -> Generator[Any, Any, Reply]:
        return dialogue.tool_dialogue(self._request(), self._messages(said), self._tools, self.max_rounds)


class SimpleBot(_TextTalk, _SyncBot):
    """Answers with text. `SimpleBot(system_prompt, model_name=, temperature=)`, then `bot(message, ...)`.

    Further keyword arguments (`max_tokens`, `seed`, ...) go into the request as they are. The answer is a
    `Reply`, a str. Raises RefusalError when the model refuses.
    """

    def __call__(self, *messages: Say) -> Reply:
        """Send the system prompt and the messages; return the answer."""
        return self._drive(self._talk(messages))


class AsyncSimpleBot(_TextTalk, _AsyncBot):
    """`SimpleBot` for `async def`."""

    async def __call__(self, *messages: Say) -> Reply:
        """Send the system prompt and the messages; return the answer."""
        return await self._drive(self._talk(messages))


class StructuredBot(_StructuredTalk[M], _SyncBot):
    """Answers with an instance of a pydantic model.

    `output_mode`: "schema" (the server enforces the JSON schema), "tool" (as the arguments of a forced tool
    call) or "json" (the schema is in the system prompt). An answer that does not fit is shown to the model up
    to `max_repair` times, each a call of its own. Raises StructureError, RefusalError, TruncatedError.
    """

    def __call__(self, *messages: Say) -> M:
        """Send the system prompt and the messages; return the answer."""
        return self._drive(self._talk(messages))


class AsyncStructuredBot(_StructuredTalk[M], _AsyncBot):
    """`StructuredBot` for `async def`."""

    async def __call__(self, *messages: Say) -> M:
        """Send the system prompt and the messages; return the answer."""
        return await self._drive(self._talk(messages))


class ToolBot(_ToolTalk, _SyncBot):
    """Lets the model call Python functions until it answers with text.

    A tool's parameters are described to the model from its signature and docstring, and validated by
    pydantic. The model's mistakes (unknown tool, bad arguments) are sent back to it; an exception of the
    tool itself ends the run. Raises ToolLoopError after `max_rounds` requests.
    """

    def __call__(self, *messages: Say) -> Reply:
        """Send the system prompt and the messages, run tools, return the final answer."""
        return self._drive(self._talk(messages))


class AsyncToolBot(_ToolTalk, _AsyncBot):
    """`ToolBot` for `async def`; tools may be coroutine functions."""

    async def __call__(self, *messages: Say) -> Reply:
        """Send the system prompt and the messages, run tools, return the final answer."""
        return await self._drive(self._talk(messages))


def _finish(talk: Generator[Any, Any, T], take: Callable[[Any], Any]) -> T:
    """Drive a dialogue to its end; exceptions of a step are thrown into it."""
    try:
        step = next(talk)
        while True:
            try:
                result = take(step)
            except Exception as error:
                step = talk.throw(error)
            else:
                step = talk.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _take_step(client: Any, step: Send | CallTool) -> Any:
    if isinstance(step, CallTool):
        result = step.function(**step.arguments)
        if inspect.iscoroutine(result):
            result.close()
            raise ConfigurationError("this tool is a coroutine function; use AsyncToolBot (the async_bot fixture)")
        return result
    method, parameters = _method_and_parameters(client, step)
    return _reception(method(**parameters))


async def _take_step_async(client: Any, step: Send | CallTool) -> Any:
    if isinstance(step, CallTool):
        result = step.function(**step.arguments)
        return await result if inspect.isawaitable(result) else result
    method, parameters = _method_and_parameters(client, step)
    return _reception(await method(**parameters))


def _method_and_parameters(client: Any, step: Send) -> tuple[Any, dict[str, Any]]:
    """Choose the client's method; its raw form also gives the text of answers that do not parse."""
    completions = client.chat.completions.with_raw_response
    if step.output is None or step.output_mode == "json":
        mode = {"response_format": {"type": "json_object"}} if step.output else {}
        return completions.create, {**step.parameters, **mode}
    if step.output_mode == "schema":
        return completions.parse, {**step.parameters, "response_format": step.output}
    from openai import pydantic_function_tool  # start-up cost: openai is only imported to make calls

    tool = pydantic_function_tool(step.output)
    choice = {"type": "function", "function": {"name": tool["function"]["name"]}}
    return completions.parse, {**step.parameters, "tools": [tool], "tool_choice": choice}


def _reception(raw: Any) -> Reception:
    try:
        body = json.loads(raw.text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise AnswerError(f"the server's answer is not a JSON object: {raw.text[:500]!r}")
    return Reception(body, raw.parse)


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
        return said
    raise ConfigurationError(f"a message is text, a prompt's message or a dict with a role, not {said!r:.200}")


def _default_name(system_prompt: object, kind: str) -> str:
    version = getattr(system_prompt, "version", None)
    return version.name.rpartition(".")[2] if version else kind


def _no_local_server() -> str:
    raise ModelError(
        "no model or API key is configured; the built-in stand-in serves experiments only: "
        "run this in a test or `with Experiment(...)`, or set OPENAI_API_KEY"
    )
