"""`--dist each`: every worker executes all items; a worker that takes the place of a dead one goes on with its.

Written against xdist's documented protocol for schedulers, as scheduling.py is. xdist's own scheduler for this mode
takes the first item that is not over for the one that ended a worker; with look-ahead it may be another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pytest_llmexp.runtest.scheduling import Crew, blame


class _Left(NamedTuple):
    """What a dead worker leaves to the next one of its kind."""

    spec: str
    collection: list[str]
    indices: list[int]


class EachScheduling:
    """Gives each of the workers that are there, with what they collected, all its items; finds those that end one."""

    collection_is_completed = True  # this scheduler is made when it is

    def __init__(self, config: object, collections: Mapping[Any, list[str]], crew: Crew) -> None:
        self.config = config  # plugins look for it here
        self.node2pending: dict[Any, list[int]] = {
            node: list(range(len(collection))) for node, collection in collections.items()
        }
        self.suspects: list[str] = []  # for the worker that takes the place of the one that died last
        self._collections = dict(collections)
        self._crew = crew
        self._left: list[_Left] = []
        self._given: set[Any] = set()

    @property
    def nodes(self) -> list[Any]:
        """The workers."""
        return list(self.node2pending)

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left but the last item of each worker, which waits for the end to be announced."""
        return not self._left and all(len(held) < 2 for held in self.node2pending.values())

    @property
    def has_pending(self) -> bool:
        """Whether anything is left."""
        return bool(self._left or any(self.node2pending.values()))

    def add_node(self, node: Any) -> None:
        """Take in a worker."""
        self.node2pending[node] = []

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Let a worker that comes later go on where a dead one of its kind ended."""
        self._collections[node] = list(collection)
        spec = str(node.gateway.spec)
        left = next((each for each in self._left if each.spec == spec), None)
        if left is not None:
            self._left.remove(left)
            if left.collection == self._collections[node]:  # else nothing of it can be executed
                self.node2pending[node] = left.indices

    def schedule(self) -> None:
        """Give every worker that has collected what it is to execute."""
        for node, held in self.node2pending.items():
            if node in self._collections and node not in self._given:
                self._given.add(node)
                if held:
                    node.send_runtest_some(list(held))
                node.shutdown()

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Take note that an item is over."""
        self.node2pending[node].remove(item_index)
        self._crew.forget(node, self._collections[node][item_index])

    def mark_test_pending(self, item: str) -> None:
        """Nothing can be put back: every worker has all items."""
        raise NotImplementedError

    def remove_pending_tests_from_node(self, node: Any, indices: Sequence[int]) -> None:
        """Nothing can be taken back."""
        raise NotImplementedError

    def remove_node(self, node: Any) -> str | None:
        """Let go of a worker, and return the item that ended it, if that is certain.

        Any run that is not over may have been begun, so all are suspects: the worker that takes the place of the
        dead one executes them one at a time.
        """
        collection = self._collections.get(node, [])
        held = [index for index in self.node2pending.pop(node) if not self._crew.was_reported(node, collection[index])]
        culprit, suspects, others = blame(node, held, collection, self._crew)
        self.suspects = [collection[index] for index in suspects]
        if left := [*suspects, *others]:
            self._left.append(_Left(str(node.gateway.spec), collection, left))
        return None if culprit is None else collection[culprit]
