"""Lets a worker of pytest-xdist look ahead in its queue, and notice that its controller is gone.

Written against what pytest-xdist 3.6 to 3.8 ask of the queue: `get`, `put`, `replace`, `lock`. Imports no xdist: a
worker runs a copy of `xdist.remote` of its own, whose classes are not those that an import would give.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class RunQueue:
    """The indices of the items that a worker is to execute; ends with something that is no int.

    A claimed index is out of reach of `lock`, through which xdist takes back what it gives to another worker.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._waiting: deque[Any] = deque()
        self._claimed: deque[int] = deque()

    def get(self) -> Any:
        """Return the next index, once there is one."""
        with self._changed:
            while not self._claimed and not self._waiting:
                self._changed.wait()
            return self._claimed.popleft() if self._claimed else self._waiting.popleft()

    def put(self, item: Any) -> None:
        """Add an index, or the end."""
        with self._changed:
            self._waiting.append(item)
            self._changed.notify_all()

    def replace(self, items: Iterable[Any]) -> None:
        """Put these in the place of what is not claimed."""
        with self._changed:
            self._waiting = deque(items)

    @contextmanager
    def lock(self) -> Iterator[deque[Any]]:
        """Hold still what is not claimed."""
        with self._changed:
            yield self._waiting

    def coming(self) -> list[Any]:
        """Return what is claimed and the first that is not."""
        with self._changed:
            return [*self._claimed, *list(self._waiting)[:1]]

    def claim(self, index: int) -> None:
        """Take the first index out of reach, if it is this one."""
        with self._changed:
            if self._waiting and self._waiting[0] == index:
                self._claimed.append(self._waiting.popleft())


class WorkerItems:
    """The items after the current one, in a worker: some are still on their way.

    `on_lost` is called, in a thread of execnet's, if the connection ends before the worker was told to.
    """

    def __init__(self, session: pytest.Session, on_lost: Callable[[], None]) -> None:
        plugins = session.config.pluginmanager.get_plugins()
        self._items = session.items
        self._index = {item: index for index, item in enumerate(self._items)}
        self._interactor: Any = next(plugin for plugin in plugins if type(plugin).__name__ == "WorkerInteractor")
        self._handle: Callable[[Any], None] = self._interactor.handle_command
        self._on_lost = on_lost
        _ = self._interactor.nextitem_index, self._interactor.torun
        self._queue = self._interactor.torun = RunQueue()
        self._interactor.handle_command = self._handle_command

    def _handle_command(self, command: Any) -> None:
        if not isinstance(command, tuple):  # the mark of the connection's end; a shutdown comes as a command
            self._on_lost()
        self._handle(command)

    def after(self, current: pytest.Item, begun: Collection[pytest.Item]) -> pytest.Item | None:
        """Return the first item after `current` that is not begun; None if it is not here yet."""
        for index in (self._interactor.nextitem_index, *self._queue.coming()):
            if not isinstance(index, int):
                return None
            if (item := self._items[index]) not in begun:
                return item
        return None

    def claim(self, item: pytest.Item) -> None:
        """Keep an item from being given to another worker."""
        self._queue.claim(self._index[item])
