"""Recorded answers in files that can be committed: gzipped JSON lines, a header and then one call a line.

The same calls make the same bytes, so that a repository sees a change only where there is one. Knows core only.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_llmexp.core.errors import ConfigurationError
from pytest_llmexp.core.models import ANSWER, Call, Json
from pytest_llmexp.tracking.replay import Place

SUFFIX: Final = ".jsonl.gz"
_FORMAT: Final = "pytest-llmexp replay"
_VERSION: Final = 1
_KEPT: Final = (
    *("id", "ordinal", "role", "client", "model_requested", "temperature", "request_key", "request"),
    *ANSWER,
)


def write_replay_file(path: Path, about: Mapping[str, Json], calls: Iterable[tuple[Place, Call]]) -> int:
    """Write the calls and return how many; the file is private, and whole or absent.

    Args:
        path: Where to; replaced if it is there.
        about: What the header says of the experiment.
        calls: Calls with an answer, and where they belong, in any order.
    """
    ordered = sorted(calls, key=lambda each: (each[0], each[1].ordinal, each[1].id))
    part = path.with_name(f"{path.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as raw:
            with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                for line in _lines(about, ordered):
                    packed.write(json.dumps(line, ensure_ascii=True, sort_keys=True).encode() + b"\n")
            raw.flush()
            os.fsync(raw.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return len(ordered)


def _lines(about: Mapping[str, Json], calls: Sequence[tuple[Place, Call]]) -> Iterable[dict[str, Json]]:
    yield {"format": _FORMAT, "version": _VERSION, **about}
    for place, call in calls:
        kept = {name: value for name in _KEPT if (value := getattr(call, name)) is not None}
        yield {"place": list(place), **kept, "id": call.replayed_from or call.id}


class FileAnswers:
    """The answers of files. Raises ConfigurationError for a file that cannot be read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files: list[dict[tuple[Place, str], list[Call]]] = []  # apart: each is an experiment of its own
        self._by_test: dict[str, list[tuple[Place, Call]]] = {}
        for path in paths:
            calls: dict[tuple[Place, str], list[Call]] = {}
            for place, call in _read(path):
                calls.setdefault((place, call.request_key or ""), []).append(call)
                self._by_test.setdefault(place.test, []).append((place, call))
            self._files.append(calls)

    def find(self, place: Place, request_key: str, nth: int, not_of: str | None) -> Call | None:
        """Return the nth call with this request of this place, from the first file that has as many."""
        found = (calls.get((place, request_key), []) for calls in self._files)
        return next((same[nth - 1] for same in found if len(same) >= nth), None)

    def like(self, place: Place) -> Sequence[Call]:
        """Return up to 20 calls of the same test, those of the place first."""
        known = self._by_test.get(place.test, [])
        nearest = sorted(
            known, key=lambda each: (each[0].case_id != place.case_id, each[0].run_index != place.run_index)
        )
        return [call for _, call in nearest[:20]]


def find_replay_files(path: Path) -> list[Path]:
    """Return the file, or those of a folder. Raises ConfigurationError where there is none."""
    if path.is_dir():
        if found := sorted(path.glob(f"*{SUFFIX}")):
            return found
        raise ConfigurationError(
            f"{path} holds no *{SUFFIX} file; `llmexp export replay NAME -o FILE{SUFFIX}` makes one"
        )
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}; `llmexp export replay NAME -o {path}` makes one")
    return [path]


def _read(path: Path) -> Iterable[tuple[Place, Call]]:
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                parsed = json.loads(line)
                if number > 1:
                    yield _entry(parsed)
                elif parsed.get("format") != _FORMAT or parsed.get("version") != _VERSION:
                    raise ConfigurationError(
                        f"{path} is no replay file of version {_VERSION}: `llmexp export replay` makes them"
                    )
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, AttributeError) as error:
        where = f"near line {max(number, 1)}: {error}"
        raise ConfigurationError(
            f"{path} cannot be read as a replay file ({where}); `llmexp export replay` makes them"
        ) from error
    if not number:
        raise ConfigurationError(f"{path} is empty; `llmexp export replay` makes replay files")


def _entry(parsed: dict[str, Any]) -> tuple[Place, Call]:
    test, case_id, run_index = parsed.pop("place")
    return Place(test, case_id, run_index), Call(
        experiment_id="", started_at="", status="ok", **{name: parsed[name] for name in _KEPT if name in parsed}
    )
