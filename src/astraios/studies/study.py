"""A study as a user writes it, and its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from astraios import methods, registry, tasks
from astraios.config import OPERATIONAL, Config, validate
from astraios.errors import AstraiosError, ConfigError, UnknownNameError, did_you_mean
from astraios.evaluation.config import EvaluationConfig
from astraios.methods import ANY, LABEL
from astraios.records import Sampling
from astraios.studies.overrides import (
    EVALUATE,
    EVALUATION,
    OPTIONS,
    SEARCH,
    TRAIN,
    Override,
    parted,
)
from astraios.studies.search import Search, merged
from astraios.tasks import Task
from astraios.training.config import TrainingConfig

BASE = "base"
"""In place of a method: the base model as it is."""


class MethodEntry(Config):
    """A method of a study with settings of its own.

    - lora                                              a method by name
    - {method: lora, options: {r: 64}, name: wide}      it is called lora~wide
    - {peft: LOHA, options: {r: 4, alpha: 4}}           any method of PEFT; called peft-loha
    """

    method: str | None = None
    peft: str | None = None
    """A PeftType; its options are the fields of PEFT's config."""
    options: dict[str, Any] = Field(default_factory=dict)
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Tells entries of one method apart."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.method is None) == (self.peft is None):
            raise ValueError("give either method: <name> or peft: <type>")
        return self

    @property
    def key(self) -> str:
        """What tables, folders and overrides call it."""
        plain = self.method if self.peft is None else f"{ANY}{self.peft.lower()}"
        return f"{plain}{LABEL}{self.name}" if self.name else str(plain)


