"""Chooses how pytest-xdist distributes: as ever until runs were collected, then in a way that fits them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from pytest_llmexp.runtest.each import EachScheduling
from pytest_llmexp.runtest.scheduling import Crew, RunScheduling, is_run


class ExperimentScheduling:
    """A scheduler that is xdist's own (`stock`) until runs were collected, and one of ours from then on."""

    def __init__(self, config: object, stock: Any, mode: str, crew: Crew) -> None:
        self._chosen = stock
        self._config = config
        self._mode = mode
        self._crew = crew
        self._collections: dict[Any, list[str]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chosen, name)

    @property
    def suspects(self) -> list[str]:
        """The node ids that the next worker is to execute one at a time."""
        return self._chosen.suspects if self._is_ours() else []

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Take what a worker collected."""
        self._collections[node] = list(collection)
        self._chosen.add_node_collection(node, collection)

    def schedule(self) -> None:
        """Distribute; the first time it is known whether there are runs."""
        if not self._is_ours():
            first, *others = self._collections.values()
            if self._mode == "each":
                if any(map(is_run, chain(first, *others))):  # workers of several kinds may differ
                    self._chosen = EachScheduling(self._config, self._collections, self._crew)
            elif any(map(is_run, first)) and all(other == first for other in others):  # else xdist reports it
                self._chosen = RunScheduling(self._config, first, self._collections, self._mode, self._crew)
        self._chosen.schedule()

    def _is_ours(self) -> bool:
        return isinstance(self._chosen, RunScheduling | EachScheduling)
