"""How the plan and the standing of a study are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astraios.analysis.quantities import show_memory
from astraios.cli.display import table
from astraios.methods import LABEL
from astraios.training.config import TrainingConfig

if TYPE_CHECKING:
    from astraios.studies.differences import Difference
    from astraios.studies.estimates import Cell, Figure
    from astraios.studies.outlook import Outlook
    from astraios.studies.status import JobState

N_LISTED = 12
"""Lines of one kind that are listed; --json has all."""


def as_text(found: Outlook, *, jobs_list: bool) -> str:
    """The plan for people: cells, totals, differences, warnings."""
    study = found.study
    grid = (
        f"{len(study.base_models)} base models x {len(study.methods)} methods x "
        f"{len(study.seeds)} seeds, {len(study.tasks)} tasks"
    )
    parts = [f"study {study.name}: {grid}", table([_row(cell) for cell in found.cells])]
    parts += [_totals(found), _sources(found.cells), _differences(found)]
    if unchecked := _unchecked(found):
        parts.append(unchecked)
    if found.lacking:
        lines = [f"  {task}: {why}" for task, why in found.lacking.items()]
        parts.append("cannot be judged on this machine:\n" + "\n".join(lines))
    if found.changes is not None:
        parts.append(f"changed since it was begun in {found.root}:\n{found.changes}")
    if found.warnings:
        parts.append("\n".join(f"warning: {line}" for line in found.warnings))
    if jobs_list:
        rows = [
            {"job": job.id, "kind": str(job.kind), "state": "done" if done else "to do"}
            for job, done in found.jobs
        ]
        parts.append(table(rows))
    parts.append(_n_done(found))
    return "\n\n".join(part for part in parts if part)


def as_json(found: Outlook) -> dict[str, Any]:
    """The plan for programs: every figure with its source."""
    return {
        "study": found.study.name,
        "root": found.root,
        "jobs": [
            {
                "job": job.id,
                "kind": str(job.kind),
                "label": job.label,
                "after": list(job.after),
                "state": "done" if done else "to do",
            }
            for job, done in found.jobs
        ],
        "cells": [asdict(cell) for cell in found.cells],
        "totals": {name: asdict(figure) for name, figure in _sums(found.cells).items()},
        "differences": [asdict(one) for one in found.differences],
        "undeclared": [asdict(one) for one in found.undeclared],
        "lacking": found.lacking,
        "warnings": list(found.warnings),
        "changes": found.changes
        and {
            "fields": [asdict(one) for one in found.changes.fields],
            "reusable": [job.id for job in found.changes.reusable],
            "new": [job.id for job in found.changes.new],
            "left_over": [job.id for job in found.changes.left_over],
        },
        "max_memory_mib": found.max_memory_mib,
        "too_large": [f"{c.base_model} {c.method}" for c in found.too_large],
    }


def refusal(found: Outlook, budget: str) -> str:
    """Which cells do not fit, with the numbers, and what would make them fit."""
    once = {(c.base_model, c.method): c for c in found.too_large}
    lines = [
        f"  {base_model} {method} needs about {_memory(cell.memory_mib)} a device"
        for (base_model, method), cell in once.items()
    ]
    return (
        f"{len(once)} cells do not fit into the {budget} of --max-memory:\n"
        + "\n".join(lines)
        + f"\nleave the method out, or set for it {' or '.join(_savings(found, set(once)))}"
    )


def _savings(found: Outlook, cells: set[tuple[str, str]]) -> list[str]:
    """Settings that take less memory and that not all trainings of `cells` have."""
    configs = [job.config for job, _ in found.jobs if isinstance(job.config, TrainingConfig)]
    ours = [one for one in configs if (one.base_model, one.method) in cells]
    plans = [one.optimization for one in ours]
    savings = {
        "base_precision: bf16": all(one.base_precision != "fp32" for one in ours),
        "base_precision: int8 or nf4 (adapters only)": all(
            one.method.partition(LABEL)[0] == "fft" or one.base_precision in ("int8", "nf4")
            for one in ours
        ),
        "gradient_checkpointing: true": all(one.gradient_checkpointing for one in ours),
        "optimization.rows_per_device: 1": all(
            1 in (one.rows_per_device, one.batch_size) for one in plans
        ),
        "optimization.optimizer: adamw_8bit": all(one.optimizer != "adamw" for one in plans),
        "sharding: fsdp2 (on several devices)": all(one.sharding != "none" for one in ours),
    }
    return [name for name, is_set in savings.items() if not is_set] or ["a smaller block_length"]


def _unchecked(found: Outlook) -> str:
    """Which trainings `--max-memory` says nothing of."""
    if found.max_memory_mib is None:
        return ""
    unknown = dict.fromkeys(
        f"{cell.base_model} {cell.method}"
        for cell in found.cells
        if cell.what != "evaluate" and cell.memory_mib.value is None
    )
    told = ", ".join(unknown)
    return told and f"NOT CHECKED by --max-memory, as their memory is not known: {told}"


def standing(name: str, root: Path, jobs: Sequence[JobState], *, jobs_list: bool) -> str:
    """How a study stands, for people."""
    from astraios.studies.status import STATES, counts

    def rows(by: str) -> list[dict[str, str]]:
        used = [s for s in STATES if s == "done" or any(job.state == s for job in jobs)]
        return [
            {by: key, **{state: str(n[state] or "-") for state in used}, "of": str(sum(n.values()))}
            for key, n in counts(jobs, by).items()
        ]

    n_done = sum(job.state == "done" for job in jobs)
    parts = [f"study {name} in {root}", table(rows("kind")), table(rows("arm"))]
    running = [job for job in jobs if job.state == "running"]
    if running:
        lines = [f"  {job.label or job.id}{_after(job.progress)}" for job in running]
        parts.append("running:\n" + "\n".join(lines))
    failed = [job for job in jobs if job.state == "failed"]
    if failed:
        lines = [f"  {job.label or job.id} ({job.when}): {job.message}" for job in failed]
        parts.append("failed:\n" + "\n".join(lines))
    if jobs_list:
        parts.append(table([{"job": j.id, "kind": j.kind, "state": j.state} for j in jobs]))
    ahead = f"astraios study resume {root}"
    left = "" if n_done == len(jobs) or running else f"; `{ahead}` goes on"
    parts.append(f"{n_done} of {len(jobs)} jobs are done{left}")
    return "\n\n".join(parts)


def _after(text: str) -> str:
    return f": {text}" if text else ""


# --- cells ------------------------------------------------------------------------------------


def _row(cell: Cell) -> dict[str, str]:
    over = cell.over_mib is not None
    return {
        "base model": cell.base_model.rsplit("/", 1)[-1],
        "method": cell.method if cell.what != "search" else f"{cell.method} (search)",
        "seed": "-" if cell.seed is None else str(cell.seed),
        "trained": "-" if cell.what == "evaluate" else _count(cell.trainable_parameters),
        "tokens": "-" if cell.what == "evaluate" else _count(cell.training_tokens),
        "memory": f"{_memory(cell.memory_mib)}{' TOO MUCH' if over else ''}",
        "tuning": "-" if cell.what == "evaluate" else _time(cell.training_s),
        "completions": "-" if cell.what == "search" else _count(cell.completion_tokens),
        "generating": "-" if cell.what == "search" else _time(cell.generating_s),
        "judging": "-" if cell.what == "search" else _time(cell.judging_s),
        "done": f"{cell.n_done}/{cell.n_jobs}",
    }


def _count(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    bound = "<= " if figure.bound else ""
    for size, sign in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if figure.value >= size:
            return f"{bound}{figure.value / size:.3g} {sign}"
    return f"{bound}{figure.value:.0f}"


def _time(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    return f"{'<= ' if figure.bound else ''}{_duration(figure.value)}"


def _duration(seconds: float) -> str:
    for size, sign in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {sign}"
    return f"{seconds:.0f} s"


def _memory(figure: Figure) -> str:
    return "-" if figure.value is None else show_memory(figure.value)


FIGURES = (
    ("trainable_parameters", "trained"),
    ("training_tokens", "tokens"),
    ("memory_mib", "memory"),
    ("training_s", "tuning"),
    ("completion_tokens", "completions"),
    ("generating_s", "generating"),
    ("judging_s", "judging"),
)
SUMMED = ("training_tokens", "training_s", "completion_tokens", "generating_s", "judging_s")


def _sums(cells: Iterable[Cell]) -> dict[str, Figure]:
    from astraios.studies.estimates import total

    listed = list(cells)
    return {name: total(getattr(cell, name) for cell in listed) for name in SUMMED}


def _totals(found: Outlook) -> str:
    sums = _sums(found.cells)
    return (
        f"in all: {_count(sums['training_tokens'])} tokens and {_time(sums['training_s'])} of "
        f"tuning, {_count(sums['completion_tokens'])} tokens and {_time(sums['generating_s'])} of "
        f"generating, {_time(sums['judging_s'])} of judging (one job after the other)"
    )


def _sources(cells: Sequence[Cell]) -> str:
    """Where the columns' figures come from, most frequent first."""
    lines = []
    for name, title in FIGURES:
        known: Counter[str] = Counter()
        unknown: Counter[str] = Counter()
        for cell in cells:
            figure: Figure = getattr(cell, name)
            if figure.source:
                (unknown if figure.value is None else known)[figure.source] += 1
        said = [source for source, _ in known.most_common(3)]
        said += [f"- where {source}" for source, _ in unknown.most_common(2)]
        if said:
            lines.append(f"  {title}: {'; '.join(said)}")
    return "figures are from:\n" + "\n".join(lines) if lines else ""


def _differences(found: Outlook) -> str:
    if not found.differences:
        return "arms differ in nothing but base model, method and seed"
    known = {id(one) for one in found.undeclared}
    grouped: dict[tuple[str, str, str], list[Difference]] = {}
    for one in found.differences:
        grouped.setdefault((one.method, one.field, repr(one.value)), []).append(one)
    lines = []
    for (method, field, value), alike in grouped.items():
        models = {one.base_model for one in alike}
        every = models == set(found.study.base_models)
        of = "" if every else f" on {', '.join(m.rsplit('/', 1)[-1] for m in sorted(models))}"
        seeds = {one.seeds for one in alike}
        some = "" if seeds == {found.study.seeds} else f" seeds {sorted(set().union(*seeds))}"
        odd = " (not asked for)" if any(id(one) in known for one in alike) else ""
        lines.append(f"  {method}{of}{some}: {field} = {value}, not {alike[0].usual!r}{odd}")
    return "arms differ from most in:\n" + "\n".join(lines)


def _n_done(found: Outlook) -> str:
    n_done = sum(done for _, done in found.jobs)
    return f"{n_done} of {len(found.jobs)} jobs are done"
