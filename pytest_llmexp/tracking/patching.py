"""Patches of other people's code that last while anybody holds them.

A patch is seen by the whole process, and experiments nest and overlap in threads: the first holder installs it,
the last one removes it. Standard library only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pytest_llmexp.core.forks import renew_lock_in_children

Method = Callable[..., Any]


@dataclass(slots=True)
class Patch:
    """One replaced method. `active` ends with the patch: one that others have wrapped cannot be taken away."""

    owner: type
    name: str
    original: Method
    replacement: Method
    active: bool = True


class SharedPatch:
    """A set of patches with a count of its holders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renew_lock_in_children(self)
        self._holders = 0
        self._patches: list[Patch] = []

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the patches for the body of the with statement."""
        with self._lock:
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._remove()

    def replace(self, owner: type, name: str, wrapper: Callable[..., Any]) -> None:
        """Replace a method by one that calls `wrapper(original, *args, **kwargs)`; at most once, and only if held."""
        with self._lock:
            known = any(patch.owner is owner and patch.name == name for patch in self._patches)
            if self._holders and not known:
                self._patches.append(_install(owner, name, wrapper))

    def _remove(self) -> None:
        while self._patches:
            patch = self._patches.pop()
            patch.active = False
            if patch.owner.__dict__.get(patch.name) is patch.replacement:
                setattr(patch.owner, patch.name, patch.original)


def _install(owner: type, name: str, wrapper: Callable[..., Any]) -> Patch:
    original: Method = owner.__dict__[name]

    def replacement(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return wrapper(original, *args, **kwargs) if patch.active else original(*args, **kwargs)

    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(replacement, attribute, getattr(original, attribute, None))
    replacement.__wrapped__ = original  # type: ignore[attr-defined]  # so that inspect.signature tells the truth
    patch = Patch(owner, name, original, replacement)
    setattr(owner, name, replacement)
    return patch
