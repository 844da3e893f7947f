"""The items that come after the current one: of the session, or of the queue that pytest-xdist fills."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import pytest


class Upcoming(Protocol):
    """What a process will execute next, as far as it knows."""

    def after(self, current: pytest.Item, begun: Collection[pytest.Item]) -> pytest.Item | None:
        """Return the first item after `current` that is not begun; None if there is none, or not yet."""

    def claim(self, item: pytest.Item) -> None:
        """Keep an item that `after` returned from being given to another process."""


class SessionItems:
    """All items of a session, in the one process that executes them."""

    def __init__(self, items: list[pytest.Item]) -> None:
        self._items = items
        self._index = {item: index for index, item in enumerate(items)}
        self._first = 0  # none before it is left to begin

    def after(self, current: pytest.Item, begun: Collection[pytest.Item]) -> pytest.Item | None:
        """Return the first item after `current` that is not begun."""
        self._first = max(self._first, self._index[current] + 1)
        while self._first < len(self._items) and self._items[self._first] in begun:
            self._first += 1
        return self._items[self._first] if self._first < len(self._items) else None

    def claim(self, item: pytest.Item) -> None:
        """Nothing to do: no other process executes these items."""
