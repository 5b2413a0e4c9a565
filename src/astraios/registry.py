"""The folder listing is the registry: `methods/lora.py` *is* the method `lora`.

A plain module name is a part, a leading underscore means "shared by siblings". Parts of other
projects are found through entry points in the group named like the package
(`astraios.methods`, `astraios.tasks`, ...); each must load to the same object that a module of
ours exports. Listing imports nothing, so it is fast and works without torch. What is installed is
read once a process, and again when a folder of the import path has changed.
"""

from __future__ import annotations

import ast
import pkgutil
import sys
import tokenize
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

from astraios.errors import ConfigError, UnknownNameError


def builtin_names(package: ModuleType) -> tuple[str, ...]:
    """Public module names of `package`, sorted; nothing is imported."""
    return _modules(_as_of(package.__path__))


State = tuple[tuple[str, int], ...]
"""Folders, and when each was last changed."""


def _as_of(folders: Iterable[str]) -> State:
    return tuple((folder, _changed_ns(folder)) for folder in folders)


def _changed_ns(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=64)
def _modules(state: State) -> tuple[str, ...]:
    found = (module.name for module in pkgutil.iter_modules([folder for folder, _ in state]))
    return tuple(sorted(name for name in found if not name.startswith("_")))


@lru_cache(maxsize=4)
def _installed(state: State) -> Mapping[str, tuple[EntryPoint, ...]]:
    """Entry points by their group."""
    found = entry_points()
    return {group: tuple(found.select(group=group)) for group in found.groups}


def _outside(package: ModuleType) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in _installed(_as_of(sys.path)).get(package.__name__, ()):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise ConfigError(
                f"{package.__name__}: {point.name!r} is the entry point of two installed projects, "
                f"{other.value!r} and {point.value!r}; uninstall one"
            )
    return found


def names(package: ModuleType) -> tuple[str, ...]:
    """Names of all parts: the package's own modules and the entry points of its group.

    Raises:
        ConfigError: if an installed project claims a name that is already taken.
    """
    ours = builtin_names(package)
    outside = _outside(package)
    clash = sorted(set(ours) & set(outside))
    if clash:
        raise ConfigError(
            f"{package.__name__}: {clash[0]!r} is both built in and the entry point "
            f"{outside[clash[0]].value!r}; rename the entry point or uninstall its project"
        )
    return tuple(sorted({*ours, *outside}))


def summary(package: ModuleType, name: str) -> str:
    """First line of the docstring of a built-in part, read without importing or parsing it."""
    for place in package.__path__:
        path = Path(place) / f"{name}.py"
        if path.exists():
            with tokenize.open(path) as file:
                return _first_text(file.readline).strip().partition("\n")[0]
    return "from another project"


def _first_text(readline: Callable[[], str]) -> str:
    """What a module begins with, if that is text."""
    for token in tokenize.generate_tokens(readline):
        if token.type == tokenize.STRING:
            return str(ast.literal_eval(token.string))
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE):
            break
    return ""


def load(package: ModuleType, kind: str, name: str, expected: Any = object) -> Any:
    """Return the object called `kind` in `package/<name>.py`, or what the entry point names.

    An entry point may name the object itself, or a module that exports it as ours do.

    Args:
        package: whose modules are the parts.
        kind: what its modules call the object.
        name: of the part.
        expected: type of the object; `type[X]` where it is a class.

    Raises:
        UnknownNameError: if there is no such part; names the nearest one.
        ConfigError: if another project's part cannot be loaded, or is of another type.
        ModuleNotFoundError: if it needs a library that is not installed.
    """
    if name in builtin_names(package):
        return getattr(import_module(f"{package.__name__}.{name}"), kind)
    outside = _outside(package)
    if name in outside:
        return _loaded(outside[name], kind, expected)
    raise UnknownNameError(kind, name, names(package))


def _loaded(point: EntryPoint, kind: str, expected: Any) -> Any:
    project = point.dist.name if point.dist else "a project"
    who = f"{kind} {point.name!r} is the entry point {point.value!r} of {project}, which"
    remedy = f"mend it or uninstall {project}"
    try:
        loaded = point.load()
        part = getattr(loaded, kind) if isinstance(loaded, ModuleType) else loaded
    except Exception as error:  # whatever the code of another project raises
        own = point.module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and (error.name or own).partition(".")[0] != own:
            raise
        raise ConfigError(
            f"{who} could not be loaded: {type(error).__name__}: {error}; {remedy}"
        ) from error
    if get_origin(expected) is type:
        (of,) = get_args(expected)
        fits, what = isinstance(part, type) and issubclass(part, of), "a class derived from "
    else:
        of, fits, what = expected, isinstance(part, expected), "a "
    if not fits:
        shown = f"{part!r:.80}, and {what}{of.__name__} is expected"
        raise ConfigError(f"{who} is {shown}; {remedy}")
    return part
