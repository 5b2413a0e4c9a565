"""The judging stage: samples to verdicts.

    problems.jsonl    what a report shows of each problem
    references.json   how the reference solutions fared on this machine, before anything else ran
    verdicts.jsonl    one line a sample, by problem and index, whatever finished first
    scores.json       the numbers of the whole task

A judged run is a pure function of problems, programs, limits and tool versions, all of which are in
its config or inputs; the times in a verdict are the exception. Identical programs of a problem run
once, and those that ran on this machine before do not run at all (`cache`): the verdicts are the
same either way. Lines are appended as soon as all before them are there, so a stopped run holds a
beginning of the file it would have become, and the same call completes it. Memory does not grow
with the number of samples.

A sample that its engine did not answer is a fault, and nothing is run for it. Once the generation
has been repaired, judging again judges those samples and no others.
"""

from __future__ import annotations

import json
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
from astraios.config import OPERATIONAL, Config, cache_dir, digest, sandbox_level
from astraios.errors import DataError, ForeignRunError
from astraios.evaluation.answers import Answer, Answers
from astraios.evaluation.cache import Remembering, VerdictCache
from astraios.evaluation.evidence import Checking, Slot
from astraios.evaluation.references import check_references
from astraios.evaluation.score import SCORES, scores_of
from astraios.languages import Language
from astraios.progress import Progress, silent
from astraios.records import Execution, Outcome, Program, RunKind, Sample, Verdict
from astraios.runs import MANIFEST, Run, is_done, read_run
from astraios.sandbox import Sandbox, open_sandbox
from astraios.tasks import Problem, Task

log = logging.getLogger(__name__)

REFERENCES = "references"
"""Name of the JSON file with how the references fared."""
N_WAITING = 16_384
"""Verdicts that may wait for one before them; 1.5 KiB each. With more of them nothing new is
started until that one is there: a program of 10 s among short ones fills it on 16 cores or more."""
COPIED_AT_ONCE = 1 << 18
"""Characters of samples."""
TELL_EVERY_S = 0.1


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
        checker = checker or registry.load(checkers, "checker", task.checker, Checker)
        for name in task.languages:
            language = registry.load(languages, "language", name, Language)
            tools |= language.toolchain()
            limits[name] = asdict(language.limits)
        tools |= task.tools()
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
    references: bool | Mapping[str, Any] = True,
    cache: bool = True,
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
        references: whether to run the reference solutions first, or how they fared on this machine
            where that is known of the same task and problems.
        cache: whether what ran on this machine before is taken from `config.cache_dir`, and what
            runs now is put there.
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
        checking = remembering = None
        if config.checker is not None:
            checker = checker or registry.load(checkers, "checker", config.checker, Checker)
            if isinstance(sandbox, str):
                sandbox = stack.enter_context(open_sandbox(sandbox_level(sandbox), config.jobs))
            environment |= {**sandbox.describe(), "sandbox": sandbox.level}
            if cache and (home := cache_dir()) is not None:
                known = stack.enter_context(VerdictCache(home))
                checker = remembering = Remembering(checker, known, _about(config))
            checking = Checking(checker, sandbox)
        run = stack.enter_context(
            Run.open(
                folder, kind=RunKind.JUDGE, config=config, inputs=inputs, environment=environment
            )
        )
        _same_sandbox(run, environment)
        there = (folder / f"{REFERENCES}.json").exists()
        if checking is not None and references is not False and not there:
            report = (
                references
                if isinstance(references, Mapping)
                else check_references(task, problems, checking.checker, checking.sandbox)
            )
            run.write_json(REFERENCES, report)
        where = _sealed(samples) if isinstance(samples, Path) else _copy_samples(run, samples)
        answers = Answers(where, [p.id for p in problems], limit_samples=config.limit_samples)
        if run.done:  # with faults
            run.reopen()
        _Session(run, task, problems, answers, progress, remembering).go(checking)
    return read_run(folder)


def _about(config: JudgeConfig) -> dict[str, Any]:
    """What beside a program, its checker and the sandbox can move its verdict."""
    return {
        "task_version": config.task_version,
        "tools": config.tools,
        "limits": config.limits,
        "control": True,  # as checkers do unless asked otherwise
    }


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
        n_samples = n_characters = 0
        some: list[Sample] = []
        for sample in samples:
            some.append(sample)
            n_samples += 1
            n_characters += len(sample.completion)
            if n_characters > COPIED_AT_ONCE:
                run.append("samples", *some)
                n_characters = 0
                some.clear()
        run.append("samples", *some)
        run.write_json("imported", {"n_samples": n_samples})
    return run.folder


# --- the run ----------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Line:
    """The place of one verdict in the file."""

    verdict: Verdict | None = None


