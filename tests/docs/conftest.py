"""The reference pages, as a machine without torch writes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import REPOSITORY

WITHOUT_TORCH = """
import runpy, sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
heavy = {"torch", "peft", "transformers", "accelerate"}
PathFinder.find_spec = staticmethod(
    lambda name, *more: None if name.partition(".")[0] in heavy else find(name, *more)
)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the pages."""
    folder = tmp_path_factory.mktemp("reference")
    code = f"import sys; sys.argv = ['tools/reference.py', {str(folder)!r}]\n{WITHOUT_TORCH}"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
    return folder
