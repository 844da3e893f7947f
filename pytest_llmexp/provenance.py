"""Where an experiment ran: code version, Python, packages, user, command. Floor 2, no pytest."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("pytest-llmexp", "pytest", "pytest-xdist", "openai", "pydantic", "anthropic", "litellm", "pydantic-ai")

_INSTALLED = {"site-packages", "dist-packages"}  # folders of packages
_STDLIB = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}


class GitState(NamedTuple):
    """The checkout an experiment ran in; all None outside of git."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None


class Provenance(NamedTuple):
    """What is known of the process that began an experiment."""

    git: GitState
    command: str
    python_version: str
    platform: str
    packages: dict[str, str]
    user: str | None


def read_provenance(folder: Path, command: Sequence[str] | None = None) -> Provenance:
    """Describe this process and the checkout that `folder` lies in."""
    return Provenance(
        git=read_git(folder),
        command=shlex.join(sys.argv if command is None else command),
        python_version=platform.python_version(),
        platform=platform.platform(),
        packages=_packages(),
        user=_user(),
    )


def read_git(folder: Path) -> GitState:
    """Return commit, branch (None when detached) and whether tracked files are changed."""
    commit = _git(folder, "rev-parse", "HEAD")
    branch = read_branch(folder)
    if commit is None:
        return GitState(None, branch, None)
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return GitState(commit, branch, None if changed is None else bool(changed))


def read_branch(folder: Path) -> str | None:
    """Return the branch that is checked out, None when detached or outside of git."""
    return _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")


def file_hash(path: Path) -> str:
    """Return what a file of code is told apart by, empty if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def imported_files(folder: Path) -> dict[str, Path]:
    """Return the Python files under a folder that are imported by now, by their paths in it, with slashes.

    What is installed in an environment or belongs to Python is left out, also where that lies in the folder.
    """
    start = f"{folder}{os.sep}"
    elsewhere = tuple(f"{place}{os.sep}" for place in (sys.prefix, *_STDLIB) if place.startswith(start))
    found = {}
    for module in [*sys.modules.values()]:
        file = getattr(module, "__dict__", {}).get("__file__")  # asked for by name, a lazy module would import itself
        if isinstance(file, str) and file.startswith(start) and file.endswith(".py"):
            path = Path(file)
            within = path.relative_to(folder)
            if _INSTALLED.isdisjoint(within.parts) and not file.startswith(elsewhere):
                found[within.as_posix()] = path
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no password entry, as in some containers
        return None
