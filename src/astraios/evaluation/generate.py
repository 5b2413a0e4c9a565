"""The generation stage: a task's questions to an engine, its answers to a run folder.

    prompts.jsonl   every prompt that was asked
    samples.jsonl   every completion, appended as it finishes, in the order they finish
    cost.json       time, tokens and memory; sums over the sessions of an interrupted run
    parity.json     how the engine compared with `hf`, if it is another one

A run that was stopped at any point goes on where it was: what is on disk is not asked again, and
what is missing comes out as it would have. A prompt that the engine could not answer leaves a
sample that is a fault: the run is completed without it, sealed with the number of faults, and the
next call asks those prompts, and no others, again. A run whose engine was not compared with `hf`
takes up the comparison once one is made; nothing is asked again for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from astraios.errors import ConfigError, DataError, EngineError, ForeignRunError
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.parity import fact, is_owed
from astraios.files import read_json
from astraios.generation import Engine, Finished, Key
from astraios.generation.keys import key, wanted
from astraios.measure import Meter
from astraios.progress import Progress, silent
from astraios.records import Cost, Finish, Parity, Prompt, RunKind, Sample, Sampling
from astraios.runs import Run, read_run
from astraios.tasks import Problem, Task

log = logging.getLogger(__name__)


def generate(
    task: Task[Any],
    engine: Engine,
    sampling: Sampling,
    folder: Path,
    *,
    config: EvaluationConfig,
    problems: Sequence[Problem],
    template: str,
    limit: int | None = None,
    finished: Finished | None = None,
    inputs: Mapping[str, str] | None = None,
    parity: Parity | None = None,
    progress: Progress = silent,
) -> Run:
    """Ask `engine` every question of `task` and leave a sealed run in `folder`.

    A sealed run of the same config is returned as it is, unless it holds faults, which are asked
    again, or lacks the comparison `parity`, which is added. An unfinished run is completed.

    Args:
        task: asks; its later turns see the completions of the earlier ones.
        engine: answers.
        sampling: how completions are drawn.
        folder: the run folder, made if it is not there.
        config: identity of the run; must say the same as the other arguments.
        problems: the task's problems, in order.
        template: name of the instruction template.
        limit: ask only the first so many problems.
        finished: the rule that ends completions of the first turn early; the task's by default.
        inputs: name -> run id or data hash of what the engine's model was made from.
        parity: how `engine` compared with `hf`; see `studies.serving.trusted_engine`.
        progress: told (samples done, samples in this turn, tokens per second).

    Returns:
        The run, open for reading.

    Raises:
        ConfigError: if `config` contradicts the other arguments.
        DataError: if two problems share an id, or a prompt does not fit the model.
        RunError: if `folder` holds another run, or one whose prompts were others.
        EngineError: if the engine dies or answers what it was not asked.
    """
    _must_agree(config, task, sampling, template, limit)
    problems = problems[:limit]
    by_id = {problem.id: problem for problem in problems}
    if len(by_id) < len(problems):
        ids = [problem.id for problem in problems]
        twice = next(name for name in by_id if ids.count(name) > 1)
        raise DataError(f"task {task.name!r}: two problems have the id {twice!r}")
    with Run.open(folder, kind=RunKind.GENERATE, config=config, inputs=inputs) as run:
        if run.done and run.manifest.counts.get("n_faults"):
            run.reopen()
        elif run.done and parity is not None and is_owed(run.manifest, config):
            _add_comparison(run, engine, parity)
        if not run.done:
            session = _Session(run, task, engine, sampling, finished, progress)
            session.go(by_id, template, parity)
    return read_run(folder)


def _must_agree(
    config: EvaluationConfig, task: Task[Any], sampling: Sampling, template: str, limit: int | None
) -> None:
    """The config names the run, so it must say what is done."""
    said = (config.task, config.task_version, config.template, config.limit_problems)
    done = (task.name, task.version, template, limit)
    names = ("task", "task_version", "template", "limit_problems")
    for name, one, other in zip(names, said, done, strict=True):
        if one != other:
            raise ConfigError(f"config.{name} is {one!r} but the run is to use {other!r}")
    if config.sampling != sampling:
        raise ConfigError(
            f"config.sampling is {config.sampling!r} but the run is to use {sampling!r}"
        )


def _add_comparison(run: Run, engine: Engine, parity: Parity) -> None:
    """Say in a sealed run that its engine was compared after all, if it is the same engine."""
    before, counts = run.manifest.environment, run.manifest.counts
    changed = [
        f"{name} {before.get(name)!r}, now {value!r}"
        for name, value in engine.environment().items()
        if before.get(name) != value
    ]
    if changed:
        raise ForeignRunError(
            f"run folder {str(run.folder)!r} was made with parity=skip by an engine that has "
            f"changed since ({', '.join(changed)}), so a comparison says nothing about it; leave "
            "parity=skip, or remove the folder to generate afresh"
        )
    run.reopen()
    run.write_json("parity", parity)
    run.seal(counts=counts, environment={"parity": fact(parity)})


class _Session:
    """One stretch of work on a run, from opening it to sealing it or being stopped."""

    def __init__(
        self,
        run: Run,
        task: Task[Any],
        engine: Engine,
        sampling: Sampling,
        finished: Finished | None,
        progress: Progress,
    ) -> None:
        self._run = run
        self._task = task
        self._engine = engine
        self._sampling = sampling
        self._finished = finished
        self._progress = progress
        self._meter = Meter(wall_s=self._spent().wall_s, cpu_s=self._spent().cpu_s)
        self._helpers_from_s = engine.helpers_cpu_s()
        self._prompts = {_prompt_key(p): p for p in run.read("prompts", Prompt)}
        self._samples = self._take_up()
        self._n_tokens = 0
        self._began = time.monotonic()

    def _take_up(self) -> dict[Key, Sample]:
        """The samples that are there; faults among them are dropped and asked again."""
        found = list(self._run.read("samples", Sample))
        kept = [sample for sample in found if sample.finish is not Finish.FAULT]
        if len(kept) < len(found):
            log.info("%s: %d faults are asked again", self._run.folder, len(found) - len(kept))
            self._run.rewrite("samples", kept)
        return {key(sample): sample for sample in kept}

    def go(self, problems: Mapping[str, Problem], template: str, parity: Parity | None) -> None:
        """Turn after turn, until the task has no more questions."""
        if parity is not None:
            self._run.write_json("parity", parity)
        if self._samples:
            log.info("%s: %d samples are there already", self._run.folder, len(self._samples))
        turn = 0
        try:
            while prompts := list(self._questions(problems, template, turn)):
                self._write_prompts(prompts)
                self._answer(prompts)
                turn += 1
        finally:
            self._run.write_json("cost", self._cost())
        self._tell_faults()
        about = {} if parity is None else {"parity": fact(parity)}
        self._run.seal(
            counts={"n_problems": len(problems), **self._counts()},
            environment={**self._engine.environment(), **about},
        )

    def _faults(self) -> list[Sample]:
        return [sample for sample in self._samples.values() if sample.finish is Finish.FAULT]

    def _counts(self) -> dict[str, float]:
        counts: dict[str, float] = {"n_samples": len(self._samples)}
        counts["n_faults"] = len(self._faults())
        cut = {
            (sample.problem_id, sample.turn, sample.prompt_sha): sample.n_cut_tokens
            for sample in self._samples.values()
            if sample.n_cut_tokens
        }
        if cut:
            counts |= {"n_cut_prompts": len(cut), "n_cut_tokens": sum(cut.values())}
        return counts

    def _tell_faults(self) -> None:
        faults = self._faults()
        if faults:
            log.warning(
                "%s: %d of %d samples are faults, such as problem %r, sample %d: %s; run the "
                "command again to ask them again",
                self._run.folder, len(faults), len(self._samples),
                faults[0].problem_id, faults[0].index, faults[0].fault,
            )  # fmt: skip

    def _questions(
        self, problems: Mapping[str, Problem], template: str, turn: int
    ) -> Iterator[Prompt]:
        """The prompts of a turn: one a problem at first, then one a sample."""
        for problem in problems.values():
            if turn == 0:
                prompt = self._task.prompt(problem, (), template)
                if prompt is not None:
                    yield self._spelled(prompt, turn, None)
                continue
            for index in range(self._sampling.n_samples):
                keys = [(problem.id, index, earlier) for earlier in range(turn)]
                last = self._samples.get(keys[-1])
                if last is None or last.finish is Finish.FAULT:
                    continue
                turns = tuple(self._samples[earlier].completion for earlier in keys)
                prompt = self._task.prompt(problem, turns, template)
                if prompt is not None:
                    yield self._spelled(prompt, turn, index)

    def _spelled(self, prompt: Prompt, turn: int, index: int | None) -> Prompt:
        placed = prompt.model_copy(update={"turn": turn, "index": index})
        return self._engine.spelled(placed)

    def _write_prompts(self, prompts: Sequence[Prompt]) -> None:
        fresh = []
        for prompt in prompts:
            known = self._prompts.get(_prompt_key(prompt))
            if known is None:
                fresh.append(prompt)
            elif known != prompt:
                raise ForeignRunError(
                    f"run folder {str(self._run.folder)!r}: problem {prompt.problem_id!r} had "
                    "another prompt before the run was stopped; the task's data or code has "
                    "changed: choose another folder, or remove this one to start afresh"
                )
        self._run.append("prompts", *fresh)
        self._prompts.update((_prompt_key(prompt), prompt) for prompt in fresh)

    def _answer(self, prompts: Sequence[Prompt]) -> None:
        skip = frozenset(self._samples)
        missing: set[Key] = {
            (prompt.problem_id, index, prompt.turn)
            for prompt in prompts
            for index in wanted(prompt, self._sampling, skip)
        }
        if not missing:
            return
        total = sum(len(wanted(prompt, self._sampling, frozenset())) for prompt in prompts)
        n_faults = 0

        def tell(n_tokens: int) -> None:
            self._n_tokens += n_tokens
            rate = self._n_tokens / max(time.monotonic() - self._began, 1e-9)
            note = f"{rate:,.0f} tokens/s" + (f", {n_faults} faults" if n_faults else "")
            self._progress(total - len(missing), total, note)

        turn = prompts[0].turn
        finished = self._task.finished(turn)
        if turn == 0 and self._finished is not None:
            finished = self._finished
        answers = self._engine.complete(
            prompts, self._sampling, finished=finished, skip=skip, progress=tell
        )
        for sample in answers:
            if key(sample) not in missing:
                raise EngineError(
                    f"engine {self._engine.name!r} answered problem {sample.problem_id!r}, sample "
                    f"{sample.index}, turn {sample.turn}, which it was not asked or has answered"
                )
            self._run.append("samples", sample)
            self._samples[key(sample)] = sample
            missing.discard(key(sample))
            n_faults += sample.finish is Finish.FAULT
            tell(0)
        if missing:
            problem_id, index, turn = min(missing)
            raise EngineError(
                f"engine {self._engine.name!r} left {len(missing)} of {total} samples unanswered "
                f"(problem {problem_id!r}, sample {index}, turn {turn}); run the command again"
            )

    def _spent(self) -> Cost:
        """What earlier sessions of this run cost."""
        path = self._run.folder / "cost.json"
        if path.exists():
            return read_json(path, Cost)
        return Cost(wall_s=0, cpu_s=0, n_tokens=0, tokens_per_s=0, peak_mib=0)

    def _cost(self) -> Cost:
        n_tokens = sum(sample.n_completion_tokens for sample in self._samples.values())
        wall_s = self._meter.wall_s
        peak_mib = self._engine.peak_mib()
        return Cost(
            wall_s=wall_s,
            cpu_s=self._meter.cpu_s + self._engine.helpers_cpu_s() - self._helpers_from_s,
            n_tokens=n_tokens,
            tokens_per_s=n_tokens / max(wall_s, 1e-9),
            peak_mib=max(
                self._spent().peak_mib, self._meter.peak_mib if peak_mib is None else peak_mib
            ),
            total_parameters=self._engine.n_parameters(),
        )


def _prompt_key(prompt: Prompt) -> tuple[str, int, int | None]:
    return prompt.problem_id, prompt.turn, prompt.index
