"""Presets for what goes wrong with model APIs, each an `Answer` of a script.

Standard library only.
"""

import json

from pytest_llmexp.localmodel.exchange import SCRIPT_LABEL
from pytest_llmexp.localmodel.script import Answer


def rate_limited(retry_after: float | None = None) -> Answer:
    """Return a 429; `retry_after` is in seconds."""
    headers = (
        {} if retry_after is None else {"Retry-After": f"{retry_after:g}", "retry-after-ms": f"{retry_after * 1000:g}"}
    )
    return Answer("Rate limit reached.", status=429, headers=headers)


def server_error(status: int = 500) -> Answer:
    """Return an error of the server."""
    return Answer("The server had an error while processing your request.", status=status)


def client_error(status: int = 400, message: str = "The request was refused.") -> Answer:
    """Return an error that a retry cannot mend: 400, 401, 403, 404, 422."""
    return Answer(message, status=status)


def slow(latency_s: float, text: str = "Late, but here.") -> Answer:
    """Answer after some seconds."""
    return Answer(text, latency_s=latency_s)


def hang() -> Answer:
    """Answer nothing until the server closes; a client sees a timeout."""
    return Answer(hang=True)


def reset() -> Answer:
    """Reset the connection instead of answering."""
    return Answer(reset=True)


def cut_body(after: int = 20, text: str = "This answer never arrives whole.") -> Answer:
    """Close the connection after so many bytes of the body."""
    return Answer(text, cut_after=after)


def cut_stream(after: int = 2, text: str = "This stream never arrives whole.") -> Answer:
    """Close the connection after so many events of a stream."""
    return Answer(text, cut_after=after)


def stream_error(after: int = 2, text: str = "This stream ends with an error.") -> Answer:
    """Send an error event after so many events of a stream."""
    return Answer(text, error_after=after)


def bad_json() -> Answer:
    """Send a body that breaks off in the middle of its JSON, with a 200."""
    return Answer(body=b'{"id": "chatcmpl-1", "choices": [{"index": 0, "mess')


def html_page() -> Answer:
    """Send a web page with a 200, as proxies do."""
    page = b"<!doctype html><title>Sign in</title><h1>Sign in to continue</h1>"
    return Answer(body=page, headers={"Content-Type": "text/html"})


def empty_body() -> Answer:
    """Send nothing with a 200."""
    return Answer(body=b"")


def no_choices() -> Answer:
    """Send a chat completion without any choice."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": SCRIPT_LABEL,
        "choices": [],
    }
    return Answer(body=json.dumps(body).encode())


def no_usage(text: str = "Nobody counted this.") -> Answer:
    """Answer without usage."""
    return Answer(text, usage=None)


def truncated(text: str = '{"name": "Data Eng') -> Answer:
    """Answer a text that was cut off by the token limit."""
    return Answer(text, finish_reason="length")


def refused(message: str = "I cannot help with that.") -> Answer:
    """Refuse."""
    return Answer(refusal=message)
