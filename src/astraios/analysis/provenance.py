"""The settings of all runs, read out of the manifests.

Settings that all runs of a stage share are told once; those of trainings that differ become a table
of arms, so that a reader sees at a glance whether the comparison is fair. `prose.py` says the same
in sentences.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from astraios.analysis import style
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Table
from astraios.records import RunKind

SWEPT = frozenset({"base_model", "method", "seed", "task", "adapter"})
"""What the cells of a study differ in by design."""


@dataclass(frozen=True)
class Provenance:
    """Settings that all runs of a stage share, and the arms' differences."""

    shared: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """Stage -> (setting, value) pairs."""
    differing: Table | None
    """One row per method, one column per training setting that is not the same for all."""


def provenance(frames: Frames) -> Provenance:
    """The settings of the study in `frames`."""
    stages = [
        ("Base models", RunKind.PRETRAIN),
        ("Tuning", RunKind.TRAIN),
        ("Generation", RunKind.GENERATE),
        ("Grading", RunKind.JUDGE),
    ]
    shared = []
    for title, kind in stages:
        settings = _settings(frames, kind)
        if settings:
            shared.append((title, tuple(_shared(settings))))
    return Provenance(tuple(shared), _differing(frames))


def _settings(frames: Frames, kind: RunKind) -> list[dict[str, str]]:
    runs = (run for run in frames.sealed if run.manifest.kind == kind)
    return [dict(_flat(run.manifest.config)) for run in runs]


def _flat(value: Any, at: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{at}.{key}" if at else str(key))
    elif value is not None and value != {} and value != "":
        yield at, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shared(settings: list[dict[str, str]]) -> Iterable[tuple[str, str]]:
    """Settings that are the same in all; a swept one is left to the paragraphs."""
    for name, value in settings[0].items():
        if name.split(".")[0] not in SWEPT and all(own.get(name) == value for own in settings):
            yield name, value


def _differing(frames: Frames) -> Table | None:
    by_method: dict[str, list[dict[str, str]]] = {}
    for run in frames.sealed:
        if run.manifest.kind == RunKind.TRAIN:
            method = str(run.manifest.config.get("method") or "")
            by_method.setdefault(method, []).append(dict(_flat(run.manifest.config)))
    every = [settings for own in by_method.values() for settings in own]
    names = list(dict.fromkeys(name for settings in every for name in settings))
    names = [
        name
        for name in names
        if name.split(".")[0] not in SWEPT and len({own.get(name) for own in every}) > 1
    ]
    if not names:
        return None
    rows = []
    for method in style.order(by_method):
        row: dict[str, Any] = {"method": method}
        for name in names:
            values = dict.fromkeys(own[name] for own in by_method[method] if name in own)
            row[name] = " / ".join(values) or None
        rows.append(row)
    columns = (Column("method", "Method", Kind.METHOD), *(Column(name, name) for name in names))
    return Table(columns, tuple(rows), "Training settings that are not the same for all methods.")
