"""The import graph keeps the rows of docs/architecture.md; the light half works without torch."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import MappingProxyType

import pytest

import astraios

ROOT = Path(astraios.__file__).parent

ROW_0 = frozenset(
    {
        "errors",
        "registry",
        "config",
        "records",
        "runs",
        "files",
        "locks",
        "provenance",
        "templates",
        "published",
        "metrics",
        "progress",
        "measure",
    }
)
LIGHT = ROW_0 | {
    "languages",
    "sandbox",
    "minipack",
    "perturbations",
    "markers",
    "tasks",
    "checkers",
}
"""What works where torch is not installed, along with parts of evaluation, analysis and the CLI."""
MODELS = frozenset({"methods", "data", "generation", "training"})

MAY_IMPORT = MappingProxyType(
    {
        # row 1
        "methods": ROW_0,
        "data": ROW_0 | {"minipack"},
        "minipack": frozenset(),
        "perturbations": ROW_0,
        "sandbox": frozenset({"errors", "records"}),
        "languages": ROW_0 | {"sandbox"},
        "markers": ROW_0 | {"languages", "sandbox"},
        "peft": ROW_0 | {"methods"},
        # row 2
        "tasks": ROW_0 | {"languages", "sandbox", "minipack", "perturbations", "markers"},
        "checkers": ROW_0 | {"languages", "sandbox", "markers"},
        "generation": ROW_0 | {"methods"},
        # row 3
        "evaluation": LIGHT | {"generation", "methods"},
        "training": ROW_0 | {"methods", "data", "minipack"},
        # row 4
        "studies": LIGHT | MODELS | {"evaluation"},
        # beside the rows
        "analysis": ROW_0,
        "testing": LIGHT | {"methods", "generation", "evaluation", "peft"},
        # row 5
        "cli": LIGHT | MODELS | {"evaluation", "studies", "analysis"},
        "__main__": frozenset({"cli"}),
    }
)
"""Unit -> the other units it may import. Units of row 0 import row 0."""

ONLY_IN = MappingProxyType(
    {
        "torch": MODELS | {"studies", "cli", "testing"},
        "transformers": MODELS | {"studies", "testing"},
        "peft": {"methods", "testing"},
        "accelerate": {"training"},
        "bitsandbytes": {"training"},
        "safetensors": {"methods", "training"},
        "tokenizers": MODELS | {"testing"},
        "vllm": {"generation"},
        "httpx2": {"generation"},
        "datasets": {"data"},
        "pyarrow": {"data", "tasks"},
        "rensa": {"data"},
        "libcst": {"perturbations"},
        "tree_sitter": {"markers"},
        "tree_sitter_c": {"markers"},
        "scipy": {"metrics", "analysis"},
        "statsmodels": {"metrics", "analysis"},
        "ray": {"studies"},
        "pandas": {"analysis"},
        "polars": {"analysis"},
        "matplotlib": {"analysis"},
        "jinja2": {"analysis", "data", "generation"},
        "pytest": {"testing"},
        "typer": {"cli"},
        "rich": {"cli"},
    }
)
"""Library -> the units that may import it."""

STANDARD_LIBRARY_ONLY = ("errors", "registry", "sandbox", "languages", "minipack", "checkers")


@cache
def modules() -> MappingProxyType[str, Path]:
    """Dotted name -> file of every module of the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return MappingProxyType(found)


def unit(module: str) -> str:
    """The package or top-level module that `module` belongs to."""
    return module.split(".")[1] if "." in module else module


