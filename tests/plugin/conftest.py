"""Fixtures of the tests that run a pytest of their own."""

from __future__ import annotations

import pytest

from tests.conftest import Suite
from tests.plugin.overlapping import Overlapping


@pytest.fixture
def overlapping(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Overlapping:
    """An empty suite whose runs overlap."""
    return Overlapping(suite, monkeypatch)
