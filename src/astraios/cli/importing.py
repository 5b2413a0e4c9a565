"""`astraios import-outputs`: the outputs published with the paper, judged as a study."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from astraios.cli.options import (
    NAMES,
    REPEATED,
    AsJson,
    DataDir,
    Jobs,
    LimitProblems,
    LimitSamples,
    SandboxLevel,
    interruptible,
    parted,
    print_json,
)
from astraios.errors import ConfigError, WorkError

if TYPE_CHECKING:
    from astraios.records import Score
    from astraios.studies.outputs import Plan, Result

HEADLINES = ("pass@1", "robust-pass@1", "accuracy", "insecure-rate")
"""Metrics that a line of progress may show, the first that a task has."""
SLICES = ("all", "mean", "paper-sample", "paper-all")
N_LISTED = 10
"""Files of one kind that are listed by name; `--json` has all."""


def import_outputs(
    outputs: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUTS",
            help="The outputs folder of github.com/bigcode-project/astraios, or alike.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the study that is made.")] = Path(
        "runs/published"
    ),
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="Only this one of `astraios list tasks`." + NAMES),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="Only this one: a size (1b, 15b), a base or astraios-1b-lora." + NAMES
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", help="Leave out files, by a pattern: 'syn-*'." + REPEATED),
    ] = None,
    limit_problems: LimitProblems = None,
    limit_samples: LimitSamples = None,
    jobs: Jobs = None,
    sandbox: SandboxLevel = "auto",
    no_judge: Annotated[
        bool, typer.Option("--no-judge", help="Check and organise the answers; run nothing.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="A file that cannot be used is an error.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check names and contents; write and run nothing.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Judge the outputs published with the paper and lay them out as a study to report on.

    Files are recognised by their names and folders, and checked by the prompts they repeat. The
    same command goes on where it was stopped.
    """
    from astraios.cli.display import bar, say
    from astraios.config import data_dir as find_data
    from astraios.studies.outputs import Request, carry_out, check, plan, wanted

    if not outputs.strip():
        raise ConfigError("OUTPUTS is empty; give the folder of published outputs")
    request = Request(
        outputs=Path(outputs),
        out=out,
        wanted=wanted(parted("--task", task), parted("--model", model)),
        exclude=tuple(exclude or ()),
        data_dir=find_data(data_dir),
        limit_problems=limit_problems,
        limit_samples=limit_samples,
        jobs=jobs,
        sandbox=sandbox,
        judge=not no_judge,
        strict=strict,
    )
    with interruptible():
        planned = plan(request)
        n_cells = len(planned.tree.cells)
        _tell_files(planned, say)
        results: list[Result] = []
        told: set[str] = set()
        for result in (check if dry_run else carry_out)(planned, bars=bar):
            results.append(result)
            known = result.error in told
            told.add(result.error)
            say(f"[{len(results)}/{n_cells}] {_line(result, dry_run, known)}")
    failed = [result for result in results if result.state == "failed"]
    if as_json:
        print_json(_json(planned, results, dry_run))
    else:
        _tell(planned, results, dry_run)
    _raise(results, failed)


def _raise(results: list[Result], failed: list[Result]) -> None:
    """End with status 1 where a cell failed or has faults."""
    faults = [result for result in results if result.graded and result.graded.n_faults]
    if failed:
        cells: dict[str, list[str]] = {}
        for result in failed:
            cells.setdefault(result.error, []).append(result.cell.label)
        reasons = [
            f"  {labels[0]}{f' and {len(labels) - 1} more' * (len(labels) > 1)}: {reason}"
            for reason, labels in cells.items()
        ]
        if len(reasons) > N_LISTED:
            reasons[N_LISTED:] = [f"  ... and {len(reasons) - N_LISTED} more reasons, see above"]
        raise WorkError(
            "\n".join([f"{len(failed)} of {len(results)} cells failed:", *reasons]),
        )
    if faults:
        n = sum(result.graded.n_faults for result in faults if result.graded)
        raise WorkError(
            f"{n} programs of {len(faults)} cells could not be judged (fault); they are not "
            "counted. The same command tries them again"
        )


# --- what is said -----------------------------------------------------------------------------


