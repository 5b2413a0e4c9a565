"""The judging stage: samples to verdicts.

    problems.jsonl    what a report shows of each problem
    references.json   how the reference solutions fared on this machine, before anything else ran
    verdicts.jsonl    one line a sample, by problem and index, whatever finished first
    scores.json       the numbers of the whole task

A judged run is a pure function of problems, programs, limits and tool versions, all of which are in
its config or inputs; the times in a verdict are the exception. Identical programs of a problem run
once. Lines are appended as soon as all before them are there, so a stopped run holds a beginning of
the file it would have become, and the same call completes it. Memory does not grow with the number
of samples.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import Field

from astraios import checkers, languages, registry
from astraios.checkers import Checker
from astraios.config import OPERATIONAL, Config, digest
from astraios.errors import DataError, ForeignRunError, SandboxError
from astraios.evaluation.answers import Answer, Answers
from astraios.evaluation.references import check_references
from astraios.evaluation.score import SCORES, scores_of
from astraios.progress import Progress, silent
from astraios.records import (
    Execution,
    Findings,
    Outcome,
    Program,
    RunKind,
    Sample,
    Verdict,
)
from astraios.runs import MANIFEST, Run, is_done, read_run
from astraios.sandbox import Sandbox, open_sandbox
from astraios.tasks import Problem, Task

log = logging.getLogger(__name__)

N_TRIES = 3
"""Runs of one program before a fault of ours is reported."""


class JudgeConfig(Config):
    """What can change a verdict."""

    task: str
    """Full name, without the edition."""
    task_version: str
    """Edition and revision."""
    checker: str | None
    """What makes the evidence; None where the verdict reads the text."""
    checker_version: str = ""
    tools: dict[str, str] = Field(default_factory=dict)
    """Name -> version of every tool that running the programs needs."""
    limits: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Language -> what one program may use."""
    limit_problems: int | None = Field(default=None, ge=1)
    """Judge only the first so many problems."""
    limit_samples: int | None = Field(default=None, ge=1)
    """Judge only the first so many samples of each problem."""
    jobs: int | None = Field(default=None, ge=1, json_schema_extra=OPERATIONAL)
    """Programs that run at a time; one a core by default."""


def judge_config(
    task: Task[Any],
    *,
    jobs: int | None = None,
    limit_problems: int | None = None,
    limit_samples: int | None = None,
    checker: Checker | None = None,
) -> JudgeConfig:
    """The config by which `task` is judged on this machine.

    Raises:
        MissingToolError: if a toolchain is not there; names the package that brings it.
    """
    tools: dict[str, str] = {}
    limits: dict[str, dict[str, float]] = {}
    if task.checker is not None:
        checker = checker or registry.load(checkers, "checker", task.checker)
        for name in task.languages:
            language = registry.load(languages, "language", name)
            tools |= language.toolchain()
            limits[name] = asdict(language.limits)
    return JudgeConfig(
        task=task.name,
        task_version=task.version,
        checker=task.checker,
        checker_version=checker.version() if checker is not None else "",
        tools=tools,
        limits=limits,
        limit_problems=limit_problems,
        limit_samples=limit_samples,
        jobs=jobs,
    )


