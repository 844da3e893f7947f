"""What goes over the wire, free of any client library: a request as it is sent, a response as far as it came."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult

_CHARSET = re.compile(r'charset="?([^\s;"]+)', re.IGNORECASE)
_NOT_TEXT = ("audio/", "image/", "video/", "application/octet-stream")


class Sent(NamedTuple):
    """A request. Of its headers only what a call is told apart by: they can hold keys, as user and query can."""

    method: str
    address: str  # scheme, host and port
    path: str
    content_type: str
    content: bytes
    client: str | None = None
    is_retry: bool = False  # the client said that it sent this before


class Received(NamedTuple):
    """A response as far as it came, its content without compression; `complete` if it was read to its end."""

    status_code: int
    content_type: str
    content: bytes
    complete: bool = True
    retry_after_s: float | None = None  # how long the server asks to wait

    @property
    def is_text(self) -> bool:
        """Whether the content is something to read."""
        return not self.content_type.startswith(_NOT_TEXT)

    @property
    def text(self) -> str:
        """The content as text, in the charset it names, else UTF-8."""
        named = _CHARSET.search(self.content_type)
        try:
            return self.content.decode(named[1] if named else "utf-8", "replace")
        except LookupError:
            return self.content.decode("utf-8", "replace")


def address_of(url: SplitResult) -> str:
    """Return scheme, host and port, as far as they are given; never user and password."""
    try:
        port = f":{url.port}" if url.port else ""
    except ValueError:
        port = ""
    host = url.hostname or ""
    return f"{url.scheme}://{f'[{host}]' if ':' in host else host}{port}"
