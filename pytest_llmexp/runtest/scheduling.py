"""Distributes runs to the workers of pytest-xdist so that each has enough of them to overlap.

Written against xdist's documented protocol for schedulers (`xdist/scheduler/protocol.py`) and what it lets them ask
of a node: `send_runtest_some`, `shutdown`, `shutting_down`. Imports no xdist.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

_RUN = re.compile(r"^(?P<test>.*)[\[-]run\d+(?=[\]-])")


def is_run(node_id: str) -> bool:
    """Say whether a node id looks like that of a run: the controller knows nothing but ids."""
    return _RUN.match(node_id) is not None


def group_of(node_id: str, mode: str) -> str:
    """Return what of a node id decides which worker gets it, in a --dist mode.

    >>> group_of("tests/test_a.py::test_x[0.0-run3]", "load")
    'tests/test_a.py::test_x[0.0'
    >>> group_of("tests/test_a.py::test_x[0.0-run3]", "loadfile")
    'tests/test_a.py'
    """
    if mode == "loadgroup" and "@" in node_id.rpartition("]")[2]:
        return node_id.rpartition("@")[2]
    if mode == "loadfile":
        return node_id.partition("::")[0]
    if mode == "loadscope":
        return node_id.partition("[")[0].rpartition("::")[0]
    found = _RUN.match(node_id)
    return found["test"] if found else node_id


class Crew(Protocol):
    """What is known of the workers, each of which was told so at its start."""

    def share(self, node: Any) -> int:
        """Return how many bodies may be in flight in a worker."""

    def suspects(self, node: Any) -> list[str]:
        """Return the node ids that a worker executes one at a time."""

    def was_reported(self, node: Any, node_id: str) -> bool:
        """Say whether a worker's result of an item has come, although the item is not over."""

    def forget(self, node: Any, node_id: str) -> None:
        """Take note that an item is over."""


def blame(
    node: Any, held: Sequence[int], collection: Sequence[str], crew: Crew
) -> tuple[int | None, list[int], list[int]]:
    """Divide what a dead worker held: the item that ended it, the suspects, and those that were not begun.

    `held` are places in `collection`, in the order in which they are executed.
    """
    told = set(crew.suspects(node))
    watched = [index for index in held if collection[index] in told]
    others = [index for index in held if collection[index] not in told]
    if watched:
        return watched[0], watched[1:], others
    alone = 1 if crew.share(node) == 1 else len(held)
    begun = next((at for at, index in enumerate(held[:alone]) if not is_run(collection[index])), alone)
    if begun > 1:
        return None, list(held[:begun]), list(held[begun:])
    return (held[0] if held else None), [], list(held[1:])


