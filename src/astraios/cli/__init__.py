"""The command line: `astraios VERB`. Verbs only; what they do lives in the packages.

Results go to standard output, progress and messages to standard error. Exit status: 0 done, 1 the
work failed or has faults, 2 bad usage or input, 130 interrupted.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from astraios import __version__
from astraios.cli.data import data_app
from astraios.cli.deciding import predict, recommend
from astraios.cli.evaluating import evaluate
from astraios.cli.exporting import export
from astraios.cli.importing import import_outputs
from astraios.cli.options import (
    AsJson,
    DataDir,
    Jobs,
    LimitProblems,
    LimitSamples,
    Out,
    SandboxLevel,
    interruptible,
    print_json,
)
from astraios.cli.reporting import write_report
from astraios.cli.studies import study_app
from astraios.cli.tuning import merge, pack, train
from astraios.errors import AstraiosError, WorkError

app = typer.Typer(
    name="astraios",
    help="Which tuning method, at which model size, for which budget, and how sure is that?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(study_app, name="study")
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point: runs a verb and turns our errors into a message and an exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it advertises kernels when imported
    try:
        app()
    except AstraiosError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_status)
    except ModuleNotFoundError as error:
        if error.name in ("torch", "transformers", "peft", "accelerate", "tokenizers"):
            sys.stderr.write(
                f"error: this needs {error.name}; install it with: pip install 'astraios[train]'\n"
            )
            sys.exit(2)
        raise


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"astraios {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options before the verb."""


@app.command()
def demo(
    preset: Annotated[str, typer.Option(help="quick (minutes) or standard (an hour).")] = "quick",
    out: Out = Path("runs"),
    jobs: Jobs = None,
    sandbox: SandboxLevel = "best",
    as_json: AsJson = False,
) -> None:
    """Run the embedded study, base model to report, on this machine's CPU."""
    presets = ("quick", "standard")
    if preset not in presets:
        from astraios.errors import UnknownNameError

        raise UnknownNameError("preset", preset, presets)
    from astraios.cli.studies import run_and_report
    from astraios.studies.presets import read_study

    study = read_study(f"embedded-{preset}", [f"sandbox={sandbox}"])
    run_and_report(study, out / study.name, None, as_json, n_workers=jobs)


for verb in (pack, train, merge, export, recommend, predict):
    app.command()(verb)
app.command("eval")(evaluate)
app.command("import-outputs")(import_outputs)


@app.command()
def grade(
    generations: Annotated[
        Path,
        typer.Argument(metavar="GENERATIONS", help="JSON lists, samples.jsonl, or JSONL; .gz too."),
    ],
    task: Annotated[str, typer.Option("--task", help="A name of `astraios list tasks`.")],
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder to write.")] = None,
    jobs: Jobs = None,
    sandbox: SandboxLevel = "auto",
    limit_problems: LimitProblems = None,
    limit_samples: LimitSamples = None,
    extra_tests: Annotated[
        Path | None, typer.Option(help="JSONL of more tests, for tasks that take them.")
    ] = None,
    references: Annotated[
        bool,
        typer.Option(
            "--references/--no-references",
            help="Run the reference solutions first: do they fare as they must on this machine?",
        ),
    ] = True,
    cache: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Use verdicts of programs that ran here before."),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Run a file of generations against its task and score it."""
    from astraios.cli.display import bar, say
    from astraios.cli.grading import faults_told, tell_result
    from astraios.config import data_dir as find_data
    from astraios.evaluation.grade import grade as grade_file

    with interruptible(), bar(f"grade {task}", "samples") as progress:
        result = grade_file(
            generations,
            task,
            data_dir=find_data(data_dir),
            out=out,
            jobs=jobs,
            sandbox=sandbox,
            limit_problems=limit_problems,
            limit_samples=limit_samples,
            extra_tests=extra_tests,
            references=references,
            cache=cache,
            progress=progress,
        )
    if result.was_done:
        say(f"graded already, nothing to do: {result.run}")
    elif result.n_from_cache:
        n = f"{result.n_from_cache:,}"
        say(f"{n} programs were known from earlier runs (--no-cache runs them again)")
    for name, why in result.known_exceptions.items():
        say(f"the reference solution of {name} does not pass here, as is known: {why}")
    if as_json:
        print_json(result.as_json())
    else:
        tell_result(result)
    if result.n_faults:
        raise WorkError(faults_told(result))


@app.command()
def report(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="A study's folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; RUNS/report by default.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--formats", help="Files that figures are written as.")
    ] = "svg,png,pdf",
    as_json: AsJson = False,
) -> None:
    """Write tables, figures and one HTML page from run folders."""
    with interruptible():
        index = write_report(runs, out, as_json, formats)
    if as_json:
        print_json({"report": index})


@app.command("list")
def list_parts(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="Kind of part; all kinds if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List methods, tasks, languages, engines, ... and what is missing to use them."""
    from astraios.cli import parts
    from astraios.cli.display import out as tell
    from astraios.cli.display import table

    listed = {name: parts.rows(name) for name in ([kind] if kind else parts.kinds())}
    if as_json:
        print_json(listed)
        return
    for name, rows in listed.items():
        if not kind:
            tell(f"{name}\n")
        tell(table(rows))
        if not kind:
            tell("")


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what works on this machine: libraries, toolchains, sandbox, accelerators, data."""
    from astraios.cli import machine
    from astraios.cli.display import out as tell
    from astraios.cli.display import table

    rows = machine.rows()
    if as_json:
        print_json(rows)
    else:
        tell(table(rows))


@app.command()
def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    problem: Annotated[str | None, typer.Option(help="Id of one problem.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a run's manifest, or one problem's prompt, completions and verdicts."""
    from astraios.cli import inspect
    from astraios.cli.display import out as tell

    if problem is None:
        manifest = inspect.manifest(run)
        if as_json:
            print_json(manifest)
        else:
            tell(inspect.manifest_text(manifest))
        return
    story = inspect.problem(run, problem)
    if as_json:
        print_json(story)
    else:
        tell(inspect.problem_text(story))
