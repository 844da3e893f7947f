"""The rules of docs/architecture.md that a machine can check: who imports what, and what loading the plugin costs.

`tox -e lint` checks the direction of the imports with import-linter too; this file needs the standard library only.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import pytest_llmexp

PACKAGE = Path(pytest_llmexp.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = (
    {"core"},
    {"tracking", "store", "localmodel"},  # from here on: independent of each other within a floor ...
    {"lifecycle", "recording", "replaying", "ratelimits", "provenance", "estimate", "compare"},  # ... except here
    {"report"},
    {"standalone", "export", "viewer"},
    {"runtest", "cli", "hookspecs"},
    {"plugin"},
)
TALKING_FLOOR = FLOORS[2]
ONLY_HERE = {
    "pytest": ("plugin", "hookspecs", "runtest."),
    "_pytest": ("runtest.",),
    "sqlalchemy": ("store.",),
    "alembic": ("store.",),
    "openai": ("tracking.bots", "tracking.clients", "runtest.fixtures"),
    "click": ("cli.",),
    "xdist": (),
    "opentelemetry": (),
}
HEAVY = {
    "openai",
    "sqlalchemy",
    "alembic",
    "pydantic",
    "jinja2",
    "httpx",
    "httpx2",
    "numpy",
    "scipy",
    "wrapt",
    "click",
    "genai_prices",
    "xdist",
    "opentelemetry",
}


class Import(NamedTuple):
    """One import statement: `module` is dotted from the top; `at_run_time` is False under TYPE_CHECKING."""

    module: str
    names: tuple[str, ...]
    line: int
    at_load: bool
    at_run_time: bool


def dotted(path: Path) -> str:
    """Return a module's name inside the package; a package's own `__init__` ends in a dot."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__")


def imports_below(node: ast.AST, at_load: bool, at_run_time: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        loads, runs = at_load, at_run_time
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            loads = False
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            loads = runs = False
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, (), child.lineno, loads, runs) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports are absolute"
            yield Import(child.module or "", tuple(alias.name for alias in child.names), child.lineno, loads, runs)
        else:
            yield from imports_below(child, loads, runs)


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    return tuple(imports_below(ast.parse(path.read_text(encoding="utf-8")), True, True))


def floor_of(part: str) -> int:
    return next(number for number, parts in enumerate(FLOORS) if part in parts)


def part_of(module: str) -> str:
    return module.removeprefix("pytest_llmexp").lstrip(".").partition(".")[0]


def own_imports(path: Path) -> Iterator[tuple[Import, str]]:
    """Yield the imports of other modules of the package, with the part (folder or module) of each."""
    for found in imports_of(path):
        if found.module == "pytest_llmexp":
            yield from ((found, name) for name in found.names)
        elif found.module.startswith("pytest_llmexp."):
            yield found, part_of(found.module)


@pytest.mark.parametrize("path", [file for file in FILES if part_of(dotted(file))], ids=dotted)
def test_a_module_imports_from_the_floors_below_only(path: Path) -> None:
    part = part_of(dotted(path))
    floor = floor_of(part)
    for found, other in own_imports(path):
        neighbours = other == part or (part in TALKING_FLOOR and other in TALKING_FLOOR)
        assert neighbours or floor_of(other) < floor, f"{path}:{found.line}: {part} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_a_library_is_imported_where_it_belongs_only(path: Path) -> None:
    module = dotted(path)
    for found in imports_of(path):
        allowed = ONLY_HERE.get(found.module.partition(".")[0])
        assert allowed is None or module.startswith(allowed), f"{path}:{found.line}: imports {found.module}"


def targets(found: Import, modules: Mapping[str, object]) -> Iterator[str]:
    """Yield the modules that an import needs: `from package import module` needs that module, not the package."""
    inside = {name: f"{found.module}.{name}" for name in found.names}
    yield from (module for module in inside.values() if module in modules)
    if found.module in modules and not (inside and set(inside.values()) <= set(modules)):
        yield found.module


def test_no_module_imports_itself_in_a_circle() -> None:
    modules = {"pytest_llmexp." + dotted(file).rstrip("."): file for file in FILES}
    graph = {
        name: {target for found in imports_of(file) if found.at_load for target in targets(found, modules)}
        for name, file in modules.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_a_module_is_short_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, "no docstring"
    assert len(docstring.splitlines()) <= 8 or dotted(path) == "core.errors"  # which draws the tree of errors
    assert len(text.splitlines()) <= 350
    assert path.stem not in {"utils", "helpers", "common"}


def modules_loaded_by(code: str, folder: Path, **environment: str) -> set[str]:
    """Return the top-level names that a new Python has imported after `code`."""
    report = "\nimport json, sys\nprint('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    process = subprocess.run(
        [sys.executable, "-c", code + report],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(json.loads(process.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import pytest_llmexp",
        "import pytest_llmexp.plugin",
        "import pytest; code = pytest.main(['-p', 'llmexp', '--collect-only']); assert code == 0, code",
        "import pytest; code = pytest.main(['-p', 'llmexp']); assert code == 0, code",
    ],
    ids=["package", "plugin", "collection", "session"],
)
def test_the_unused_plugin_imports_nothing_heavy(code: str, tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text("def test_plain():\n    pass\n", encoding="utf-8")
    loaded = modules_loaded_by(code, tmp_path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "pytest_llmexp" in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded & HEAVY)


def test_an_experiment_imports_only_what_it_needs(tmp_path: Path) -> None:
    """A metric that is no boolean, so that there is a t interval; a stand-in for a model, so that nothing costs."""
    suite = """
        import pytest

        @pytest.mark.experiment(n=4)
        def test_it(bot, record_metric):
            record_metric("words", len(bot()("Hello").split()))
    """
    (tmp_path / "test_suite.py").write_text(textwrap.dedent(suite), encoding="utf-8")
    code = "import pytest; code = pytest.main(['-p', 'llmexp']); assert code == 0, code"
    loaded = modules_loaded_by(code, tmp_path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert {"openai", "sqlalchemy"} <= loaded
    assert loaded.isdisjoint({"alembic", "numpy", "scipy", "genai_prices"})


def test_the_package_itself_loads_no_module_of_its_own(tmp_path: Path) -> None:
    code = "import sys, pytest_llmexp\nassert not [name for name in sys.modules if name.startswith('pytest_llmexp.')]"
    assert "pytest" not in modules_loaded_by(code, tmp_path)
