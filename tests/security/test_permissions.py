"""Prompts and answers are nobody else's business: every file we make is for its owner only."""

from pathlib import Path

import pytest

from pytest_llmexp.store import open_store
from tests.faults.processes import Process


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_every_file_of_a_store_is_private_whatever_the_umask(tmp_path: Path, umask: str) -> None:
    with Process("create_with_umask", tmp_path / "m.db", umask) as process:
        assert process.rest() == ["0600 m.db", "0600 m.db-shm", "0600 m.db-wal", "0600 m.db.lock"]


def test_a_wider_file_is_warned_about_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    path.touch()
    path.chmod(0o644)
    store = open_store(path, create=True)
    store.close()
    assert [warning for warning in store.warnings if str(path) in warning and "0644" in warning] == store.warnings
    assert len(store.warnings) == 1
    assert path.stat().st_mode & 0o777 == 0o644
