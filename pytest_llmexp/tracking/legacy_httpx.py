"""httpx beside openai 3, where runs overlap in threads."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from types import ModuleType

import wrapt


def import_httpx_with_openai() -> None:
    """Import httpx, where it is installed, together with openai 3; at once if openai has been imported.

    openai 3 speaks httpx2, but asks `sys.modules` for httpx at every call, to accept its classes too. A run that is the
    first to import httpx would fail the calls of others: "partially initialized module 'httpx' has no attribute 'URL'".
    Nobody calls while openai is being imported, and who imports httpx then is waited for.
    """
    wrapt.when_imported("openai")(_import_httpx)


def _import_httpx(openai: ModuleType) -> None:
    with suppress(Exception):  # not installed, or broken: who needs it is told at their own import
        if int(openai.__version__.partition(".")[0]) >= 3:
            import_module("httpx")
