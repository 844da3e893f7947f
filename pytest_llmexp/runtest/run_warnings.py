"""Gives each run in flight its own warnings. Standard library and pytest's public names only.

pytest records the warnings of the whole process, for the item in turn. Those of other runs are kept until theirs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_Shown = tuple[Any, ...]  # the arguments of warnings.showwarning


class WarningsPerRun:
    """Sorts warnings by run; `current` says whose a warning is, None for the item in turn."""

    def __init__(self, current: Callable[[], pytest.Item | None]) -> None:
        self._current = current
        self._kept: dict[pytest.Item, dict[_Shown, _Shown]] = {}

    @contextmanager
    def sorted(self) -> Iterator[None]:
        """Keep what runs warn of in the body of the with statement."""
        show = warnings.showwarning

        def sort(*warning: Any, **options: Any) -> None:
            if (item := self._current()) is None:
                show(*warning, **options)
                return
            message, category, filename, line = warning[:4]
            once = (str(message), category, filename, line)  # in a run, as pytest has it
            self._kept.setdefault(item, {}).setdefault(once, warning)

        # pytest makes every item forget what was shown before; in flight together, runs would hide each other's
        warnings.filterwarnings("always", append=True)
        warnings.showwarning = sort
        try:
            yield
        finally:
            warnings.showwarning = show

    def show(self, item: pytest.Item) -> None:
        """Show what an item was kept, in its turn."""
        for warning in self._kept.pop(item, {}).values():
            warnings.showwarning(*warning)
