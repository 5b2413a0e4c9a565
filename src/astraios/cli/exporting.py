"""`astraios export`: completions in the format of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from astraios.cli.options import AsJson, DataDir, interruptible, print_json


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A generation, judged or graded run, or a file that `grade` takes."
        ),
    ],
    format: Annotated[str, typer.Option("--format", help="harness, evalplus or samples.")],
    to: Annotated[Path, typer.Option("--to", help="File to write; compressed if it ends in .gz.")],
    task: Annotated[
        str | None, typer.Option("--task", help="The task that a file answers; runs say it.")
    ] = None,
    data_dir: DataDir = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="What an unfinished run holds (samples only).")
    ] = False,
    limit_problems: Annotated[
        int | None,
        typer.Option(min=1, help="A file answers the first problems only; runs say it."),
    ] = None,
    limit_samples: Annotated[
        int | None, typer.Option(min=1, help="Of a file, the first samples of each problem.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the completions of a run for the BigCode harness, for EvalPlus, or as samples."""
    from dataclasses import asdict

    from astraios.cli.display import out as tell
    from astraios.evaluation.export import export as write

    with interruptible():
        done = write(
            source,
            to,
            format,
            task_name=task,
            data_dir=data_dir,
            unfinished=unfinished,
            limit_problems=limit_problems,
            limit_samples=limit_samples,
        )
    if as_json:
        print_json(asdict(done))
        return
    faults = f", {done.n_faults} of them faults" if done.n_faults else ""
    tell(
        f"{done.n_samples:,} samples{faults} of {done.n_problems:,} problems of {done.task}: "
        f"{done.file}"
    )
