"""`astraios study`: what a grid will cost, running it, how it stands, and a copy for others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from astraios.cli.options import (
    REPEATED,
    AsJson,
    DataDir,
    Out,
    Overrides,
    interruptible,
    print_json,
)
from astraios.cli.running import MaxMemory, Running, mib, taking
from astraios.cli.working import work
from astraios.errors import ConfigError, UsageError, WorkError

if TYPE_CHECKING:
    from astraios.studies.study import Study

study_app = typer.Typer(help="Plan, run, inspect and publish a study.", no_args_is_help=True)

Named = Annotated[
    str, typer.Argument(metavar="STUDY", help="A YAML file, or a name of `astraios list studies`.")
]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A study's folder.")]
AcceptChanges = Annotated[
    bool,
    typer.Option("--accept-changes", help="Take up a study that changed since it was begun."),
]
From = Annotated[
    list[Path] | None,
    typer.Option(
        "--from",
        metavar="RUNS",
        help="Folder of finished runs, by whose pace time is estimated." + REPEATED,
    ),
]
Calibrate = Annotated[
    bool, typer.Option("--calibrate", help="Try a few steps of each kind of training first.")
]
JobsList = Annotated[bool, typer.Option("--jobs-list", help="Every job, beside the cells.")]


@study_app.command("plan")
def plan(
    study: Named,
    overrides: Overrides = None,
    out: Out = Path("runs"),
    data_dir: DataDir = None,
    max_memory: MaxMemory = None,
    calibrate: Calibrate = False,
    runs: From = None,
    jobs_list: JobsList = False,
    as_json: AsJson = False,
) -> None:
    """Show the cells of a study with what each will cost; nothing is run.

    With --calibrate a few steps are tried; base models and data are made ready for it, and stay.
    """
    from astraios.studies.presets import read_study

    read = read_study(study, overrides or [])
    root = out / read.name
    if calibrate:
        _calibrate(read, root, data_dir)
    _show_plan(read, root, data_dir, max_memory, runs or [], jobs_list, as_json)


def _show_plan(
    study: Study,
    root: Path,
    data: Path | None,
    max_memory: str | None,
    runs: Sequence[Path],
    jobs_list: bool,
    as_json: bool,
) -> None:
    from astraios.cli import planning
    from astraios.cli.display import out as tell
    from astraios.config import data_dir
    from astraios.studies.outlook import outlook

    found = outlook(study, root, data_dir=data_dir(data), max_memory_mib=mib(max_memory), runs=runs)
    if as_json:
        print_json(planning.as_json(found))
    else:
        tell(planning.as_text(found, jobs_list=jobs_list))
    if found.too_large:
        raise UsageError(planning.refusal(found, str(max_memory)))


def _calibrate(study: Study, root: Path, data: Path | None) -> None:
    from astraios.cli.display import bar
    from astraios.config import data_dir
    from astraios.training.process import settle

    settle()
    from astraios.studies.calibrate import calibrate

    with interruptible(), bar(f"calibrate {study.name}", "trainings") as progress:
        calibrate(study, root, data_dir=data_dir(data), progress=progress)


@study_app.command("run")
@taking
def run(
    running: Running,
    study: Named,
    overrides: Overrides = None,
    out: Out = Path("runs"),
    data_dir: DataDir = None,
    accept_changes: AcceptChanges = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what `plan` shows, and start nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run what is missing of a study, then write its report."""
    from astraios.studies.presets import read_study

    read = read_study(study, overrides or [])
    root = out / read.name
    how = running.how()
    if dry_run:
        running.check(read)
        # A run means by --max-memory what all jobs take together, a plan what a device has.
        _show_plan(read, root, data_dir, None, [], False, as_json)
        return
    run_and_report(read, root, data_dir, as_json, accept_changes=accept_changes, **how)


