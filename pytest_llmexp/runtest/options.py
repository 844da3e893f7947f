"""Options of the command line, the environment and the ini file, read once into `Settings`. Light to import."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pytest

from pytest_llmexp.runtest.amounts import parse_amount, parse_prices, parse_requests, parse_runs_in_a_row, parse_tokens
from pytest_llmexp.runtest.option_table import GIVE_UP_AFTER

if TYPE_CHECKING:
    from pytest_llmexp.core.models import Synchronous

T = TypeVar("T")
SYNCHRONOUS = ("normal", "full")
REPLAY = ("off", "auto", "only")
CAPTURE = ("http", "off")
REPLAY_FILE = ".jsonl.gz"
DEFAULT_CONCURRENCY = 8


class Settings(NamedTuple):  # making a dataclass would be a fifth of what loading the plugin costs
    """What the user asked for. Paths are absolute; `name` None means the git branch.

    `concurrency` is the number of test bodies in flight, over all processes; `timeout` is in seconds, `max_cost`
    in USD, `prices` in USD for a million input and a million output tokens of a model, `rpm` requests and `tpm`
    tokens per minute; after `give_up_after` runs in a row that a provider failed, no call starts, 0 is never.
    """

    name: str | None = None
    runs: int | None = None
    db: str = "message_log.db"
    tags: Mapping[str, str] = MappingProxyType({})
    model: str | None = None
    base_url: str | None = None
    gates: tuple[str, ...] = ()
    synchronous: Synchronous = "normal"
    concurrency: int = DEFAULT_CONCURRENCY
    timeout: float | None = None
    exclusive_fixtures: tuple[str, ...] = ()
    capture: str = "http"
    replay: str = "off"
    replay_from: str | None = None
    resume: str | None = None  # empty: the latest experiment
    resume_anyway: bool = False
    log_content: bool = True
    max_cost: float | None = None
    max_tokens: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    give_up_after: int = int(GIVE_UP_AFTER)
    prices: Mapping[str, tuple[float, float]] = MappingProxyType({})

    def to_plain(self) -> dict[str, Any]:
        """Return plain data that can be sent to a worker."""
        lists = {"gates": list(self.gates), "exclusive_fixtures": list(self.exclusive_fixtures)}
        return {**self._asdict(), **lists, "tags": dict(self.tags), "prices": dict(self.prices)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Settings:
        """Make settings from what `to_plain` returned."""
        tuples = {name: tuple(plain[name]) for name in ("gates", "exclusive_fixtures")}
        return cls(**{**plain, **tuples})


def read_settings(config: pytest.Config, environ: Mapping[str, str] | None = None) -> Settings:
    """Read every option: command line before environment before ini; tags and gates of all three add up.

    Raises pytest.UsageError for values that cannot work.
    """
    reader = _Reader(config, os.environ if environ is None else environ)
    concurrency = reader.one("concurrency")
    synchronous = str(config.getini("experiment_db_synchronous"))
    if synchronous not in SYNCHRONOUS:
        raise pytest.UsageError(f"ini experiment_db_synchronous is {synchronous!r}; allowed: {', '.join(SYNCHRONOUS)}")
    replay, replay_from = reader.one("replay"), reader.one("replay_from")
    mode = _one_of(replay, REPLAY)
    capture = _one_of(reader.one("capture"), CAPTURE)
    _check_replay(mode, replay, replay_from, capture)
    _check_capture(reader, config, capture)
    return Settings(
        name=_name(reader.one("name")),
        runs=_optional(_count, reader.one("runs")),
        db=_database(reader.one("db"), config),
        tags=_tags(reader.many("tag")),
        model=_text(reader.one("model")),
        base_url=_url(reader.one("base_url")),
        gates=tuple(given.text for given in reader.many("gate")),
        synchronous="full" if synchronous == "full" else "normal",
        concurrency=DEFAULT_CONCURRENCY if concurrency is None else _count(concurrency.text, concurrency.where),
        timeout=_seconds(config.getini("experiment_timeout")),
        exclusive_fixtures=tuple(config.getini("experiment_exclusive_fixtures")),
        capture=capture,
        replay=mode,
        replay_from=_replay_from(replay_from),
        resume=config.getoption("--experiment-resume"),
        resume_anyway=config.getoption("--experiment-resume-anyway"),
        log_content=_on_or_off(config, "experiment_log_content"),
        max_cost=_optional(parse_amount, reader.one("max_cost")),
        max_tokens=_optional(parse_tokens, reader.one("max_tokens")),
        rpm=_optional(parse_requests, reader.one("rpm")),
        tpm=_optional(parse_tokens, reader.one("tpm")),
        give_up_after=parse_runs_in_a_row(
            str(config.getini("experiment_give_up_after")).strip() or GIVE_UP_AFTER, "ini experiment_give_up_after"
        ),
        prices=parse_prices(config.getini("experiment_prices")),
    )


class _Given(NamedTuple):
    """A value and where it was given, for error messages."""

    text: str
    where: str
    folder: Path


class _Reader:
    def __init__(self, config: pytest.Config, environ: Mapping[str, str]) -> None:
        self._config = config
        self._environ = environ

    def one(self, name: str) -> _Given | None:
        """The value of an option that is given once; empty text counts as not given."""
        option, variable, ini = f"--experiment-{name.replace('_', '-')}", f"LLMEXP_{name.upper()}", f"experiment_{name}"
        here = self._config.invocation_params.dir
        for value, where, folder in (
            (self._config.getoption(option), option, here),
            (self._environ.get(variable), f"environment variable {variable}", here),
            (self._config.getini(ini), f"ini {ini}", self._ini_folder()),
        ):
            if value is not None and (str(value).strip() or where == option):
                return _Given(str(value).strip(), where, folder)
        return None

    def many(self, name: str) -> list[_Given]:
        """All values of an option that adds up: ini first, so that later ones win where that matters."""
        option, variable, ini = f"--experiment-{name}", f"LLMEXP_{name.upper()}S", f"experiment_{name}s"
        here = self._config.invocation_params.dir
        from_environment = [part for part in self._environ.get(variable, "").split(";") if part.strip()]
        return [
            _Given(str(value).strip(), where, here)
            for values, where in (
                (self._config.getini(ini), f"ini {ini}"),
                (from_environment, f"environment variable {variable}"),
                (self._config.getoption(option), option),
            )
            for value in values
        ]

    def _ini_folder(self) -> Path:
        inipath = self._config.inipath
        return inipath.parent if inipath else self._config.rootpath


def _optional(parse: Callable[[str, str], T], given: _Given | None) -> T | None:
    return None if given is None else parse(given.text, given.where)


def _name(given: _Given | None) -> str | None:
    if given is None:
        return None
    if not given.text or "~" in given.text or given.text.startswith("exp_"):
        raise pytest.UsageError(
            f"{given.where} is {given.text!r}; a name is not empty, has no '~' (x~1 is the x before the latest) "
            "and does not begin with 'exp_' (as ids do)"
        )
    return given.text


def _count(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise pytest.UsageError(f"{where} is {text!r}; it is a number of runs from 1")
    return int(text)


def _on_or_off(config: pytest.Config, ini: str) -> bool:
    text = str(config.getini(ini)).strip().lower()
    if text not in ("on", "off"):
        raise pytest.UsageError(f"ini {ini} is {text!r}; allowed: on, off")
    return text == "on"


def _seconds(text: object) -> float | None:
    if text is None or not str(text).strip():
        return None
    try:
        seconds = float(str(text))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise pytest.UsageError(f"ini experiment_timeout is {text!r}; it is a number of seconds above 0")
    return seconds


def _database(given: _Given | None, config: pytest.Config) -> str:
    if given is None:
        return str(config.rootpath / "message_log.db")
    if not given.text:
        raise pytest.UsageError(f"{given.where} is empty; it is the path of an SQLite file or a database URL")
    if given.text == ":memory:" or given.text.startswith("file:") or given.text.endswith("/"):
        raise pytest.UsageError(f"{given.where} is {given.text!r}; it is the path of a file, or sqlite:///path")
    return given.text if "://" in given.text else str(given.folder / Path(given.text).expanduser())


def _one_of(given: _Given | None, allowed: tuple[str, ...]) -> str:
    """The first word allowed is the default."""
    if given is not None and given.text not in allowed:
        raise pytest.UsageError(f"{given.where} is {given.text!r}; allowed: {', '.join(allowed)}")
    return allowed[0] if given is None else given.text


def _check_replay(mode: str, replay: _Given | None, replay_from: _Given | None, capture: str) -> None:
    if mode != "off" and capture == "off":
        where = replay.where if replay else ""
        raise pytest.UsageError(f"{where} is {mode!r}, which needs the calls to be seen: not with capture off")
    if mode == "off" and replay_from is not None and replay_from.where.startswith("--"):
        raise pytest.UsageError(f"{replay_from.where} serves nothing without --experiment-replay=auto or only")


def _check_capture(reader: _Reader, config: pytest.Config, capture: str) -> None:
    """Refuse what sees to calls where none is seen, and a word of consent where nothing is asked."""
    resumes = config.getoption("--experiment-resume") is not None
    if config.getoption("--experiment-resume-anyway") and not resumes:
        raise pytest.UsageError("--experiment-resume-anyway does nothing without --experiment-resume[=REF]")
    if capture != "off":
        return
    given = [reader.one(name) for name in ("max_cost", "max_tokens", "rpm", "tpm")]
    needs = [each.where for each in given if each is not None] + (["--experiment-resume"] if resumes else [])
    if needs:
        raise pytest.UsageError(f"{', '.join(needs)}: this needs the calls to be seen, not --experiment-capture=off")


def _replay_from(given: _Given | None) -> str | None:
    """A file or folder becomes an absolute path; anything else is an experiment."""
    if given is None:
        return None
    path = given.folder / Path(given.text).expanduser()
    return str(path) if given.text.endswith(REPLAY_FILE) or path.is_dir() else given.text


def _tags(given: list[_Given]) -> dict[str, str]:
    tags = {}
    for tag in given:
        key, sign, value = tag.text.partition("=")
        if not sign or not key.strip():
            raise pytest.UsageError(f"{tag.where} is {tag.text!r}; a tag is KEY=VALUE, such as team=search")
        tags[key.strip()] = value.strip()
    return tags


def _text(given: _Given | None) -> str | None:
    return _not_empty(given, lambda text: bool(text), "the name of a model")


def _url(given: _Given | None) -> str | None:
    if given is None:
        return None
    from pytest_llmexp.tracking.sources import ADDRESS, is_address  # what loading the plugin need not pay

    return _not_empty(given, is_address, ADDRESS)


def _not_empty(given: _Given | None, fits: Callable[[str], bool], meaning: str) -> str | None:
    if given is not None and not fits(given.text):
        raise pytest.UsageError(f"{given.where} is {given.text!r}; it is {meaning}")
    return None if given is None else given.text