class Study(Config):
    """A grid. Every base model is tuned by every method with every seed and asked every task."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    base_models: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str | MethodEntry, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)
    """Fields of `TrainingConfig` that hold for the whole grid."""
    evaluation: dict[str, Any] = Field(default_factory=dict)
    """Fields of `EvaluationConfig` that hold for the whole grid: see `EVALUATION`."""
    here: dict[str, Any] = Field(default_factory=dict, exclude=True, json_schema_extra=OPERATIONAL)
    """What of `evaluation` changes no record; written under `evaluation`, and in no manifest."""
    sampling: dict[str, Sampling] = Field(default_factory=dict)
    """Task -> how its completions are drawn, where the task's own protocol is not wanted."""
    search: Search | None = None
    """How learning rates are chosen; None: they are what `training` says."""
    overrides: tuple[Override, ...] = ()
    """Applied in order to the cells that match."""
    limit_problems: int | None = Field(default=None, ge=1)
    """Ask only the first problems of each task."""
    sandbox: str = Field(default="auto", json_schema_extra=OPERATIONAL)
    """Level of isolation for generated programs; `auto` is the strongest that works here."""

    @property
    def method_names(self) -> tuple[str, ...]:
        """What the methods are called in tables, folders and overrides."""
        return tuple(map(_key, self.methods))

    @model_validator(mode="before")
    @classmethod
    def _part(cls, values: Any) -> Any:
        return parted(values, "evaluation")

    @model_serializer(mode="wrap")
    def _said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """All fields; nothing of `evaluation` and `search` where they are empty, as in studies made
        before them."""
        values: dict[str, Any] = dump(self)
        for name in ("evaluation", "search"):
            if not values.get(name):
                values.pop(name, None)
        return values

    @field_validator("methods")
    @classmethod
    def _no_method_twice(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        cls._no_repeats(tuple(map(_key, values)))
        return values

    @field_validator("base_models", "tasks", "seeds")
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [value for at, value in enumerate(values) if value in values[:at]]
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice; remove one")
        return values

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        plain = tuple(_key(value).partition(LABEL)[0] for value in values)
        _known(
            tuple(name for name in plain if not name.startswith(ANY)),  # those are PEFT's to know
            registry.names(methods),
            "method",
        )
        return values

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        known = tasks.names()
        seen: dict[tuple[str, str], str] = {}
        for value in values:
            try:
                found = tasks.task(value)
            except UnknownNameError as error:
                if value.partition("+")[0].partition("@")[0] in known:
                    raise ValueError(str(error)) from None
                _known((value,), known, "task")
                raise
            except AstraiosError as error:
                raise ValueError(str(error)) from None
            key = (found.name, found.version)
            if key in seen:
                raise ValueError(f"{value!r} is {seen[key]!r} by another name; remove one")
            seen[key] = value
        return values


def _key(entry: str | MethodEntry) -> str:
    return entry if isinstance(entry, str) else entry.key


def _known(values: tuple[str, ...], names: tuple[str, ...], kind: str) -> tuple[str, ...]:
    for value in values:
        if value not in names:
            hint = did_you_mean(value, names)
            raise ValueError(f"unknown {kind} {value!r}; known: {', '.join(names)}.{hint}")
    return values


@dataclass(frozen=True)
class Arm:
    """One tuned model: a base model, a method, a seed."""

    base_model: str
    method: str
    seed: int


def arms(study: Study) -> Iterator[Arm]:
    """All tuned models of the grid: by base model, then seed, then method."""
    for base_model in study.base_models:
        for seed in study.seeds:
            for method in study.method_names:
                yield Arm(base_model, method, seed)


def search_of(study: Study, base_model: str, method: str) -> Search | None:
    """How the learning rate of `method` on `base_model` is chosen; None where it is not searched.

    Raises:
        ConfigError: if a field is unknown or a value is wrong; names the study and the arm.
    """
    values = merged(study.search)
    _override(study, Arm(base_model, method, -1), SEARCH, values)
    if not values:
        return None
    source = f"study {study.name!r}, {base_model} {method}, search"
    found = validate(values, Search, source=source)
    return None if found.how == "none" else found


def training_config(
    study: Study, arm: Arm, learning_rate: float | None = None, n_steps: int | None = None
) -> TrainingConfig:
    """The config of one arm: the study's defaults, then every override that matches.

    Args:
        study: the grid.
        arm: one of its tuned models.
        learning_rate: in place of the arm's own. Where that is searched and not known yet, the
            lowest of the rates that are tried stands for it.
        n_steps: in place of the arm's own.

    Raises:
        ConfigError: if a field is unknown or a value is wrong; names the study and the arm.
    """
    values: dict[str, Any] = _copied(study.training)
    values |= {"base_model": arm.base_model, "method": arm.method, "seed": arm.seed}
    entry = next(one for one in study.methods if _key(one) == arm.method)
    if isinstance(entry, MethodEntry) and entry.options:
        _set(values, "method_options", {**values.get("method_options", {}), **entry.options})
    _override(study, arm, TRAIN, values)
    search = search_of(study, arm.base_model, arm.method)
    if learning_rate is None and search is not None:
        learning_rate = search.rates[0]
    if learning_rate is not None:
        _set(values, "optimization.learning_rate", learning_rate)
    source = f"study {study.name!r}, {arm.base_model} {arm.method} seed {arm.seed}, training"
    made = validate(values, TrainingConfig, source=source)
    if n_steps is None:
        return made
    plan = made.optimization
    warmup = plan.n_warmup_steps * n_steps // plan.n_steps
    changed = plan.model_copy(update={"n_steps": n_steps, "n_warmup_steps": warmup})
    return made.model_copy(update={"optimization": changed})


def evaluation_config(
    study: Study, arm: Arm, task: Task[Any], *, adapter: str | None = None
) -> EvaluationConfig:
    """The config by which one arm is asked one task; the untuned base model is `BASE`, seed 0.

    Raises:
        ConfigError: if a field is unknown or a value is wrong; names the study and the arm.
    """
    source = f"study {study.name!r}, {arm.base_model} {arm.method} seed {arm.seed}, evaluation"
    settings: dict[str, Any] = _copied(study.evaluation)
    for name, value in _copied(study.here).items():
        _set(settings, name, value)
    _override(study, arm, EVALUATE, settings)
    for name in settings:
        if name not in EVALUATION:
            raise ConfigError(
                f"{source}: unknown field {name!r}; known: {', '.join(EVALUATION)}."
                f"{did_you_mean(name, EVALUATION)}"
            )
    values = {
        "task": task.name,
        "task_version": task.version,
        "template": task.template,
        "sampling": sampling(study, task),
        "base_model": arm.base_model,
        "revision": _revision(study, arm),
        "method": arm.method,
        "adapter": adapter,
        "seed": arm.seed,
        "limit_problems": study.limit_problems,
    }
    return validate({**values, **settings}, EvaluationConfig, source=source)


def sampling(study: Study, task: Task[Any]) -> Sampling:
    """How completions of `task` are drawn: as the study says, else by the task's own protocol."""
    for name, given in study.sampling.items():
        named = tasks.task(name)
        if (named.name, named.version) == (task.name, task.version):
            return given
    return task.sampling


def _revision(study: Study, arm: Arm) -> str | None:
    """Of the base that the arm was tuned from; untuned, what the study says of all of its arms."""
    found: str | None = study.training.get("revision")
    for override in study.overrides:
        if arm.method == BASE:
            applies = override.where in ({}, {"base_model": arm.base_model})
        else:
            applies = _matches(override, arm)
        if applies:
            found = override.set.get(f"{TRAIN}revision", found)
    return found


def _matches(override: Override, arm: Arm) -> bool:
    return all(getattr(arm, axis) == value for axis, value in override.where.items())


def _override(study: Study, arm: Arm, stage: str, values: dict[str, Any]) -> None:
    """Change `values` by all that is said of `arm` and `stage`.

    Options are those of one engine: where another one is set, there are none yet.
    """
    for override in study.overrides:
        if _matches(override, arm):
            engine = override.set.get(f"{EVALUATE}engine")
            if stage == EVALUATE and engine not in (None, values.get("engine", "hf")):
                values.pop(OPTIONS, None)
            for name, value in {**override.set, **override.here}.items():
                if name.startswith(stage):
                    own = _copied(value) if isinstance(value, Mapping) else value
                    _set(values, name.removeprefix(stage), own)


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override of {name!r}: {parent!r} holds a value, not fields")
    values[last] = value