@study_app.command("resume")
@taking
def resume(
    running: Running,
    folder: Folder,
    overrides: Overrides = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Go on with the study in FOLDER by what the folder says; the file it came from is not needed.

    FIELD=VALUE may change what changes no record: sandbox, evaluation.device, engine options.
    """
    import yaml

    from astraios.config import fingerprint, parse_yaml
    from astraios.studies.changes import stored_study
    from astraios.studies.study import Study

    stored = stored_study(folder)
    text = yaml.safe_dump(stored.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    read = parse_yaml(text, Study, overrides or [], source=str(folder / "study.yaml"))
    if fingerprint(read) != fingerprint(stored):
        raise ConfigError(
            f"{' '.join(overrides or [])}: makes another study of the one in {str(folder)!r}; "
            "change its YAML file and use `astraios study run --accept-changes`"
        )
    run_and_report(read, folder, data_dir, as_json, **running.how())


def run_and_report(study: Study, root: Path, data: Path | None, as_json: bool, **how: Any) -> None:
    """Run `study` in `root`, write the report and say how it stands.

    Raises:
        WorkError: if something is left to do.
    """
    from astraios.cli.display import say
    from astraios.cli.following import StudyDisplay
    from astraios.cli.reporting import write_report
    from astraios.config import data_dir
    from astraios.studies.run import run_study

    display = StudyDisplay()
    with interruptible():
        try:
            summary = run_study(
                study,
                root,
                data_dir=data_dir(data),
                watch=display.watch,
                begin=display.begin,
                **how,
            )
        finally:
            display.close()
        if summary.n_chosen == 0:
            say("no job has failed in an earlier run: nothing was run")
        elif summary.nothing_to_do:
            n, of = summary.n_chosen, summary.n_jobs
            whole = f"all {of} jobs are done already" if n == of else f"the {n} of {of} jobs are"
            say(
                f"study {study.name!r} is complete: {whole}" if n == of else f"{whole} done already"
            )
        # What a cluster's queue holds is not there to report.
        paths = None if summary.submitted or summary.written else write_report(root, None, as_json)
    if as_json:
        failed = [{"job": job.id, "message": message} for job, message in summary.failed]
        told = {"study": study.name, "root": root, "report": paths, "n_jobs": summary.n_jobs}
        more = {
            "failed": failed,
            "skipped": [job.id for job in summary.skipped],
            "submitted": [job.id for job in summary.submitted],
            "written": [job.id for job in summary.written],
            "faults": {job.id: n for job, n in summary.faults},
        }
        print_json({**told, **more})
    wait = summary.submitted or summary.written
    if wait and not (summary.failed or summary.skipped or summary.faults):
        hint = f"; `astraios study status {root}` says how they stand" if summary.submitted else ""
        say(f"{summary.left}{hint}")
    elif not summary.complete:
        again = "the same command tries them again"
        raise WorkError(f"{summary.left}; {again if how.get('retry', True) else 'left alone'}")


@study_app.command("status")
def status(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A study's folder, or its file or name.")
    ],
    overrides: Overrides = None,
    out: Out = Path("runs"),
    jobs_list: JobsList = False,
    as_json: AsJson = False,
) -> None:
    """Show how a study stands, while it runs too; read from its folder alone."""
    from dataclasses import asdict

    from astraios.cli import planning
    from astraios.cli.display import out as tell
    from astraios.studies.changes import read_plan, stored_study
    from astraios.studies.status import counts
    from astraios.studies.status import status as states

    folder = Path(study)
    if not folder.is_dir():
        from astraios.studies.presets import read_study

        folder = out / read_study(study, overrides or []).name
    elif overrides:
        raise ConfigError(f"{str(folder)!r} is a folder, which takes no {overrides[0]!r}")
    name = stored_study(folder).name
    found = states(folder, read_plan(folder))
    if as_json:
        print_json(
            {
                "study": name,
                "root": folder,
                "n_jobs": len(found),
                "n_done": sum(job.state == "done" for job in found),
                "kinds": counts(found, "kind"),
                "arms": counts(found, "arm"),
                "jobs": [{**asdict(job), "job": job.id} for job in found],
            }
        )
    else:
        tell(planning.standing(name, folder, found, jobs_list=jobs_list))


@study_app.command("export")
def export(
    folder: Folder,
    to: Annotated[
        Path, typer.Argument(metavar="OUT", help="A new folder, or a new archive: NAME.tar.gz.")
    ],
    weights: Annotated[
        bool, typer.Option("--weights", help="Take tuned weights along; base models never.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a study's records for others: no base weights, nothing that names this machine."""
    from astraios.cli.display import out as tell
    from astraios.studies.publish import publish

    with interruptible():
        done = publish(folder, to, weights=weights)
    if as_json:
        print_json({"out": done.where, "files": done.n_files, "bytes": done.n_bytes,
                    "runs": done.n_runs, "weights": done.weights})  # fmt: skip
    else:
        tell(
            f"{done.n_runs} runs, {done.n_files} files, {done.n_bytes / 2**20:,.1f} MiB: "
            f"{done.where}"
        )


study_app.command("work")(work)
