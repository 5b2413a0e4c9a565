"""A part of a study's jobs, by what they are: `method=lora`, `kind=train`, `eval/*/fft/*`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from astraios.errors import ConfigError, did_you_mean
from astraios.studies.plan import Job
from astraios.studies.study import BASE

__all__ = ["AXES", "behind", "select"]

AXES = ("base_model", "method", "seed", "task", "kind")


def select(jobs: Sequence[Job], patterns: Iterable[str]) -> list[Job]:
    """The jobs that every axis named in `patterns` admits, and all that they build on.

    Patterns of one axis are alternatives, `method=lora` and `method=ia3` are both; a pattern
    without `=` is one of folders. Values may hold `*` and `?`.

    Raises:
        ConfigError: if an axis is unknown, or a pattern or all together match no job.
    """
    by_axis: dict[str, list[str]] = {}
    configs = {job.id: job.config for job in jobs}
    facts = {job.id: _facts(job, configs) for job in jobs}
    for pattern in patterns:
        axis, equals, value = pattern.partition("=")
        if not equals:
            axis, value = "id", pattern
        elif axis not in AXES:
            raise ConfigError(
                f"--only {pattern}: unknown axis {axis!r}; known: {', '.join(AXES)}, or a pattern "
                f"of folders.{did_you_mean(axis, AXES)}"
            )
        if not any(_matches(facts[job.id], axis, value) for job in jobs):
            known = sorted({facts[job.id][axis] for job in jobs} - {""}) if equals else ()
            hint = f"; there are: {', '.join(known)}.{did_you_mean(value, known)}" if known else ""
            raise ConfigError(f"--only {pattern}: matches no job of the study{hint}")
        by_axis.setdefault(axis, []).append(value)
    chosen = {
        job.id
        for job in jobs
        if all(
            any(_matches(facts[job.id], axis, value) for value in values)
            for axis, values in by_axis.items()
        )
    }
    if not chosen:
        raise ConfigError(f"--only {' --only '.join(patterns)}: no job matches all of them")
    for job in reversed(jobs):  # each is behind those it builds on
        if job.id in chosen:
            chosen.update(job.after)
    return [job for job in jobs if job.id in chosen]


def behind(jobs: Sequence[Job], ids: Iterable[str]) -> list[Job]:
    """The jobs `ids`, all that builds on them, and all that these build on."""
    chosen = set(ids)
    for job in jobs:
        if chosen.intersection(job.after):
            chosen.add(job.id)
    for job in reversed(jobs):
        if job.id in chosen:
            chosen.update(job.after)
    return [job for job in jobs if job.id in chosen]


def _facts(job: Job, configs: dict[str, Any]) -> dict[str, str]:
    config = configs.get(job.inputs.get("samples", ""), job.config)
    asked = hasattr(config, "task") and hasattr(config, "method")
    default = BASE if asked else ""
    return {
        "id": job.id,
        "kind": str(job.kind),
        "base_model": str(getattr(config, "base_model", getattr(config, "name", ""))),
        "method": str(getattr(config, "method", None) or default),
        "seed": str(getattr(config, "seed", "")),
        "task": str(getattr(config, "task", "")),
    }


def _matches(facts: dict[str, str], axis: str, value: str) -> bool:
    return fnmatchcase(facts[axis], value) or (
        axis == "base_model" and fnmatchcase(facts[axis].rsplit("/", 1)[-1], value)
    )
