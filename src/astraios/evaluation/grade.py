"""Grading: a file of generations in, scores out. Import, judge, score in one run folder.

    samples.jsonl     the file's texts as samples
    and what `judge` writes

The same file, task, options and tool versions name the same default folder, so the same command
takes up an interrupted run, and says so when there is nothing left to do.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from astraios import tasks
from astraios.config import data_dir as resolve_data_dir
from astraios.config import digest, fingerprint
from astraios.evaluation.generations_file import checksum
from astraios.evaluation.imports import Generations
from astraios.evaluation.judge import REFERENCES, judge, judge_config
from astraios.evaluation.score import SCORES, scores_of
from astraios.progress import Progress, silent
from astraios.records import Finish, Outcome, Sample, Score, Verdict
from astraios.runs import Run, is_done, read_run

log = logging.getLogger(__name__)

GRADED = Path("runs") / "graded"
"""Where runs go unless a folder is given."""

WRONG_ANSWER, EXCEPTION = "wrong answer", "exception"
KINDS = (
    Outcome.PASSED,
    WRONG_ANSWER,
    EXCEPTION,
    Outcome.COMPILE_ERROR,
    Outcome.CRASHED,
    Outcome.TIMED_OUT,
    Outcome.OUT_OF_MEMORY,
    Outcome.FORGED,
    Outcome.UNPARSED,
    Outcome.VULNERABLE,
    Outcome.SAFE,
    Outcome.FAULT,
)
"""Rows of the outcome table, in order."""

_ASSERTION = re.compile(r"(^|\.)AssertionError\b|[Aa]ssertion\b.*\bfailed\b|^--- FAIL")
"""How tests say that an answer is wrong: Python, Java; C++, JavaScript, Rust; Go."""


@dataclass(frozen=True)
class OutcomeRow:
    """One line of the outcome table, with the first verdict of its kind."""

    kind: str
    n: int
    share: float
    """Of all judged samples, faults included."""
    problem_id: str
    index: int
    detail: str


@dataclass(frozen=True)
class GradeResult:
    """What grading found."""

    task: str
    task_version: str
    scores: tuple[Score, ...]
    outcomes: dict[str, int]
    """Outcome -> samples."""
    run: Path
    """The run folder; `verdicts.jsonl` in it holds every verdict."""
    sandbox: str
    """Level of isolation the programs ran at."""
    was_done: bool
    """Whether nothing had to be judged."""
    n_from_cache: int = 0
    """Programs whose verdict was known from an earlier run."""
    n_unanswered: int = 0
    """Of the faults, those that the graded file holds: its engine gave no answer."""
    known_exceptions: Mapping[str, str] = field(default_factory=dict)
    """Problem id -> why its reference solution fails here, where that is known and excused."""

    @property
    def n_faults(self) -> int:
        """Samples that could not be judged, by a failure of the engine or the grader."""
        return self.outcomes.get(Outcome.FAULT, 0)

    def as_json(self) -> dict[str, Any]:
        """What `grade --json` prints; scripts depend on it."""
        return {
            "task": self.task,
            "task_version": self.task_version,
            "scores": [score.model_dump(mode="json") for score in self.scores],
            "outcomes": self.outcomes,
            "run": str(self.run),
        }

    def rows(self) -> list[OutcomeRow]:
        """The outcome table."""
        return outcome_rows(read_run(self.run).read("verdicts", Verdict))


def grade(
    path: Path,
    task_name: str,
    *,
    data_dir: Path | None = None,
    out: Path | None = None,
    jobs: int | None = None,
    sandbox: str = "auto",
    limit_problems: int | None = None,
    limit_samples: int | None = None,
    references: bool = True,
    cache: bool = True,
    extra_tests: Path | None = None,
    progress: Progress = silent,
) -> GradeResult:
    """Judge and score the generations in `path`.

    Args:
        path: a file of generations; see `evaluation.imports` for the formats.
        task_name: what they answer, such as `humanevalfixtests-python`.
        data_dir: folder of benchmark files; else the `ASTRAIOS_DATA` variable, else the hub.
        out: the run folder; `runs/graded/<file>-<task>-<hash>` by default.
        jobs: programs that run at a time; one a core by default.
        sandbox: the level of isolation asked for.
        limit_problems: judge only the first so many problems.
        limit_samples: judge only the first so many samples of each problem.
        references: whether to run the reference solutions first.
        cache: whether verdicts of programs that ran on this machine before are used again.
        extra_tests: a file of more tests, for tasks that take them.
        progress: told (samples judged, samples in all, rate).

    Raises:
        UnknownNameError: there is no such task.
        ConfigError: the task takes no extra tests.
        MissingDataError: the file or the benchmark's data are not there.
        GenerationsError: the file does not fit the task; nothing was run.
        MissingToolError: a toolchain is not there; nothing was run.
        WorkError: reference solutions fail on this machine; no sample was run.
        RunError: `out` holds something else.
    """
    task = tasks.task(task_name)
    inputs = {"generations": checksum(path)}
    if extra_tests is not None:
        task = task.with_extra_tests(extra_tests)
    data_dir = resolve_data_dir(data_dir)
    problems = task.problems(data_dir)
    config = judge_config(
        task, jobs=jobs, limit_problems=limit_problems, limit_samples=limit_samples
    )
    generations = Generations(path, task, problems, data_dir, limit_problems, limit_samples)
    n_samples = generations.check(tasks.names())
    log.info("%s: %d samples of %s", path, n_samples, task.name)
    mark = digest([fingerprint(config), *inputs.values()])
    folder = out or GRADED / f"{_stem(path)}-{task.name}-{mark}"
    was_done = is_done(folder, config)
    run = judge(
        task,
        generations.samples(),
        folder,
        problems=problems,
        config=config,
        sandbox=sandbox,
        references=references,
        cache=cache,
        inputs=inputs,
        progress=progress,
    )
    return result_of(task, run, was_done)


def _stem(path: Path) -> str:
    """The file's name without what says its format: `1b-lora.json.gz` -> `1b-lora`."""
    name = path.name
    for suffix in (".gz", ".jsonl", ".json"):
        name = name.removesuffix(suffix)
    return name or "generations"


