"""A study as jobs: what is done, in which order, and in which folder.

A job's folder ends in a fingerprint of its config *and* of the jobs it builds on, so a changed
recipe never meets the leftovers of another one. A learning rate that is yet to be chosen has no
part in a fingerprint: the search that chooses it has.

    base/<model>-<fp>                                 pretrain   (embedded base models only)
    data/<model>/<corpus>-<fp>                        pack       (one for all that share the data)
    search/<model>/<method>/rung<k>/<rate>-<fp>       train      (trials of a learning rate)
    search/<model>/<method>/rung<k>-<fp>              search     (which of them go on; the last
                                                                 is called chosen-<fp>)
    train/<model>/<method>/seed<k>-<fp>               train
    eval/<model>/<method>/seed<k>/<task>-<fp>         generate
    eval/<model>/<method>/seed<k>/<task>-<fp>/judged-<fp>   judge
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from astraios import tasks
from astraios.config import digest, fingerprint, identity
from astraios.data.config import DataConfig, PackConfig
from astraios.errors import ConfigError, MissingDataError, MissingToolError
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.generations_file import checksum
from astraios.evaluation.judge import JudgeConfig, judge_config
from astraios.records import RunKind
from astraios.studies.overrides import ASKS
from astraios.studies.search import SearchConfig
from astraios.studies.study import (
    BASE,
    Arm,
    Study,
    arms,
    evaluation_config,
    search_of,
    training_config,
)
from astraios.tasks import Task
from astraios.training.config import EMBEDDED, PretrainingConfig, TrainingConfig, pack_config

Configs = (
    PretrainingConfig | PackConfig | TrainingConfig | SearchConfig | EvaluationConfig | JudgeConfig
)


@dataclass(frozen=True)
class Place:
    """Where a learning rate comes from when its training begins."""

    search: str
    """Id of the job that ranked the rates."""
    rank: int = 0
    """0 is the best of them."""


@dataclass(frozen=True)
class Job:
    """One run folder to fill."""

    id: str
    """The folder, relative to the study's."""
    kind: RunKind
    config: Configs
    after: tuple[str, ...] = ()
    """Jobs whose results this one reads; all must be done before it."""
    label: str = ""
    """For progress lines."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Role -> id of the job that plays it; and see `answering`."""
    place: Place | None = None
    """Where the learning rate of a training comes from, if it is not its config's."""

    @property
    def is_trial(self) -> bool:
        """Whether the training is one of a search: its losses count, its weights do not."""
        return "trial-of" in self.inputs


