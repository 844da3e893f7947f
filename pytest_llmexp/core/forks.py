"""Locks that a forked child can take: one that another thread held at the fork would never be released there.

What such a lock guards is a short update, so that the child at worst sees one that was half made.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

_renewed: list[tuple[weakref.ref[object], str, Callable[[], object]]] = []


def renew_lock_in_children(owner: object, name: str = "_lock", make: Callable[[], object] | None = None) -> None:
    """Give `owner` a new lock, or what `make` returns, under `name` in every forked child, as long as it lives."""
    _renewed.append((weakref.ref(owner, _forget), name, make or threading.Lock))


def _forget(dead: weakref.ref[object]) -> None:
    _renewed[:] = [renewal for renewal in _renewed if renewal[0] is not dead]


def _renew() -> None:
    for owner, name, make in _renewed:
        if (alive := owner()) is not None:
            setattr(alive, name, make())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