def judge(
    task: Task[Any],
    samples: Path | Iterable[Sample],
    folder: Path,
    *,
    problems: Sequence[Problem],
    config: JudgeConfig | None = None,
    sandbox: str | Sandbox = "auto",
    references: bool = True,
    inputs: Mapping[str, str] | None = None,
    checker: Checker | None = None,
    progress: Progress = silent,
) -> Run:
    """Judge `samples` of `task` and leave a sealed run in `folder`.

    A sealed run of the same config is returned as it is, unless it holds faults: those are tried
    again. An unfinished run is completed.

    Args:
        task: assembles the programs and decides.
        samples: the folder that holds them, or the samples themselves, which are then copied to
            `folder` first and read only if they are not there yet.
        folder: the run folder, made if it is not there.
        problems: the task's problems, in order.
        config: see `judge_config`, its default.
        sandbox: the level of isolation asked for, or an open sandbox, which stays open.
        references: whether to run the reference solutions first.
        inputs: name -> run id or data hash of what is judged.
        checker: in place of the one that the task names.
        progress: told (samples judged, samples in all, rate).

    Returns:
        The run, open for reading.

    Raises:
        MissingToolError: a toolchain is not there; nothing was run.
        WorkError: reference solutions fail on this machine; no sample was run.
        UnfinishedRunError: the run that holds the samples is not sealed.
        DataError: samples that are incomplete or there twice.
        RunError: if `folder` holds another run.
        SandboxError: if the sandbox died, or is weaker than asked for.
    """
    config = config or judge_config(task, checker=checker)
    problems = problems[: config.limit_problems]
    inputs = {**(inputs or {}), "problems": digest([asdict(problem) for problem in problems])}
    if _is_finished(folder, config, inputs):
        log.info("%s: judged already", folder)
        return read_run(folder)
    with ExitStack() as stack:
        environment = dict(config.tools)
        checking = None
        if config.checker is not None:
            checker = checker or registry.load(checkers, "checker", config.checker)
            if isinstance(sandbox, str):
                sandbox = stack.enter_context(open_sandbox(sandbox, config.jobs))
            environment |= {**sandbox.describe(), "sandbox": sandbox.level}
            checking = _Checking(checker, sandbox)
        run = stack.enter_context(
            Run.open(
                folder, kind=RunKind.JUDGE, config=config, inputs=inputs, environment=environment
            )
        )
        _same_sandbox(run, environment)
        if checking is not None and references and not (folder / "references.json").exists():
            report = check_references(task, problems, checking.checker, checking.sandbox)
            run.write_json("references", report)
        where = _sealed(samples) if isinstance(samples, Path) else _copy_samples(run, samples)
        answers = Answers(where, [p.id for p in problems], limit_samples=config.limit_samples)
        _Session(run, task, problems, answers, progress).go(checking)
    return read_run(folder)


def _is_finished(folder: Path, config: JudgeConfig, inputs: Mapping[str, str]) -> bool:
    """Whether there is nothing to do; no lock is taken, so the folder may be read-only."""
    if not is_done(folder, config):
        return False
    manifest = read_run(folder).manifest
    return manifest.inputs == inputs and not manifest.counts.get("n_faults")


def _same_sandbox(run: Run, environment: Mapping[str, str]) -> None:
    before, after = run.manifest.environment.get("sandbox"), environment.get("sandbox")
    if before != after:
        raise ForeignRunError(
            f"run folder {str(run.folder)!r} was begun in a sandbox of level {before!r}, "
            f"this one is {after!r}; choose another folder, or remove this one to start afresh"
        )


def _sealed(samples: Path) -> Path:
    """`samples`, which may be any folder with sample files but no run that still generates."""
    if (samples / MANIFEST).exists():
        read_run(samples)
    return samples


def _copy_samples(run: Run, samples: Iterable[Sample]) -> Path:
    """Put `samples` into the run; a copy that was cut short is made again."""
    if not (run.folder / "imported.json").exists():
        run.rewrite("samples", ())
        n_samples = 0
        for sample in samples:
            run.append("samples", sample)
            n_samples += 1
        run.write_json("imported", {"n_samples": n_samples})
    return run.folder


# --- evidence ---------------------------------------------------------------------------------


@dataclass
class _Slot:
    """A program to run once, for all answers that come to it."""

    program: Program | None
    evidence: Execution | Findings | None = None
    ready: bool = False
    n_tries: int = 0


class _Checking:
    """Feeds slots to the checker and takes the evidence back; tries faults again."""

    def __init__(self, checker: Checker, sandbox: Sandbox) -> None:
        self.checker = checker
        self.sandbox = sandbox
        self._again: deque[_Slot] = deque()
        self._out: dict[int, _Slot] = {}

    def run(self, slots: Iterator[_Slot]) -> Iterator[_Slot]:
        """Yield every slot once, when its evidence is there."""
        yield from self._pass(slots)
        while self._again:  # faults that came back when nothing was left to feed
            yield from self._pass(iter(()))

    def _pass(self, slots: Iterator[_Slot]) -> Iterator[_Slot]:
        self._out.clear()
        for position, evidence in self.checker.check(self._programs(slots), self.sandbox):
            slot = self._out.pop(position)
            slot.n_tries += 1
            if _is_fault(evidence) and slot.n_tries < N_TRIES:
                self._again.append(slot)
                continue
            slot.evidence, slot.ready, slot.program = evidence, True, None
            yield slot
        if self._out:
            raise SandboxError(
                f"the checker left {len(self._out)} programs without an answer; "
                "run the same command again to judge them"
            )

    def _programs(self, slots: Iterator[_Slot]) -> Iterator[Program]:
        for position, slot in enumerate(self._with_second_tries(slots)):
            assert slot.program is not None
            self._out[position] = slot
            yield slot.program

    def _with_second_tries(self, slots: Iterator[_Slot]) -> Iterator[_Slot]:
        for slot in slots:
            while self._again:
                yield self._again.popleft()
            yield slot
        while self._again:
            yield self._again.popleft()


