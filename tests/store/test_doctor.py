"""What the doctor says of a file, and what it saves of a damaged one."""

import sqlite3
from pathlib import Path

import pytest

from pytest_llmexp.core.errors import CorruptStoreError, StoreError
from pytest_llmexp.store import diagnose, open_store, salvage
from pytest_llmexp.store.doctor import has_wal_reset_bug
from tests.store.examples import call, experiment, metric, run, summary, version

PAGE = 8192


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "message_log.db"
    store = open_store(path, create=True)
    runs = [run(f"run_{n:04}", run_index=n + 1) for n in range(1000)]
    calls = [call(f"call_{n:04}", f"run_{n:04}", response={"text": f"{n} " * 300}) for n in range(1000)]
    store.write([experiment(), version(), summary(None), *runs, *calls])
    store.write([metric(run_id=each.id, value=each.run_index) for each in runs])
    store.close()
    return path


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("3.6.23", False),
        ("3.7.0", True),
        ("3.40.1", True),
        ("3.44.5", True),
        ("3.44.6", False),
        ("3.45.1", True),
        ("3.50.4", True),
        ("3.50.7", False),
        ("3.51.2", True),
        ("3.51.3", False),
        ("3.52.0", False),
        ("4.0.0", False),
    ],
)
def test_the_wal_reset_bug_is_known_by_version(version: str, affected: bool) -> None:
    assert has_wal_reset_bug(version) is affected


def test_a_healthy_store(path: Path) -> None:
    found = diagnose(path)
    assert found.problem is None
    assert found.damage == ()
    assert found.warnings == ()
    assert (found.schema_version, found.newest_schema_version, found.journal_mode) == ("0004", "0004", "wal")
    assert found.modes["message_log.db"] == "0600"
    assert found.size == path.stat().st_size


def test_a_store_that_others_can_read(path: Path) -> None:
    path.chmod(0o644)
    assert any("chmod 600" in warning for warning in diagnose(path).warnings)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no file"):
        diagnose(tmp_path / "none.db")
    with pytest.raises(StoreError, match="there is no file"):
        salvage(tmp_path / "none.db", tmp_path / "new.db")


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_text("hello")
    found = diagnose(path)
    assert "no database" in (found.problem or "")
    assert found.damage != ()
    with pytest.raises(CorruptStoreError, match="nothing of"):
        salvage(path, path.with_name("new.db"))
    assert not path.with_name("new.db").exists()


def _damage(path: Path, *parts: float) -> bytes:
    """Overwrite pages at these parts of the file; return what it now holds."""
    content = bytearray(path.read_bytes())
    for part in parts:
        start = int(len(content) * part) // PAGE * PAGE
        content[start : start + PAGE] = b"\x5a" * PAGE
    path.write_bytes(content)
    return bytes(content)


def test_damage_is_reported_and_the_readable_rows_are_saved(path: Path) -> None:
    content = _damage(path, 0.4, 0.6)
    assert diagnose(path).damage != ()
    target = path.with_name("saved.db")
    counts = salvage(path, target)
    assert path.read_bytes() == content
    assert counts["experiments"] == 1
    assert counts["experiment_runs"] == 1000
    assert 950 <= counts["calls"] < 1000  # three of them were on each page
    assert target.stat().st_mode & 0o777 == 0o600
    store = open_store(target)
    assert len(store.calls("exp_1")) == counts["calls"]
    assert diagnose(target).damage == ()
    store.close()


def test_everything_of_a_healthy_store_is_saved(path: Path) -> None:
    counts = salvage(path, path.with_name("saved.db"))
    expected = {"experiments": 1, "experiment_runs": 1000, "calls": 1000, "metrics": 1000, "prompt_versions": 1}
    assert {name: counts[name] for name in expected} == expected
    assert counts["summaries"] == 1
    original, saved = open_store(path), open_store(path.with_name("saved.db"))
    assert saved.metrics("exp_1") == original.metrics("exp_1")
    assert saved.runs("exp_1") == original.runs("exp_1")
    original.close()
    saved.close()


def test_calls_of_lost_runs_are_kept(path: Path) -> None:
    connection_to_file = sqlite3.connect(path)  # foreign keys are off, unless asked for
    connection_to_file.execute("DELETE FROM experiment_runs WHERE run_index <= 10")
    connection_to_file.execute("DELETE FROM experiments")
    connection_to_file.commit()
    connection_to_file.close()
    salvage(path, path.with_name("saved.db"))
    saved = open_store(path.with_name("saved.db"))
    (found,) = saved.experiments()
    assert (found.id, found.name, found.status) == ("exp_1", "salvaged", "interrupted")
    assert len(saved.calls("exp_1")) == 1000
    assert saved.call_totals("exp_1").unattributed == 10
    assert len(saved.metrics("exp_1")) == 990
    saved.close()


def test_an_existing_target_is_left_alone(path: Path) -> None:
    target = path.with_name("precious.db")
    target.write_text("precious")
    with pytest.raises(StoreError, match="exists"):
        salvage(path, target)
    assert target.read_text() == "precious"