@dataclass
class _Session:
    """One stretch of work on a run, from opening it to sealing it or being stopped."""

    run: Run
    task: Task[Any]
    problems: Sequence[Problem]
    answers: Answers
    progress: Progress
    remembering: Remembering | None = None
    _lines: deque[_Line] = field(default_factory=deque)
    """What comes next in the file; the first of them waits for its verdict."""
    _behind: dict[Slot, list[tuple[_Line, Problem, Answer]]] = field(default_factory=dict)
    """Slot without evidence -> the answers that wait for it."""
    _is_through: bool = False
    """Whether the last answer has been given to the checker."""
    _judged: dict[str, set[int]] = field(default_factory=dict)
    _outcomes: Counter[str] = field(default_factory=Counter)
    _n_before: int = 0
    _began: float = field(default_factory=time.monotonic)
    _told: float = 0.0

    def go(self, checking: Checking | None) -> None:
        """Judge what is missing, score, seal."""
        self._take_up()
        if not (self.run.folder / "problems.jsonl").exists():
            self.run.rewrite("problems", [self.task.card(problem) for problem in self.problems])
        n_found = self._n_found()
        self._tell()
        slots = self._slots()
        while not self._is_through:
            some = self._until_too_many_wait(slots)
            for slot in checking.run(some) if checking is not None else some:
                for line, problem, answer in self._behind.pop(slot, ()):
                    line.verdict = self._verdict(problem, answer, slot)
                self._flush()
        self._flush()
        assert not self._lines
        self._tell()
        scores = scores_of(self.task, self.run)
        self.run.write_json(SCORES, scores)
        self.run.seal(
            counts={
                "n_problems": len(self.problems),
                "n_samples": len(self.answers),
                "n_faults": self._outcomes[Outcome.FAULT],
                "n_references": _n_references(self.run.folder),
                "n_from_cache": self._n_found() - n_found,
                **{f"n_{outcome}": n for outcome, n in sorted(self._outcomes.items())},
            }
        )

    def _n_found(self) -> int:
        return self.remembering.n_found if self.remembering is not None else 0

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

    def _until_too_many_wait(self, slots: Iterator[Slot]) -> Iterator[Slot]:
        """`slots`, ending early where one program holds up too many verdicts."""
        for slot in slots:
            yield slot
            if len(self._lines) >= N_WAITING:
                return
        self._is_through = True

    def _slots(self) -> Iterator[Slot]:
        """One slot for each distinct program of a problem, in order; answers wait behind theirs."""
        for problem in self.problems:
            judged = self._judged.pop(problem.id, set())
            slots: dict[bytes, Slot] = {}
            for answer in self.answers.of(problem.id):
                if answer.index in judged:
                    continue
                self._lines.append(line := _Line())
                if answer.fault is not None:
                    line.verdict = self._fault(problem, answer, answer.fault)
                    self._flush()
                    continue
                program = self._program(problem, answer)
                if program is None:
                    line.verdict = self._verdict(problem, answer, Slot(None))
                    self._flush()
                    continue
                key = sha256(program.text.encode("utf-8", "surrogatepass")).digest()
                if key in slots and slots[key].is_ready:
                    line.verdict = self._verdict(problem, answer, slots[key])
                    continue
                is_new = key not in slots
                slot = slots.setdefault(key, Slot(program))
                self._behind.setdefault(slot, []).append((line, problem, answer))
                if is_new:
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

    def _verdict(self, problem: Problem, answer: Answer, slot: Slot) -> Verdict:
        verdict = self.task.verdict(problem, answer.index, answer.turns, slot.evidence)
        if answer.likelihoods is None:
            return verdict
        return verdict.model_copy(update={"log_odds": self.task.log_odds(answer.likelihoods)})

    def _fault(self, problem: Problem, answer: Answer, why: str) -> Verdict:
        """The verdict of a sample without an answer, in the slice and group of its problem."""
        fault = Execution(outcome=Outcome.FAULT, message=why)
        evidence = None if self.task.checker is None else fault
        verdict = self.task.verdict(problem, answer.index, answer.turns, evidence)
        nothing = {"answer": None, "readings": None, "log_odds": None}
        return verdict.model_copy(update={"outcome": Outcome.FAULT, "detail": why, **nothing})

    def _flush(self) -> None:
        """Write the verdicts that nothing before them is missing for."""
        verdicts = []
        while self._lines and (verdict := self._lines[0].verdict) is not None:
            self._lines.popleft()
            self._outcomes[verdict.outcome] += 1
            verdicts.append(verdict)
        if verdicts:
            self.run.append("verdicts", *verdicts)
            if time.monotonic() - self._told > TELL_EVERY_S:
                self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        n = self._outcomes.total()
        rate = (n - self._n_before) / max(self._told - self._began, 1e-9)
        self.progress(n, len(self.answers), f"{rate:,.0f} samples/s")


def _n_references(folder: Path) -> int:
    """Reference programs that fared as they must; none where the check was left out."""
    path = folder / f"{REFERENCES}.json"
    report = json.loads(path.read_bytes()) if path.exists() else {}
    return sum(n for name, n in report.items() if name.startswith("n_"))