def _is_fault(evidence: Execution | Findings) -> bool:
    return isinstance(evidence, Execution) and evidence.outcome is Outcome.FAULT


# --- the run ----------------------------------------------------------------------------------


@dataclass
class _Session:
    """One stretch of work on a run, from opening it to sealing it or being stopped."""

    run: Run
    task: Task[Any]
    problems: Sequence[Problem]
    answers: Answers
    progress: Progress
    _waiting: deque[tuple[Problem, Answer, _Slot]] = field(default_factory=deque)
    """Answers in the order of the file; the first ones wait for evidence."""
    _judged: dict[str, set[int]] = field(default_factory=dict)
    _outcomes: Counter[str] = field(default_factory=Counter)
    _n_before: int = 0
    _began: float = field(default_factory=time.monotonic)

    def go(self, checking: _Checking | None) -> None:
        """Judge what is missing, score, seal."""
        self._take_up()
        if not (self.run.folder / "problems.jsonl").exists():
            self.run.rewrite("problems", [self.task.card(problem) for problem in self.problems])
        self._tell()
        slots = self._slots()
        for _ in checking.run(slots) if checking is not None else slots:
            self._flush()
        self._flush()
        assert not self._waiting
        scores = scores_of(self.task, self.run)
        self.run.write_json(SCORES, scores)
        self.run.seal(
            counts={
                "n_problems": len(self.problems),
                "n_samples": len(self.answers),
                "n_faults": self._outcomes[Outcome.FAULT],
                **{f"n_{outcome}": n for outcome, n in sorted(self._outcomes.items())},
            }
        )

    def _take_up(self) -> None:
        """Count the verdicts that are there; faults among them are dropped and judged again."""
        faults = False
        for verdict in self.run.read("verdicts", Verdict):
            if verdict.outcome is Outcome.FAULT:
                faults = True
                continue
            self._judged.setdefault(verdict.problem_id, set()).add(verdict.index)
            self._outcomes[verdict.outcome] += 1
        self._n_before = self._outcomes.total()
        if faults:
            verdicts = self.run.read("verdicts", Verdict)
            self.run.rewrite("verdicts", (v for v in verdicts if v.outcome is not Outcome.FAULT))
        elif not self._n_before:
            self.run.append("verdicts")  # the file is there even if no sample is
        else:
            log.info("%s: %d samples are judged already", self.run.folder, self._n_before)

    def _slots(self) -> Iterator[_Slot]:
        """One slot for each distinct program of a problem, in order; answers wait behind theirs."""
        for problem in self.problems:
            judged = self._judged.pop(problem.id, set())
            slots: dict[bytes, _Slot] = {}
            for answer in self.answers.of(problem.id):
                if answer.index in judged:
                    continue
                program = self._program(problem, answer)
                if program is None:
                    slot = _Slot(None, ready=True)
                    self._waiting.append((problem, answer, slot))
                    self._flush()
                    continue
                key = sha256(program.text.encode("utf-8", "surrogatepass")).digest()
                twin = slots.get(key)
                slot = twin or slots.setdefault(key, _Slot(program))
                self._waiting.append((problem, answer, slot))
                if twin is None:
                    yield slot

    def _program(self, problem: Problem, answer: Answer) -> Program | None:
        if answer.final:
            return self.task.final_program(problem, answer.turns[-1])
        if self.task.prompt(problem, answer.turns, self.task.template) is not None:
            raise DataError(
                f"sample {answer.index} of problem {problem.id!r} has {len(answer.turns)} turns, "
                f"and {self.task.name} asks for more; complete the run that generates"
            )
        return self.task.program(problem, answer.turns)

    def _flush(self) -> None:
        """Write the verdicts that nothing before them is missing for."""
        verdicts = []
        while self._waiting and self._waiting[0][2].ready:
            problem, answer, slot = self._waiting.popleft()
            verdict = self.task.verdict(problem, answer.index, answer.turns, slot.evidence)
            self._outcomes[verdict.outcome] += 1
            verdicts.append(verdict)
        if verdicts:
            self.run.append("verdicts", *verdicts)
            self._tell()

    def _tell(self) -> None:
        n = self._outcomes.total()
        rate = (n - self._n_before) / max(time.monotonic() - self._began, 1e-9)
        self.progress(n, len(self.answers), f"{rate:,.0f} samples/s")
