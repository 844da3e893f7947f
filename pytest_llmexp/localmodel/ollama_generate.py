"""The wire format of Ollama's POST /api/generate: a prompt instead of messages.

Standard library only.
"""

from collections.abc import Iterator, Sequence

from pytest_llmexp.localmodel import ollama
from pytest_llmexp.localmodel.conversation import plain_text, system
from pytest_llmexp.localmodel.exchange import Ask, JsonObject, Message, Reply, Usage, pieces

error_event = ollama.error_event


def read(body: JsonObject) -> Ask:
    """Read what is asked; raise BadRequest when the body is not what the endpoint takes."""
    return ollama.asked(body, [*system(body.get("system")), Message("user", plain_text(body.get("prompt")))])


def render(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> JsonObject:
    """Return the body of a response that is not streamed."""
    return ollama.finished(label, replies[0], usage, {"response": replies[0].said})


def events(replies: Sequence[Reply], usage: Usage | None, label: str, ask: Ask) -> Iterator[JsonObject]:
    """Yield the payloads of a streamed response."""
    for piece in pieces(replies[0].said):
        yield ollama.unfinished(label, {"response": piece})
    yield ollama.finished(label, replies[0], usage, {"response": ""})
