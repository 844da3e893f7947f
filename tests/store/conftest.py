"""The store under test. Tests that take `store` hold for every backend."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_llmexp.store import Store, open_store


@pytest.fixture(params=["sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that does not exist yet, once per backend."""
    return {"sqlite": f"sqlite:///{tmp_path / 'message_log.db'}"}[request.param]


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store, open for writing."""
    store = open_store(store_url, create=True)
    yield store
    store.close()