class _Ordered(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def after(self) -> tuple[str, ...]: ...


J = TypeVar("J", bound=_Ordered)


def in_order(jobs: Iterable[J], source: str = "plan") -> list[J]:
    """`jobs` as they are, each found behind those it builds on.

    Raises:
        ConfigError: if two have one id, one builds on a job that is not there, or some build on
            each other in a circle; names them.
    """
    listed = list(jobs)
    known = {job.id for job in listed}
    seen: set[str] = set()
    for job in listed:
        if job.id in seen:
            raise ConfigError(f"{source}: job {job.id!r} is there twice; remove one")
        seen.add(job.id)
        if missing := [name for name in job.after if name not in known]:
            raise ConfigError(
                f"{source}: job {job.id!r} comes after {missing[0]!r}, which is no job of the plan"
            )
    waiting, done, order = {job.id: job for job in listed}, set[str](), list[J]()
    while waiting:
        ready = [job for job in waiting.values() if done.issuperset(job.after)]
        if not ready:
            raise ConfigError(
                f"{source}: jobs wait for each other in a circle: {_circle(waiting)}; remove one "
                "of these from `after`"
            )
        for job in ready:
            order.append(waiting.pop(job.id))
            done.add(job.id)
    ranks = {job.id: place for place, job in enumerate(listed)}
    straight = all(ranks[name] < ranks[job.id] for job in listed for name in job.after)
    return listed if straight else order


def _circle(waiting: Mapping[str, _Ordered]) -> str:
    """`a -> b -> a`, of jobs of which each waits for another that waits."""
    at = next(iter(waiting))
    path: list[str] = []
    while at not in path:
        path.append(at)
        at = next(name for name in waiting[at].after if name in waiting)
    return " -> ".join([*path[path.index(at) :], at])


def plan(study: Study, *, lacking: dict[str, str] | None = None) -> list[Job]:
    """All jobs of `study`, each after those it needs.

    Args:
        study: the grid.
        lacking: takes up, for each task that cannot be judged on this machine, what is missing.
            Such a task is planned all the same, under ids that it has on no machine. Without it,
            what is missing is an error.

    Raises:
        ConfigError: if an arm's settings are wrong.
        MissingDataError: if a file of completions is not there.
        MissingToolError: if judging a task needs a toolchain that is not here.
        UnknownNameError: if a task is unknown.
    """
    asked = [(task, _judging(study, task, lacking)) for task in map(tasks.task, study.tasks)]
    jobs: dict[str, Job] = {}
    packings: dict[str, PackConfig] = {}

    def add(job: Job) -> Job:
        return jobs.setdefault(job.id, job)

    for base_model in study.base_models:
        base = _pretrain(base_model)
        if base:
            add(base)
        first = list(_evaluate(study, Arm(base_model, BASE, 0), asked, base, None))
        checked = {job.config.task: job.id for job in first if isinstance(job.config, JudgeConfig)}
        for job in first:
            add(job)
        searched: dict[str, Place | None] = {}
        for arm in arms(study):
            if arm.base_model != base_model:
                continue
            if arm.method not in searched:
                found, searched[arm.method] = _search(study, arm, base, packings)
                for job in found:
                    add(job)
            packing = add(_pack(training_config(study, arm), base, packings))
            train = add(_train(study, arm, base, packing, searched[arm.method]))
            for job in _evaluate(study, arm, asked, base, train, checked):
                add(job)
    return in_order(jobs.values(), f"study {study.name!r}")


def _judging(study: Study, task: Task[Any], lacking: dict[str, str] | None) -> JudgeConfig:
    try:
        return judge_config(task, jobs=1, limit_problems=study.limit_problems)
    except MissingToolError as error:
        if lacking is None:
            raise
        lacking[task.name] = str(error)
        return JudgeConfig(
            task=task.name,
            task_version=task.version,
            checker=task.checker,
            checker_version="",
            tools={},
            limits={},
            limit_problems=study.limit_problems,
            jobs=1,
        )


def _pretrain(name: str) -> Job | None:
    config = EMBEDDED.get(name)
    if config is None:
        return None
    folder = f"base/{name}-{_fingerprint(config)}"
    return Job(folder, RunKind.PRETRAIN, config, label=f"pretrain {name}")


def _pack(training: TrainingConfig, base: Job | None, known: dict[str, PackConfig]) -> Job:
    """`known` keeps the packings of one plan: looking a corpus up takes a while."""
    plan_of = training.optimization
    data = {name: getattr(training, name) for name in DataConfig.model_fields}
    rows = plan_of.n_steps * plan_of.batch_size
    key = repr((training.base_model, training.revision, training.seed, rows, data))
    config = known.get(key) or known.setdefault(key, pack_config(training))
    inputs = {"base": base.id} if base else {}
    model, corpus = _name(training.base_model), _name(config.corpus)
    return Job(
        f"data/{model}/{corpus}-{_fingerprint(config, *inputs.values())}",
        RunKind.PACK,
        config,
        after=tuple(inputs.values()),
        label=f"pack {corpus} for {model} seed {config.seed}",
        inputs=inputs,
    )


def _train(
    study: Study, arm: Arm, base: Job | None, packing: Job, place: Place | None = None
) -> Job:
    config = training_config(study, arm)
    inputs = {"base": base.id} if base else {}
    inputs["data"] = packing.id
    if place:
        inputs["search"] = place.search
    folder = f"train/{_name(arm.base_model)}/{arm.method}/seed{arm.seed}"
    mark = _without_rate(config, inputs) if place else _fingerprint(config, *inputs.values())
    return Job(
        f"{folder}-{mark}",
        RunKind.TRAIN,
        config,
        after=tuple(inputs.values()),
        label=f"tune {_name(arm.base_model)} {arm.method} seed {arm.seed}",
        inputs=inputs,
        place=place,
    )


def _search(
    study: Study, arm: Arm, base: Job | None, known: dict[str, PackConfig]
) -> tuple[list[Job], Place | None]:
    """The trials by which the rate of `arm` is chosen, and where it is found afterwards."""
    search = search_of(study, arm.base_model, arm.method)
    if search is None:
        return [], None
    own = Arm(arm.base_model, arm.method, search.seed)
    rungs = search.rungs(training_config(study, own).optimization.n_steps)
    folder = f"search/{_name(arm.base_model)}/{arm.method}"
    who = f"{_name(arm.base_model)} {arm.method}"
    jobs: list[Job] = []
    before: Job | None = None
    for rung, plan_of in enumerate(rungs):
        trials = []
        for rank in range(plan_of.n_trials):
            rate = search.rates[rank] if before is None else search.rates[0]
            config = training_config(study, own, rate, plan_of.n_steps)
            packing = _pack(config, base, known)
            inputs = {"base": base.id} if base else {}
            inputs |= {"data": packing.id}
            if before is None:
                name, mark = f"lr{rate:g}", _fingerprint(config, *inputs.values())
            else:
                inputs["search"] = before.id
                name, mark = f"rank{rank + 1}", _without_rate(config, {**inputs, "": f"{rank}"})
            trials.append(
                Job(
                    f"{folder}/rung{rung}/{name}-{mark}",
                    RunKind.TRAIN,
                    config,
                    after=tuple(inputs.values()),
                    label=f"try {who} {name}, {plan_of.n_steps} steps",
                    inputs={**inputs, "trial-of": f"{folder}/rung{rung}"},
                    place=None if before is None else Place(before.id, rank),
                )
            )
            jobs += [packing, trials[-1]]
        config_of = SearchConfig(
            base_model=arm.base_model,
            method=arm.method,
            on=search.on,
            seed=search.seed,
            how=search.how,
            rates=search.rates,
            rung=rung,
            n_rungs=len(rungs),
            n_steps=plan_of.n_steps,
        )
        ids = {f"trial{rank + 1}": trial.id for rank, trial in enumerate(trials)}
        if before:
            ids["before"] = before.id
        name = "chosen" if config_of.is_last else f"rung{rung}"
        before = Job(
            f"{folder}/{name}-{_fingerprint(config_of, *ids.values())}",
            RunKind.SEARCH,
            config_of,
            after=tuple(ids.values()),
            label=f"choose the learning rate of {who}" if config_of.is_last else f"rank {who}",
            inputs=ids,
        )
        jobs.append(before)
    assert before is not None
    return jobs, Place(before.id)


def _without_rate(config: TrainingConfig, inputs: Mapping[str, str]) -> str:
    """The fingerprint of a training whose learning rate is chosen by one of `inputs`."""
    known = identity(config)
    known["optimization"].pop("learning_rate")
    return digest({"config": known, "after": list(inputs.values())})


def _evaluate(
    study: Study,
    arm: Arm,
    asked: Sequence[tuple[Task[Any], JudgeConfig]],
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
    for task, judging in asked:
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
