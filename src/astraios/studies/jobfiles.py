"""Jobs as JSON, for tasks of a cluster that are begun later and elsewhere.

A file holds what a study's jobs are told: configs with the fields that no manifest holds, such as
the address of a server. It belongs in a hidden folder, which is not published.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from astraios.errors import DataError
from astraios.files import readable, write_text
from astraios.studies.plan import Job

__all__ = ["read_tasks", "read_value", "write_tasks", "write_value"]


def write_tasks(path: Path, tasks: Iterable[Sequence[Job]]) -> None:
    """One task a line: the jobs that it does, one after the other."""
    write_text(path, "".join(json.dumps([_plain(job) for job in jobs]) + "\n" for jobs in tasks))


def read_tasks(path: Path) -> list[list[Job]]:
    """The tasks of a file, in order.

    Raises:
        MissingDataError: if there is no such file.
        DataError: if it holds anything else.
    """
    with readable(path) as lines:
        return [_made_of(line, path, list) for line in lines]


def write_value(path: Path, value: Any) -> None:
    """One dataclass or config."""
    write_text(path, json.dumps(_plain(value)) + "\n")


def read_value(path: Path, kind: type[Any]) -> Any:
    """What `write_value` wrote, which is a `kind`.

    Raises:
        MissingDataError: if there is no such file.
        DataError: if it holds anything else.
    """
    with readable(path) as file:
        return _made_of(file.read(), path, kind)


def _made_of(text: bytes, path: Path, kind: type[Any]) -> Any:
    try:
        made = _made(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise DataError(
            f"{path}: not what this version writes ({error}); run the study again"
        ) from None
    if not isinstance(made, kind):
        raise DataError(f"{path}: holds no {kind.__name__}; run the study again")
    return made


def _plain(value: Any) -> Any:
    """Values with their types, where JSON has none."""
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in value.model_fields_set}
        return _tagged(value, fields)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return _tagged(value, {name: getattr(value, name) for name in names})
    if isinstance(value, Enum):
        kind = type(value)
        return {"~enum": f"{kind.__module__}:{kind.__qualname__}", "value": value.value}
    if isinstance(value, Path):
        return {"~path": str(value)}
    if isinstance(value, tuple):
        return {"~tuple": [_plain(item) for item in value]}
    if isinstance(value, Mapping):
        return {"~map": [[key, _plain(item)] for key, item in value.items()]}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if callable(value):
        return {"~name": f"{value.__module__}:{value.__qualname__}"}
    return value


def _tagged(value: Any, fields: dict[str, Any]) -> dict[str, Any]:
    kind = f"{type(value).__module__}:{type(value).__qualname__}"
    return {"~type": kind, "fields": {name: _plain(item) for name, item in fields.items()}}


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return [_made(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "~type" in value:
        fields = {name: _made(item) for name, item in value["fields"].items()}
        kind = _named(value["~type"])
        if not issubclass(kind, BaseModel) and not dataclasses.is_dataclass(kind):
            raise TypeError(f"{value['~type']} is no record")
        return kind(**fields)
    if "~enum" in value:
        return _named(value["~enum"])(value["value"])
    if "~path" in value:
        return Path(value["~path"])
    if "~tuple" in value:
        return tuple(_made(item) for item in value["~tuple"])
    if "~map" in value:
        return {key: _made(item) for key, item in value["~map"]}
    return _named(value["~name"])


def _named(text: str) -> Any:
    module, _, name = text.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
