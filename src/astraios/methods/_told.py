"""What an adapter's folder says of itself, read without torch and peft: names, no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from astraios.errors import MethodError, MissingDataError

__all__ = ["PRESETS", "Told", "adapter_config", "json_object", "told"]

PRESETS = MappingProxyType(
    {"LORA": "lora", "IA3": "ia3", "P_TUNING": "ptuning", "BOTTLENECK": "adapterh"}
)
"""PEFT's type -> the method that loads it, where a folder does not name one."""
_CONFIG = "adapter_config.json"
_RECORD = "astraios.json"


@dataclass(frozen=True)
class Told:
    """What is known of an adapter before its weights are read."""

    method: str
    """That made it; else the one that loads its PEFT type."""
    is_named: bool
    """Whether the folder names the method itself: PEFT's folders tell a type only."""
    base_model: str | None
    """Name of the base, or where it lay when the adapter was made."""
    is_recorded: bool
    """Whether the folder keeps a record of the base's weights, which is compared on loading."""


def told(folder: Path) -> Told:
    """What `folder` says.

    Raises:
        MissingDataError: if it is no adapter's folder.
        MethodError: if a file in it is not what it should be, or names no method.
    """
    if not folder.is_dir():
        raise MissingDataError(f"adapter folder {str(folder)!r} does not exist")
    path = folder / _RECORD
    config, record = adapter_config(folder), json_object(path) if path.is_file() else None
    if config is None and record is None:
        raise MissingDataError(f"{str(folder)!r} is not an adapter's folder: it has no {_CONFIG}")
    config, record = config or {}, record or {}
    method = record.get("method") or _method(config)
    if not isinstance(method, str):
        raise MethodError(f"{folder / _CONFIG}: no peft_type says which method made the adapter")
    base = config.get("base_model_name_or_path")
    return Told(
        method,
        is_named="method" in record,
        base_model=base if isinstance(base, str) and base else None,
        is_recorded=bool(record.get("base")),
    )


def _method(config: Mapping[str, Any]) -> str | None:
    kind = config.get("peft_type")
    if not isinstance(kind, str):
        return None
    if kind == "BOTTLENECK":
        return _layout(config)
    return PRESETS.get(kind, f"peft-{kind.lower()}")


def _layout(config: Mapping[str, Any]) -> str:
    """Of a bottleneck adapter; all three load all of them, so this is for names only."""
    layout = config.get("placement")
    if layout in ("adapterh", "adapterp", "parallel"):
        return str(layout)
    if config.get("use_parallel_adapter"):
        return "parallel"
    return "adapterp" if config.get("use_adapterp") else PRESETS["BOTTLENECK"]


def adapter_config(folder: Path) -> dict[str, Any] | None:
    """What PEFT's `adapter_config.json` in `folder` holds; None if there is none.

    Raises:
        MethodError: if it is no JSON object.
    """
    path = folder / _CONFIG
    return json_object(path) if path.is_file() else None


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of an adapter.

    Raises:
        MethodError: if it is none.
    """
    try:
        values = json.loads(path.read_bytes())
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise MethodError(f"{path}: not a JSON object; restore the file or save the adapter again")
    return values
