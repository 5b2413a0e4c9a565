"""The run of a build: filter, select, split, report.

folder/
  train.jsonl  validation.jsonl    the corpus
  report.json                      counts by step, source and language
  removed.jsonl                    each row that is not in it, and the step that removed it
  contamination.jsonl              each row and problem of a benchmark that share words
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel

from astraios.data.building.contamination import Contamination
from astraios.data.building.filtering import FOLDER, filter_all
from astraios.data.building.plan import Plan
from astraios.data.building.report import BenchmarkReport, Report, SplitReport, SplitTally, Tally
from astraios.data.building.selecting import Sinks, Survivor, select
from astraios.data.building.splitting import held_out, shuffled
from astraios.errors import MissingDataError
from astraios.files import read_json
from astraios.progress import Progress, silent
from astraios.records import RunKind
from astraios.runs import Run, read_manifest

REPORT = "report"
BATCH = 1_000
"""Lines that are appended at a time."""


def build(plan: Plan, folder: Path, *, progress: Progress = silent) -> Report:
    """Build the corpus of `plan` in `folder`; what is done already is not done again.

    Args:
        plan: what to build.
        folder: the run folder.
        progress: told of rows filtered, then of rows searched for duplicates.

    Raises:
        DataError: if a row cannot be read, or none is left.
        ForeignRunError: if the folder holds another run.
        StorageError: if the disk is full; the same command goes on where it stopped.
    """
    with Run.open(folder, kind=RunKind.DATA, config=plan.config, inputs=plan.inputs) as run:
        if run.done:
            shutil.rmtree(folder / FOLDER, ignore_errors=True)  # a kill may have left them
            return read_report(folder)
        search = plan.config.decontaminate
        contamination = Contamination(plan.benchmarks, search.ngram) if search else None
        chunks, n_rows = filter_all(plan, folder / FOLDER, contamination, progress)
        removed, contaminated = _Lines(run, "removed"), _Lines(run, "contamination")
        tally = Tally()
        survivors = select(
            chunks, n_rows, plan.config, Sinks(removed.add, contaminated.add), tally, progress
        )
        removed.flush()
        contaminated.flush()
        if not survivors:
            tally.refuse_nothing()
        train, validation = _write_splits(run, survivors, plan)
        report = _report(plan, tally, contamination, train, validation)
        run.write_json(REPORT, report)
        run.seal(
            {
                "read": report.n_read,
                "train": report.train.rows,
                "validation": report.validation.rows,
            }
        )
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    return report


def read_report(folder: Path) -> Report:
    """The report of a finished build.

    Raises:
        MissingDataError: if `folder` holds none.
    """
    if read_manifest(folder).kind is not RunKind.DATA:
        raise MissingDataError(f"{str(folder)!r} is no run of `astraios data build`")
    return read_json(folder / f"{REPORT}.json", Report)


class _Lines:
    """Records of one file, appended in batches; what an earlier try left is dropped."""

    def __init__(self, run: Run, name: str) -> None:
        self._run, self._name = run, name
        self._waiting: list[BaseModel] = []
        run.rewrite(name, ())

    def add(self, record: BaseModel) -> None:
        self._waiting.append(record)
        if len(self._waiting) >= BATCH:
            self.flush()

    def flush(self) -> None:
        self._run.append(self._name, *self._waiting)
        self._waiting.clear()


def _write_splits(
    run: Run, survivors: list[Survivor], plan: Plan
) -> tuple[SplitReport, SplitReport]:
    seed = plan.config.seed
    held = held_out([row.prompt for row in survivors], plan.config.validation, seed)
    train, validation = _Lines(run, "train"), _Lines(run, "validation")
    counts = SplitTally(), SplitTally()
    for at in shuffled([row.id for row in survivors], seed):
        row = survivors[at].row()
        (validation if at in held else train).add(row)
        counts[at in held].add(row)
    train.flush()
    validation.flush()
    return counts[0].report(), counts[1].report()


def _report(
    plan: Plan,
    tally: Tally,
    contamination: Contamination | None,
    train: SplitReport,
    validation: SplitReport,
) -> Report:
    looked = contamination.looked if contamination else {}
    return Report(
        name=plan.config.name,
        seed=plan.config.seed,
        steps=plan.steps,
        sources={
            source.title: tally.source(
                source.title,
                ", ".join(source.places),
                plan.inputs[f"source {source.title}"],
                plan.steps,
            )
            for source in plan.config.sources
        },
        leaks=dict(sorted(tally.leaks.items())),
        benchmarks={
            name: BenchmarkReport(
                n_problems=found.n_problems,
                n_texts=found.n_texts,
                n_too_short=found.n_too_short,
                n_ngrams=found.n_ngrams,
                n_boilerplate=found.n_boilerplate,
                rows_hit=tally.rows_hit[name],
                problems_hit=len(tally.hits.get(name, ())),
            )
            for name, found in looked.items()
        },
        absent_benchmarks=dict(plan.absent),
        contaminated_rows=tally.contaminated,
        train=train,
        validation=validation,
    )