def imports(module: str) -> Iterator[str]:
    """Full names that `module` imports, inside functions too, for type checkers only left out."""
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in statements(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            up = package.split(".")[: len(package.split(".")) - node.level + 1]
            origin = ".".join([*(up if node.level else ()), *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield inner if inner in modules() else origin


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements at any depth, `if TYPE_CHECKING:` blocks left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from statements(other)
        else:
            yield from statements(child)


@cache
def graph() -> MappingProxyType[str, frozenset[str]]:
    """Module -> what it imports, ours by module and others by full name."""
    return MappingProxyType({module: frozenset(imports(module)) for module in modules()})


def units() -> list[str]:
    return sorted({unit(module) for module in modules()} - {"astraios"})


def ours(of: str) -> dict[str, set[str]]:
    """Other units that unit `of` imports -> the modules that do."""
    found: dict[str, set[str]] = {}
    for module, imported in graph().items():
        if unit(module) == of:
            for name in imported:
                if name.startswith("astraios.") and unit(name) != of:
                    found.setdefault(unit(name), set()).add(module)
    return found


def others(of: str) -> dict[str, set[str]]:
    """Libraries outside the standard one that unit `of` imports -> the modules that do."""
    found: dict[str, set[str]] = {}
    for module, imported in graph().items():
        if unit(module) == of:
            for name in imported:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "astraios":
                    found.setdefault(top, set()).add(module)
    return found


# --- the graph --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", units())
def test_unit_has_a_place_in_the_rows(name):
    assert name in ROW_0 | set(MAY_IMPORT), f"give {name} its row here and in docs/architecture.md"


@pytest.mark.parametrize("name", units())
def test_unit_imports_only_what_its_row_allows(name):
    allowed = MAY_IMPORT.get(name, ROW_0)
    wrong = {other: by for other, by in ours(name).items() if other not in allowed}
    assert not wrong


@pytest.mark.parametrize("name", units())
def test_unit_imports_only_the_libraries_it_may(name):
    wrong = {
        library: by
        for library, by in others(name).items()
        if name not in ONLY_IN.get(library, {name})
    }
    assert not wrong


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_unit_needs_no_library(name):
    assert not others(name)


def test_no_module_imports_itself_through_others():
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_what_runs_inside_the_sandbox_imports_nothing_of_ours_but_itself():
    inside = {module for module in modules() if module.startswith("astraios.sandbox.inside")}
    wrong = {
        module: outside
        for module in inside
        if (outside := {n for n in graph()[module] if n.startswith("astraios")} - inside)
    }
    assert not wrong


def test_environment_is_read_in_config_only():
    def reads(module):
        names = {
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(ast.parse(modules()[module].read_bytes()))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        return names & {"os.environ", "os.getenv"}

    # The sandbox imports nothing of ours: a container's client gets the environment from it.
    # Code inside a sandbox sets the environment of programs; it takes nothing from it.
    allowed = {"astraios.config", "astraios.sandbox.adapters"}
    readers = {m for m in modules() if not m.startswith("astraios.sandbox.inside") and reads(m)}
    assert readers <= allowed


# --- without torch ----------------------------------------------------------------------------

BLOCKED = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers")

WITHOUT = f"""
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(f"{{name}} is not installed", name=name)

sys.meta_path.insert(0, Blocked())
"""

EVALUATION = ("judge", "score", "grade")


def light_modules() -> list[str]:
    """Every module that has to import where torch is not installed."""
    chosen = LIGHT | {"analysis", "cli"}
    return [
        module
        for module in modules()
        if unit(module) in chosen
        or module in {"astraios", *(f"astraios.evaluation.{name}" for name in EVALUATION)}
    ]


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_light_half_imports_where_torch_is_not_installed():
    lines = "\n".join(f"import {module}" for module in light_modules())
    run(WITHOUT + lines)


def test_tasks_and_languages_are_found_where_torch_is_not_installed():
    program = """
from astraios import checkers, languages, registry, tasks
for name in tasks.names():
    tasks.task(name)
for package, kind in ((languages, "language"), (checkers, "checker")):
    for name in registry.names(package):
        registry.load(package, kind, name)
"""
    run(WITHOUT + program)


@pytest.mark.parametrize("module", ["astraios", "astraios.cli"])
def test_import_is_cheap(module):
    heavy = ("torch", "transformers", "peft", "pandas", "matplotlib", "numpy")
    loaded = run(f"import sys, {module}\nprint(*sys.modules)").split()
    assert not set(heavy) & set(loaded)


def test_listing_parts_imports_none_of_them():
    packages = [
        f"astraios.{found.name}"
        for found in pkgutil.iter_modules([str(ROOT)])
        if found.ispkg and found.name in LIGHT
    ]
    program = f"import sys, {', '.join(packages)}\nfrom astraios import registry\n" + "".join(
        f"assert not [n for n in registry.names({package}) if '{package}.' + n in sys.modules]\n"
        for package in (
            "astraios.tasks",
            "astraios.languages",
            "astraios.checkers",
            "astraios.markers",
        )
    )
    run(program)
