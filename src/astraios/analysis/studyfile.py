"""What the study file promises, read loosely: the report needs four lists of it and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from astraios.analysis import style
from astraios.errors import DataError

MOST_NAMED = 6
"""Cells without a result that are named; more are counted by task."""


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
    """A sentence about the cells that `study` promises and nothing was judged of.

    Few are named; of more it is told how many there are on each task.

    Args:
        study: what is promised.
        judged: model, method and task of what there is; a task of which there is one edition goes
            by its plain name.
    """
    known = set(judged)
    cells = list(product(study.models, study.methods, study.tasks))
    missing = [
        (model, method, task)
        for model, method, task in cells
        if not known & {(model, method, task), (model, method, task.partition("@")[0])}
    ]
    if not missing:
        return []
    said = f"{len(missing)} of {len(cells)} cells have no result yet"
    if len(missing) <= MOST_NAMED:
        named = [f"{style.title(method)} on {task} ({model})" for model, method, task in missing]
        return [f"{said}: {', '.join(named)}."]
    each = len(study.models) * len(study.methods)
    lacking = Counter(task for _, _, task in missing)
    counts = [f"{lacking[task]} of {each} on {task}" for task in study.tasks if lacking[task]]
    return [f"{said}: {clip(counts, limit=2000)}."]


def clip(names: Sequence[str], limit: int = 300) -> str:
    """A list with commas; what would make it longer than `limit` is counted."""
    ends = accumulate(len(name) + len(", ") for name in names)
    n = max(1, sum(end <= limit for end in ends))
    more = f" and {len(names) - n:,} more" if n < len(names) else ""
    return ", ".join(names[:n]) + more
