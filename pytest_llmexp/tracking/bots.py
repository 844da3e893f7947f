"""SimpleBot, StructuredBot, ToolBot and their asynchronous twins: the classes that users name."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

from pytest_llmexp.tracking.asking import Talk, drive, drive_async
from pytest_llmexp.tracking.botbase import Bot, OutputBot, Say, TextBot, ToolUser
from pytest_llmexp.tracking.clients import LoopClients, async_twins, check_sync_client
from pytest_llmexp.tracking.dialogue import Reply

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class _SyncBot(Bot):
    def _take_client(self, client: Any) -> None:
        check_sync_client(client)

    def _drive(self, talk: Talk[T]) -> T:
        client = self._client or self._clients().client()
        with self._asking():
            return drive(talk, client, self._shortcuts())


class _AsyncBot(Bot):
    """A synchronous client is a model for asynchronous ones of the bot's own."""

    _twins: LoopClients | None = None

    def _take_client(self, client: Any) -> None:
        self._twins = async_twins(client)

    async def _drive(self, talk: Talk[T]) -> T:
        client = self._twins.get() if self._twins else self._client or self._clients().async_client()
        with self._asking():
            return await drive_async(talk, client, self._shortcuts())


class SimpleBot(TextBot, _SyncBot):
    """Answers with text. `SimpleBot(system_prompt, model_name=, temperature=)`, then `bot(message, ...)`.

    Further keyword arguments (`max_tokens`, `seed`, ...) go into the request as they are. The answer is a
    `Reply`, a str. Raises RefusalError when the model refuses.
    """

    def __call__(self, *messages: Say) -> Reply:
        """Send the system prompt and the messages; return the answer."""
        return self._drive(self._talk(messages))


class AsyncSimpleBot(TextBot, _AsyncBot):
    """`SimpleBot` for `async def`."""

    async def __call__(self, *messages: Say) -> Reply:
        """Send the system prompt and the messages; return the answer."""
        return await self._drive(self._talk(messages))


class StructuredBot(OutputBot[M], _SyncBot):
    """Answers with an instance of a pydantic model.

    `output_mode`: "schema" (the server enforces the JSON schema), "tool" (as the arguments of a forced tool
    call) or "json" (the schema is in the system prompt). An answer that does not fit is shown to the model up
    to `max_repair` times, each a call of its own. Raises StructureError, RefusalError, TruncatedError.
    """

    def __call__(self, *messages: Say) -> M:
        """Send the system prompt and the messages; return the answer."""
        return self._drive(self._talk(messages))


class AsyncStructuredBot(OutputBot[M], _AsyncBot):
    """`StructuredBot` for `async def`."""

    async def __call__(self, *messages: Say) -> M:
        """Send the system prompt and the messages; return the answer."""
        return await self._drive(self._talk(messages))


class ToolBot(ToolUser, _SyncBot):
    """Lets the model call Python functions until it answers with text.

    A tool's parameters are described to the model from its signature and docstring, and validated by
    pydantic. The model's mistakes (unknown tool, bad arguments) are sent back to it; an exception of the
    tool itself ends the run. Raises ToolLoopError after `max_rounds` requests.
    """

    def __call__(self, *messages: Say) -> Reply:
        """Send the system prompt and the messages, run tools, return the final answer."""
        return self._drive(self._talk(messages))


class AsyncToolBot(ToolUser, _AsyncBot):
    """`ToolBot` for `async def`; tools may be coroutine functions."""

    async def __call__(self, *messages: Say) -> Reply:
        """Send the system prompt and the messages, run tools, return the final answer."""
        return await self._drive(self._talk(messages))