class RunScheduling:
    """Keeps a window of items on every worker, of as few experiments as can be.

    A window is larger than what a worker has in flight, so that it can look ahead, and small enough that the
    others find work. Groups (a test's case; with loadfile, loadscope and loadgroup what they name) go to one
    worker; with load and worksteal one that would idle takes from another's.
    """

    def __init__(self, config: object, collection: list[str], nodes: Iterable[Any], mode: str, crew: Crew) -> None:
        self.config = config  # plugins look for it here (pytest-rerunfailures)
        self.collection = collection
        self.node2pending: dict[Any, list[int]] = {}
        self._ready: set[Any] = set()  # workers that have collected; the others cannot be given anything yet
        self._divisible = mode in ("load", "worksteal")
        self._crew = crew
        self._suspects: list[int] = []  # for the next new worker
        self._names = [group_of(node_id, mode) for node_id in collection]
        self._left: dict[str, deque[int]] = {}  # what no worker has, by group
        self._count = 0
        self._free: dict[str, None] = {}  # groups of no worker, in order
        self._own: dict[Any, dict[str, None]] = {}  # worker -> its groups
        for node in nodes:
            self.add_node(node)
            self._ready.add(node)
        self._return(range(len(collection)))

    # what xdist asks

    @property
    def nodes(self) -> list[Any]:
        """The workers."""
        return list(self.node2pending)

    @property
    def collection_is_completed(self) -> bool:
        """Always: this scheduler is made when it is."""
        return True

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left but the last item of each worker, which waits for the end to be announced."""
        return not self._count and not self._suspects and all(len(held) < 2 for held in self.node2pending.values())

    @property
    def has_pending(self) -> bool:
        """Whether anything is left."""
        return bool(self._count or self._suspects or any(self.node2pending.values()))

    @property
    def suspects(self) -> list[str]:
        """The node ids that the next worker is to execute one at a time."""
        return [self.collection[index] for index in self._suspects]

    def add_node(self, node: Any) -> None:
        """Take in a worker."""
        self.node2pending[node] = []
        self._own[node] = {}

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Give a worker that replaces a dead one the suspects it was told of."""
        if list(collection) == self.collection:
            self._ready.add(node)
            told = set(self._crew.suspects(node))
            given = [index for index in self._suspects if self.collection[index] in told]
            self._suspects = [index for index in self._suspects if self.collection[index] not in told]
            self._send(node, given)

    def schedule(self) -> None:
        """Fill every worker's window."""
        for node in self.nodes:
            self._fill(node)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Take note that an item is over."""
        self.node2pending[node].remove(item_index)
        self._crew.forget(node, self.collection[item_index])
        self._fill(node)

    def mark_test_pending(self, item: str) -> None:
        """Put an item back."""
        self._return([self.collection.index(item)])
        self.schedule()

    def remove_pending_tests_from_node(self, node: Any, indices: Sequence[int]) -> None:
        """Take back what a worker gave up; none is ever asked to."""
        self.node2pending[node] = [index for index in self.node2pending[node] if index not in set(indices)]
        self._return(indices)

    def remove_node(self, node: Any) -> str | None:
        """Let go of a worker, and return the item that ended it, if that is certain.

        It is if one item alone was in flight. Else the runs that may have been are suspects: the worker that takes
        its place executes them one at a time.
        """
        held = self.node2pending.pop(node)
        held = [index for index in held if not self._crew.was_reported(node, self.collection[index])]
        self._free.update(self._own.pop(node))
        self._ready.discard(node)
        culprit, suspects, others = blame(node, held, self.collection, self._crew)
        self._suspects += suspects
        self._return(others)
        self.schedule()
        return None if culprit is None else self.collection[culprit]

    # who gets what

    def _return(self, indices: Iterable[int]) -> None:
        for index in indices:
            name = self._names[index]
            if name not in self._left:
                self._left[name] = deque()
                if not any(name in own for own in self._own.values()):
                    self._free[name] = None
            self._left[name].append(index)
            self._count += 1

    def _fill(self, node: Any) -> None:
        if node.shutting_down or node not in self._ready:
            return
        if self._count:
            share = self._crew.share(node)
            window = share + max(2, share // 2)
            held = len(self.node2pending[node])
            if held < 2 or window - held >= max(1, share // 4):
                fair = max(2, -(-self._count // len(self.node2pending)))
                self._send(node, self._take(node, min(window - held, fair), window, idle=held < 2))
            if not self._count:
                self.schedule()
        elif self.node2pending[node] or not self._suspects:
            node.shutdown()

    def _take(self, node: Any, room: int, window: int, *, idle: bool) -> list[int]:
        """Take items for a worker: of its own groups, then of free ones, then of others'."""
        taken: list[int] = []
        while len(taken) < max(room, 2):
            name = next(iter(self._own[node] or self._free), None) or self._others(window, idle=idle and not taken)
            if name is None:
                break
            self._free.pop(name, None)
            self._own[node][name] = None
            alone = not any(name in own for other, own in self._own.items() if other is not node)
            whole = not self._divisible or (alone and len(self._left[name]) <= window)
            taken += self._draw(name, len(self._left[name]) if whole else max(2, room - len(taken)))
        return taken

    def _others(self, window: int, *, idle: bool) -> str | None:
        """Return a group of another worker's that has more than that one can hold; for one that would idle, any."""
        if not self._divisible:
            return None
        return next((name for name, waiting in self._left.items() if idle or len(waiting) > window), None)

    def _draw(self, name: str, count: int) -> list[int]:
        waiting = self._left[name]
        drawn = [waiting.popleft() for _ in range(min(count, len(waiting)))]
        self._count -= len(drawn)
        if not waiting:
            del self._left[name]
            for groups in (self._free, *self._own.values()):
                groups.pop(name, None)
        return drawn

    def _send(self, node: Any, indices: Sequence[int]) -> None:
        if not indices:
            return
        try:
            node.send_runtest_some(list(indices))
        except OSError:  # it has died, which we are going to be told
            self._ready.discard(node)
            self._return(indices)
        else:
            self.node2pending[node].extend(indices)
