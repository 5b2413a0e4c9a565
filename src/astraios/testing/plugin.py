"""`pytest --pyargs astraios.testing --method NAME`: options for the tests in this package.

pytest loads it at its start, by entry point: a `conftest.py` here would be found by `--pyargs` only
after the command line was read, too late for options. Unless these tests are asked for by name it
adds nothing, so that other projects may have options called `--task` or `--engine` too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from astraios.errors import AstraiosError

PACKAGE = "astraios.testing"
KINDS = ("method", "task", "language", "engine")


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    parts: tuple[tuple[str, str], ...]
    """Kind and name of everything to hold to its contract."""
    settings: Mapping[str, Any]
    data_dir: Path | None
    programs: Path | None
    base_model: str | None


KEY = pytest.StashKey[Asked]()


def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Add the options if the tests of this package are asked for."""
    if not _are_asked_for(args):
        return
    group = parser.getgroup("astraios", "parts that have to keep the contract of their kind")
    for kind in KINDS:
        a = "an" if kind == "engine" else "a"
        told = f"{a} {kind} by its registered name; may be repeated"
        group.addoption(f"--{kind}", action="append", default=[], metavar="NAME", help=told)
    group.addoption(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the method or engine, the value in YAML; may be repeated",
    )
    group.addoption("--data-dir", type=Path, help="where the task's data lies")
    group.addoption(
        "--programs",
        type=Path,
        help="YAML file with the texts right, wrong, endless, broken and tests, for the language",
    )
    group.addoption("--base-model", help="folder or hub id that the engine speaks for")


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, if there are any.

    Raises:
        pytest.UsageError: if no part is named, there is none of that name, or it cannot be tried.
    """
    if not hasattr(config.option, "base_model") or not hasattr(config.option, "programs"):
        return
    if config.option.help:
        return
    parts = tuple((kind, name) for kind in KINDS for name in config.getoption(kind))
    if not parts:
        raise pytest.UsageError(
            "name what to hold to its contract: --method NAME, --task NAME, --language NAME or "
            "--engine NAME; `astraios list` shows them"
        )
    try:
        for kind, name in parts:
            _is_there(kind, name)
        settings = _settings(config.getoption("set"))
    except AstraiosError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[KEY] = Asked(
        parts,
        settings,
        config.getoption("data_dir"),
        config.getoption("programs"),
        config.getoption("base_model"),
    )


def _are_asked_for(args: Iterable[str]) -> bool:
    return any(word == PACKAGE or word.startswith((f"{PACKAGE}.", f"{PACKAGE}:")) for word in args)


def _is_there(kind: str, name: str) -> None:
    """Refuse a name that nobody has, once and not for every property."""
    from astraios import languages, methods, registry, tasks
    from astraios.generation import engines
    from astraios.testing._tiny import needs_torch

    if kind == "method":
        methods.method(name)
        needs_torch("methods are")
    elif kind == "task":
        tasks.task(name)
    elif kind == "language":
        registry.load(languages, "language", name)
    elif registry.load(engines, "engine", name).runs_model:
        needs_torch("engines that run a model are")


def _settings(overrides: Iterable[str]) -> dict[str, Any]:
    from astraios.config import apply_override

    found: dict[str, Any] = {}
    for override in overrides:
        apply_override(found, override)
    return found
