"""The command line in this process: fast, and what it loads can be replaced."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from astraios import cli


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


def _run(*arguments: str) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["astraios", *arguments])
        patch.delenv("ASTRAIOS_DATA", raising=False)
        if "torch" in sys.modules:  # other tests want the libraries' words as they are
            patch.setattr("astraios.training.process.settle", lambda n_threads=None: None)
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            cli.main()
    return Said(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture
def astraios() -> Callable[..., Said]:
    """Runs a command."""
    return _run


@pytest.fixture(scope="module")
def astraios_module() -> Callable[..., Said]:
    """The same, for fixtures of a module."""
    return _run
