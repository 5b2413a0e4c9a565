"""Every module says what it is, and every promised name is there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from functools import cache
from pathlib import Path

import pytest

import astraios

ROOT = Path(astraios.__file__).parent
NEEDS = {"methods": "peft", "peft": "peft", "generation": "torch", "training": "transformers"}
"""Packages whose modules cannot be imported without a library."""


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def promises() -> list[str]:
    """Modules that define `__all__`."""
    return [name for name, path in modules().items() if "\n__all__" in path.read_text("utf-8")]


@pytest.mark.parametrize("name", modules())
def test_module_says_what_it_is(name):
    first = (ast.get_docstring(ast.parse(modules()[name].read_bytes())) or "").partition("\n")[0]
    assert len(first) > 10


@pytest.mark.parametrize("name", promises())
def test_names_in_all_exist_and_once(name):
    needed = NEEDS.get(name.split(".")[1]) if "." in name else None
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{name} needs {needed}")
    module = importlib.import_module(name)
    assert [wanted for wanted in module.__all__ if not hasattr(module, wanted)] == []
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("name", [name for name in modules() if "._" not in name])
def test_public_classes_and_functions_are_documented(name):
    undocumented = [
        node.name
        for node in ast.parse(modules()[name].read_bytes()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert undocumented == []


def test_version_is_a_version():
    assert [part.isdigit() for part in astraios.__version__.split(".")[:2]] == [True, True]
