"""How the numbers were made, read out of the manifests: the methods section of the report.

Settings that all trainings share are told once; those that differ become a table of arms, so that a
reader sees at a glance whether the comparison is fair.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from astraios.analysis import style
from astraios.analysis.arms import IMPORTED
from astraios.analysis.captions import sandbox
from astraios.analysis.frames import Frames
from astraios.analysis.tables import Column, Kind, Table
from astraios.records import RunKind
from astraios.runs import Run

SWEPT = frozenset({"base_model", "method", "seed", "task", "adapter"})
"""What the cells of a study differ in by design."""


@dataclass(frozen=True)
class Provenance:
    """Paragraphs, settings that all runs of a stage share, and the arms' differences."""

    paragraphs: tuple[str, ...]
    shared: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """Stage -> (setting, value) pairs."""
    differing: Table | None
    """One row per method, one column per training setting that is not the same for all."""


def provenance(frames: Frames) -> Provenance:
    """The methods section of the study in `frames`."""
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
    return Provenance(tuple(_paragraphs(frames)), tuple(shared), _differing(frames))


def _paragraphs(frames: Frames) -> list[str]:
    trained = frames.runs[frames.runs["kind"] == RunKind.TRAIN]
    paragraphs = []
    given = {e.arm.model for e in frames.evaluations if e.arm.method == IMPORTED}
    sizes = [
        f"{model} ({frames.sizes[model]:,} parameters)" if model in frames.sizes else model
        for model in frames.models
        if model not in given
    ]
    if sizes:
        paragraphs.append(f"Base models: {', '.join(sizes)}.")
    if given:
        paragraphs.append(f"Imported generations: {', '.join(sorted(given))}.")
    if len(trained):
        methods = ", ".join(style.title(method) for method in style.order(trained["method"]))
        seeds = ", ".join(map(str, sorted(trained["seed"].unique())))
        paragraphs.append(
            f"Each was tuned with {trained['method'].nunique()} methods ({methods}), "
            f"training seed{'s' * (trained['seed'].nunique() > 1)} {seeds}: "
            f"{len(trained)} trainings."
        )
    for task in frames.tasks:
        own = frames.problems[frames.problems["task"] == task]
        n, n_samples = own["problem_id"].nunique(), int((own["n"] + own["n_faults"]).max())
        paragraphs.append(
            f"{task}: {n:,} problems, {n_samples} completion{'s' * (n_samples != 1)} each; "
            f"{int(own['n'].sum()):,} verdicts counted, {int(own['n_faults'].sum()):,} faults."
        )
    if len(frames.problems):
        paragraphs.append(
            "A completion passes if the program it makes runs to the end of its tests in the "
            f"sandbox (level: {sandbox(frames)}). pass@1 is the mean over problems of the share "
            "of samples that pass. Intervals are 95 % percentile bootstraps over problems (10,000 "
            "resamples); seeds and samples are averaged per problem first. Methods are compared "
            "by a paired bootstrap on the same problems, p-values adjusted over all pairs of one "
            "model and task (Holm 1979)."
        )
    paragraphs += _software(frames.sealed)
    return paragraphs


def _software(sealed: tuple[Run, ...]) -> list[str]:
    codes = {
        f"{run.manifest.code.version}"
        + (f" ({run.manifest.code.commit[:12]}" if run.manifest.code.commit else "")
        + (", with uncommitted changes" if run.manifest.code.dirty else "")
        + (")" if run.manifest.code.commit else "")
        for run in sealed
    }
    if not codes:
        return []
    versions: dict[str, set[str]] = {}
    for run in sealed:
        for name, value in run.manifest.environment.items():
            if not name.startswith("sandbox"):
                versions.setdefault(name, set()).add(value)
    named = ", ".join(f"{name} {' / '.join(sorted(seen))}" for name, seen in versions.items())
    times = sorted(run.manifest.finished or run.manifest.started for run in sealed)
    return [
        f"Made with astraios {', '.join(sorted(codes))} on {named}; the {len(sealed)} runs "
        f"finished between {times[0]} and {times[-1]}."
    ]


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
