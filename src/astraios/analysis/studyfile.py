"""What the study file promises, read loosely: the report needs four lists of it and no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from astraios.analysis import style
from astraios.errors import DataError


@dataclass(frozen=True)
class StudyFile:
    """What the study file promises; empty where there is none."""

    name: str = ""
    models: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


def read_study_file(root: Path) -> StudyFile:
    """The lists of `root/study.yaml`; empty ones where there is no such file.

    Raises:
        DataError: if it is not YAML.
    """
    path = root / "study.yaml"
    if not path.is_file():
        return StudyFile()
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise DataError(f"{path}: malformed YAML; restore it, or run the study again") from None
    if not isinstance(values, dict):
        return StudyFile()
    return StudyFile(
        name=str(values.get("name") or ""),
        models=tuple(short_name(name) for name in _names(values.get("base_models"))),
        methods=_method_names(values.get("methods")),
        tasks=_names(values.get("tasks")),
    )


def _names(values: Any) -> tuple[str, ...]:
    if isinstance(values, Mapping):
        return tuple(str(name) for name in values)
    if not isinstance(values, list):
        return ()
    named = (value.get("name") if isinstance(value, Mapping) else value for value in values)
    return tuple(str(name) for name in named if name)


def _method_names(values: Any) -> tuple[str, ...]:
    """What the entries are called in run folders: `lora`, `peft-loha`, `lora~wide`."""
    if not isinstance(values, list):
        return _names(values)
    found = []
    for value in values:
        if isinstance(value, Mapping):
            kind, name = value.get("peft"), value.get("name")
            plain = f"peft-{str(kind).lower()}" if kind else str(value.get("method") or "")
            value = f"{plain}~{name}" if name else plain
        found.append(str(value))
    return tuple(name for name in found if name)


def short_name(name: str) -> str:
    """The last part of a model's name: `bigcode/starcoderbase-1b` -> `starcoderbase-1b`."""
    return PurePosixPath(name.rstrip("/")).name or name


def holes(study: StudyFile, judged: Iterable[tuple[str, str, str]]) -> list[str]:
    """A sentence that names the cells that `study` promises and nothing was judged of.

    Args:
        study: what is promised.
        judged: model, method and task of what there is; a task of which there is one edition goes
            by its plain name.
    """
    known = set(judged)
    cells = list(product(study.models, study.methods, study.tasks))
    missing = [
        f"{style.title(method)} on {task} ({model})"
        for model, method, task in cells
        if not known & {(model, method, task), (model, method, task.partition("@")[0])}
    ]
    if not missing:
        return []
    named = clip(", ".join(missing))
    return [f"{len(missing)} of {len(cells)} cells have no result yet: {named}."]


def clip(text: str, limit: int = 300) -> str:
    """A list with commas, ended by dots where it is longer than `limit`."""
    return text if len(text) <= limit else text[: limit - 4].rsplit(",", 1)[0] + ", ..."