def result_of(task: tasks.Task[Any], run: Run, was_done: bool) -> GradeResult:
    """What the judged `run` of `task` found; `was_done`: whether nothing had to be judged."""
    outcomes: Counter[Outcome] = Counter()
    faults = set()
    for verdict in run.read("verdicts", Verdict):
        outcomes[verdict.outcome] += 1
        if verdict.outcome is Outcome.FAULT:
            faults.add((verdict.problem_id, verdict.index))
    return GradeResult(
        task=task.name,
        task_version=task.version,
        scores=_scores(task, run),
        outcomes={outcome: outcomes[outcome] for outcome in Outcome if outcomes[outcome]},
        run=run.folder,
        sandbox=run.manifest.environment.get("sandbox", ""),
        was_done=was_done and not outcomes[Outcome.FAULT],
        n_from_cache=int(run.manifest.counts.get("n_from_cache", 0)),
        n_unanswered=len(faults & _unanswered(run)) if faults else 0,
        known_exceptions=_references(run.folder).get("known_exceptions", {}),
    )


def _unanswered(run: Run) -> set[tuple[str, int]]:
    """Problem and index of the samples in the run itself that are faults of their engine."""
    samples = run.read("samples", Sample)
    return {(one.problem_id, one.index) for one in samples if one.finish is Finish.FAULT}


def _scores(task: tasks.Task[Any], run: Run) -> tuple[Score, ...]:
    """As judging left them; computed again where somebody removed the file."""
    path = run.folder / f"{SCORES}.json"
    if not path.exists():
        return tuple(scores_of(task, run))
    return tuple(Score.model_validate(row) for row in json.loads(path.read_bytes()))


def _references(folder: Path) -> dict[str, Any]:
    path = folder / f"{REFERENCES}.json"
    return dict(json.loads(path.read_bytes())) if path.exists() else {}


def outcome_rows(verdicts: Iterable[Verdict]) -> list[OutcomeRow]:
    """How many samples came to which end, with one example each."""
    counts: Counter[str] = Counter()
    examples: dict[str, Verdict] = {}
    for verdict in verdicts:
        kind = _kind(verdict)
        counts[kind] += 1
        examples.setdefault(kind, verdict)
    return [
        OutcomeRow(
            kind=str(kind).replace("_", " "),
            n=counts[kind],
            share=counts[kind] / counts.total(),
            problem_id=examples[kind].problem_id,
            index=examples[kind].index,
            detail=examples[kind].detail,
        )
        for kind in KINDS
        if counts[kind]
    ]


def _kind(verdict: Verdict) -> str:
    if verdict.outcome is not Outcome.FAILED:
        return verdict.outcome
    was_read = verdict.expected is not None  # nothing ran: the detail is what the model said
    wrong = was_read or not verdict.detail or _ASSERTION.search(verdict.detail)
    return WRONG_ANSWER if wrong else EXCEPTION
