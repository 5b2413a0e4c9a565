"""`astraios data`: build a corpus from raw rows; list the rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from astraios.cli.options import AsJson, DataDir, Out, Overrides, interruptible, print_json

if TYPE_CHECKING:
    from astraios.data.building.contamination import BenchmarkText
    from astraios.data.building.report import Report
    from astraios.tasks import Problem, Task

data_app = typer.Typer(help="Build training data; list the rules for it.", no_args_is_help=True)


@data_app.callback()
def _data() -> None:
    """Build training data; list the rules for it."""


@data_app.command("build")
def build_data(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML of a BuildConfig.")],
    overrides: Overrides = None,
    out: Out = Path("runs"),
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Filter, clean and split raw rows into a corpus, with a report of every row."""
    from astraios.cli.display import bar, say, table
    from astraios.cli.display import out as tell
    from astraios.config import data_dir as find_data
    from astraios.config import read_yaml
    from astraios.data.building.build import build
    from astraios.data.building.config import BuildConfig
    from astraios.data.building.plan import plan
    from astraios.data.building.report import table_rows

    read = read_yaml(config, BuildConfig, overrides or ())
    data = find_data(data_dir)
    with interruptible():
        texts: dict[str, tuple[BenchmarkText, ...]] = {}
        absent: dict[str, str] = {}
        if read.decontaminate:
            texts, absent = benchmark_texts(read.decontaminate.benchmarks, data)
        planned = plan(read, data_dir=data, benchmarks=texts, absent=absent)
        folder = out / planned.folder
        with bar(f"build {read.name}", "rows") as progress:
            report = build(planned, folder, progress=progress)
    if as_json:
        print_json({"run": folder, "report": report})
        return
    tell(table(list(table_rows(report))))
    tell(f"\n{_summary(report)}\nrun: {folder}")
    if report.absent_benchmarks:
        say(f"not searched for, no data at hand: {', '.join(report.absent_benchmarks)}")


def _summary(report: Report) -> str:
    lines = [
        f"{report.n_read:,} rows read, {report.n_kept:,} kept: {report.train.rows:,} for training, "
        f"{report.validation.rows:,} for validation"
    ]
    if report.leaks:
        found = ", ".join(f"{name} {n:,}" for name, n in report.leaks.items())
        lines.append(f"found in rows: {found}")
    if report.benchmarks:
        n_hit = sum(found.rows_hit > 0 for found in report.benchmarks.values())
        lines.append(
            f"{report.contaminated_rows:,} rows share words with {n_hit} of "
            f"{len(report.benchmarks)} benchmarks (contamination.jsonl)"
        )
    return "\n".join(lines)


def benchmark_texts(
    names: Sequence[str] | None, data_dir: Path | None
) -> tuple[dict[str, tuple[BenchmarkText, ...]], dict[str, str]]:
    """Texts of the benchmarks `names`, or of all; and which are not at hand.

    Raises:
        MissingDataError: if a benchmark that is named is not at hand.
    """
    from astraios import tasks
    from astraios.errors import MissingDataError

    texts: dict[str, tuple[BenchmarkText, ...]] = {}
    absent: dict[str, str] = {}
    unreachable = ""
    for name in names if names is not None else tasks.names():
        task = tasks.task(name)
        if unreachable and task.data_name:
            absent[name] = unreachable
            continue
        try:
            texts[name] = _texts(task, data_dir)
        except MissingDataError as error:
            if names is not None:
                raise
            absent[name] = f"no data of {task.data_name} in the data folder"
            if data_dir is None:
                absent[name] = f"the hub has no data of {task.data_name}"
                if isinstance(error.__cause__, FileNotFoundError | ConnectionError):
                    # No network; each further file would be asked for many times.
                    unreachable = absent[name] = "no data folder was given, no hub is reached"
    return texts, absent


def _texts(task: Task[Any], data_dir: Path | None) -> tuple[BenchmarkText, ...]:
    from astraios.data.building.contamination import BenchmarkText, Part

    found: list[BenchmarkText] = []
    for problem in task.problems(data_dir):
        card = task.card(problem)
        prompt = task.prompt(problem, (), task.template)
        parts: tuple[tuple[Part, str], ...] = (
            ("prompt", prompt.text if prompt else ""),
            ("solution", card.reference),
            ("tests", card.tests),
            *(("solution", text) for text in _copies(problem)),
        )
        found += (
            BenchmarkText(problem.id, problem.group, part, text) for part, text in parts if text
        )
    return tuple(found)


def _copies(problem: Problem) -> tuple[str, ...]:
    """A solution as rows hold it that leave the documentation out, or the declaration too.

    HumanEvalPack's problems keep them apart; the solution of a card has the documentation in
    between, so a copy of a short one shares no ten words in a row with it.
    """
    solution = getattr(problem, "canonical_solution", "")
    declaration = getattr(problem, "declaration", "")
    return (declaration + solution, solution) if solution and declaration else ()


@data_app.command("rules")
def list_rules(
    preset: Annotated[str, typer.Option(help="mended, or published: the original's.")] = "mended",
    as_json: AsJson = False,
) -> None:
    """List the rules for each kind of source, in the order in which they run."""
    from astraios.cli.display import out as tell
    from astraios.cli.display import table
    from astraios.data.building.steps import declared

    rows = [
        {"for": kind, "rule": rule.name, "keeps": rule.keeps} for kind, rule in declared(preset)
    ]
    if as_json:
        print_json({"preset": preset, "rules": rows})
    else:
        tell(table(rows))