def _tell_files(planned: Plan, say: Any) -> None:
    """How many cells there are, and what became of every other file."""
    tree, grid = planned.tree, planned.grid
    arms = {(model.base_model, model.method) for model in planned.request.wanted.models}
    n_grid = len(arms) * len(grid["tasks"])
    say(f"{tree.root}: {len(tree.cells)} of {n_grid} cells have a file")
    if tree.n_left_out:
        say(f"Files left out, as asked: {tree.n_left_out}")
    for pattern in tree.idle:
        say(f"--exclude {pattern!r} matches no file")
    for folder in tree.results:
        say(f"Folder of results, left out: {folder}")
    _list(say, "Files that hold nothing that is scored", tree.set_aside)
    copies = [(path, f"holds the same as {same}") for path, same in tree.copies]
    _list(say, "Copies", copies)
    _list(say, "Files that CANNOT BE USED", tree.unrecognised)


def _list(say: Any, what: str, found: Any) -> None:
    if not found:
        return
    say(f"{what} ({len(found)}):")
    for path, why in found[:N_LISTED]:
        say(f"  {path}: {why}")
    if len(found) > N_LISTED:
        say(f"  ... and {len(found) - N_LISTED} more; --json lists all")


def _line(result: Result, dry_run: bool, known: bool) -> str:
    label = result.cell.label
    if result.state == "failed":
        return f"FAILED {label}: {'the same as above' if known else result.error}"
    if dry_run:
        return f"{label}: {result.cell.files[0]}"
    score = headline(result.graded.scores) if result.graded else None
    shown = ""
    if score is not None and score.value is not None:
        shown = f", {score.metric} {100 * score.value:.1f} %"
    return f"{label}: {result.state}{shown}{' (done before)' * result.was_done}"


def headline(scores: tuple[Score, ...]) -> Score | None:
    """The number that stands for a task."""
    for metric in HEADLINES:
        own = [score for score in scores if score.metric.endswith(metric)]
        for name in SLICES:
            for score in own:
                if score.slice == name:
                    return score
    return scores[0] if scores else None


def _tell(planned: Plan, results: list[Result], dry_run: bool) -> None:
    from astraios.cli.display import out as tell
    from astraios.cli.display import table

    by_task: dict[str, Counter[str]] = {}
    for result in results:
        by_task.setdefault(result.cell.plain, Counter())[result.state] += 1
    n_arms = len({(m.base_model, m.method) for m in planned.request.wanted.models})
    done = "checked" if dry_run else "judged" if planned.request.judge else "imported"
    state = "imported" if dry_run else done
    rows = []
    for task in planned.grid["tasks"]:
        counts = by_task.get(task, Counter())
        rows.append(
            {
                "task": task,
                done: str(counts[state]),
                "failed": str(counts["failed"]),
                "no file": str(n_arms - counts.total()),
            }
        )
    tell(table(rows))
    if not dry_run:
        study = planned.request.out
        tell(f"\nstudy: {study}")
        if any(result.state != "failed" for result in results):
            tell(f"next: astraios report {study}")


def _json(planned: Plan, results: list[Result], dry_run: bool) -> dict[str, Any]:
    """What `--json` prints; scripts depend on it."""
    tree = planned.tree

    def listed(found: Any) -> list[dict[str, str]]:
        return [{"file": str(path), "reason": str(why)} for path, why in found]

    return {
        "study": None if dry_run else planned.request.out,
        "cells": [_row(result, dry_run) for result in results],
        "unrecognised": listed(tree.unrecognised),
        "set_aside": listed(tree.set_aside),
        "copies": listed((path, f"the same as {same}") for path, same in tree.copies),
        "results": [str(folder) for folder in tree.results],
        "n_left_out": tree.n_left_out,
        "grid": planned.grid,
    }


def _row(result: Result, dry_run: bool) -> dict[str, Any]:
    cell, graded = result.cell, result.graded
    checked = dry_run and result.state != "failed"
    return {
        "model": cell.model.name,
        "base_model": cell.model.base_model,
        "method": cell.model.method,
        "task": cell.task,
        "files": [str(path) for path in cell.files],
        "state": "checked" if checked else result.state,
        "error": result.error,
        "run": result.run,
        "judged": graded.run if graded else None,
        "scores": [score.model_dump(mode="json") for score in graded.scores] if graded else [],
        "outcomes": graded.outcomes if graded else {},
    }
