"""A study as jobs: what is done, in which order, and in which folder.

A job's folder ends in a fingerprint of its config *and* of the jobs it builds on, so a changed
recipe never meets the leftovers of another one.

    base/<model>-<fp>                                 pretrain   (embedded base models only)
    data/<model>/<corpus>-<fp>                        pack       (one for all that share the data)
    train/<model>/<method>/seed<k>-<fp>               train
    eval/<model>/<method>/seed<k>/<task>-<fp>         generate
    eval/<model>/<method>/seed<k>/<task>-<fp>/judged-<fp>   judge
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from astraios import tasks
from astraios.config import digest, fingerprint, identity
from astraios.data.config import PackConfig
from astraios.errors import MissingDataError
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.generations_file import checksum
from astraios.evaluation.judge import JudgeConfig, judge_config
from astraios.records import RunKind
from astraios.studies.study import (
    ASKS,
    BASE,
    Arm,
    Study,
    arms,
    evaluation_config,
    training_config,
)
from astraios.tasks import Task
from astraios.training.config import EMBEDDED, PretrainingConfig, TrainingConfig, pack_config


@dataclass(frozen=True)
class Job:
    """One run folder to fill."""

    id: str
    """The folder, relative to the study's."""
    kind: RunKind
    config: PretrainingConfig | PackConfig | TrainingConfig | EvaluationConfig | JudgeConfig
    after: tuple[str, ...] = ()
    """Jobs whose results this one reads; all must be done before it."""
    label: str = ""
    """For progress lines."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Role -> id of the job that plays it; and see `answering`."""


def plan(study: Study) -> list[Job]:
    """All jobs of `study`, each after those it needs.

    Raises:
        ConfigError: if an arm's settings are wrong.
        MissingDataError: if a file of completions is not there.
        MissingToolError: if judging a task needs a toolchain that is not here.
        UnknownNameError: if a task is unknown.
    """
    asked: list[Task[Any]] = [tasks.task(name) for name in study.tasks]
    jobs: list[Job] = []
    for base_model in study.base_models:
        base = _pretrain(base_model)
        if base:
            jobs.append(base)
        first = list(_evaluate(study, Arm(base_model, BASE, 0), asked, base, None))
        checked = {job.config.task: job.id for job in first if isinstance(job.config, JudgeConfig)}
        jobs += first
        for arm in arms(study):
            if arm.base_model == base_model:
                packing = _pack(study, arm, base)
                if packing not in jobs:
                    jobs.append(packing)
                train = _train(study, arm, base, packing)
                jobs.append(train)
                jobs += _evaluate(study, arm, asked, base, train, checked)
    return jobs


def _pretrain(name: str) -> Job | None:
    config = EMBEDDED.get(name)
    if config is None:
        return None
    folder = f"base/{name}-{_fingerprint(config)}"
    return Job(folder, RunKind.PRETRAIN, config, label=f"pretrain {name}")


def _pack(study: Study, arm: Arm, base: Job | None) -> Job:
    config = pack_config(training_config(study, arm))
    inputs = {"base": base.id} if base else {}
    model, corpus = _name(arm.base_model), _name(config.corpus)
    return Job(
        f"data/{model}/{corpus}-{_fingerprint(config, *inputs.values())}",
        RunKind.PACK,
        config,
        after=tuple(inputs.values()),
        label=f"pack {corpus} for {model} seed {config.seed}",
        inputs=inputs,
    )


def _train(study: Study, arm: Arm, base: Job | None, packing: Job) -> Job:
    config = training_config(study, arm)
    inputs = {"base": base.id} if base else {}
    inputs["data"] = packing.id
    folder = f"train/{_name(arm.base_model)}/{arm.method}/seed{arm.seed}"
    return Job(
        f"{folder}-{_fingerprint(config, *inputs.values())}",
        RunKind.TRAIN,
        config,
        after=tuple(inputs.values()),
        label=f"tune {_name(arm.base_model)} {arm.method} seed {arm.seed}",
        inputs=inputs,
    )


def _evaluate(
    study: Study,
    arm: Arm,
    asked: Sequence[Task[Any]],
    base: Job | None,
    train: Job | None,
    checked: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Job]:
    """Generation and judging of one arm.

    `checked` names, for each task, the judging job that runs the reference solutions first: the one
    of the untuned base model. Where they fail, no other job of the task is run.
    """
    inputs = {"base": base.id} if base else {}
    if train:
        inputs["adapter"] = train.id
    who = f"{_name(arm.base_model)} {arm.method} seed {arm.seed}"
    for task in asked:
        config = evaluation_config(study, arm, task, adapter=train.id if train else None)
        folder = f"eval/{_name(arm.base_model)}/{arm.method}/seed{arm.seed}/{task.name}"
        asks = {**inputs, **answering(config)}
        generate = Job(
            f"{folder}-{_fingerprint(config, *asks.values())}",
            RunKind.GENERATE,
            config,
            after=tuple(inputs.values()),
            label=f"generate {who} {task.name}",
            inputs=asks,
        )
        yield generate
        judging = judge_config(task, jobs=1, limit_problems=study.limit_problems)
        judged = {"samples": generate.id}
        if task.name in checked:
            judged["references"] = checked[task.name]
        yield Job(
            f"{generate.id}/judged-{fingerprint(judging)}",
            RunKind.JUDGE,
            judging,
            after=tuple(judged.values()),
            label=f"judge {who} {task.name}",
            inputs=judged,
        )


def answering(config: EvaluationConfig) -> dict[str, str]:
    """What of the engine's options decides the answers, as inputs of a run: others, another run.

    That is the model and the endpoint a server is asked by, and the content of a file of
    completions.

    Raises:
        MissingDataError: if there is no such file.
    """
    options, inputs = config.engine_options, {}
    if config.engine == "replay" and "file" in options:
        file = Path(str(options["file"]))
        if not file.is_file():
            raise MissingDataError(f"generations file {str(file)!r} does not exist")
        inputs["completions"] = checksum(file)
    asked = {f"served-{name}": str(options[name]) for name in ASKS if options.get(name) is not None}
    return inputs | asked


def _fingerprint(config: BaseModel, *after: str) -> str:
    return digest({"config": identity(config), "after": list(after)})


def _name(base_model: str) -> str:
    """A folder name for a hub id or a path: its last part."""
    return base_model.rstrip("/").rsplit("/", 1)[-1]
