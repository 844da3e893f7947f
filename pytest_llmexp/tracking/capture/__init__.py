"""Sees the calls of any client: hooks in the libraries that send HTTP requests.

One file per library: httpx and httpx2 (openai, anthropic, google-genai, ollama, ...), aiohttp, urllib3 (boto3).
The hooks import none of these: they wait until somebody does. Outside a scope they pass everything through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType

import wrapt

from pytest_llmexp.tracking.capture import aiohttp_sessions, httpx_clients, urllib3_pools
from pytest_llmexp.tracking.patching import SharedPatch

_HOOKS: dict[str, Callable[[SharedPatch, ModuleType], None]] = {
    "httpx": httpx_clients.hook,
    "httpx2": httpx_clients.hook,
    "aiohttp": aiohttp_sessions.hook,
    "urllib3": urllib3_pools.hook,
}
LIBRARIES = tuple(_HOOKS)
_patch = SharedPatch()  # of the process, as what it patches


@contextmanager
def capturing() -> Iterator[None]:
    """Install the hooks for the body of the with statement; nested and overlapping uses share them."""
    with _patch.held():
        for name, hook in _HOOKS.items():
            wrapt.when_imported(name)(partial(hook, _patch))
        yield
