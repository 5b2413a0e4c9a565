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
from astraios.errors import AstraiosError, ConfigError, did_you_mean
from astraios.evaluation.config import EvaluationConfig
from astraios.methods import ANY, LABEL
from astraios.records import Sampling
from astraios.tasks import Task
from astraios.training.config import TrainingConfig

BASE = "base"
"""In place of a method: the base model as it is."""

EVALUATION = (
    "template",
    "engine",
    "precision",
    "long_prompts",
    "device",
    "batch_tokens",
    "engine_options",
    "parity",
)
"""Fields of `EvaluationConfig` that a study may set; the others follow from its grid."""
HERE = frozenset(
    name for name in EVALUATION if EvaluationConfig.model_fields[name].json_schema_extra
)
"""Those of them that change no record."""
EVALUATE = "evaluation."
"""How overrides name such a field."""
OPTIONS = "engine_options"
ASKS = ("model", "endpoint")
"""The options that say which of a server's models is asked, and by which of its endpoints: other
answers may come of another. Each is a part of a run's identity."""


def _parted(values: Any, field: str, at: str = "") -> Any:
    """`values` with what is `HERE` moved from the mapping `field` to `here`.

    So a study can go on with another device or server, and its manifest names no host. What says
    who answers (`ASKS`) stays.
    """
    given = values.get(field) if isinstance(values, Mapping) else None
    if isinstance(values, Mapping) and "here" in values:
        raise ValueError(f"'here' is no field of a study; write it under {field!r}")
    if not isinstance(given, Mapping):
        return values
    kept: dict[str, Any] = {}
    here: dict[str, Any] = {}
    options = f"{at}{OPTIONS}"
    for name, value in given.items():
        if name == options and isinstance(value, Mapping) and not value.keys().isdisjoint(ASKS):
            kept[name] = {one: v for one, v in value.items() if one in ASKS}
            here |= {f"{name}.{one}": v for one, v in value.items() if one not in ASKS}
        elif name in [f"{options}.{one}" for one in ASKS] or not _is_here(str(name), at):
            kept[name] = value
        else:
            here[name] = value
    return {**values, field: kept, "here": here}


def _is_here(name: str, at: str) -> bool:
    return name.startswith(at) and name.removeprefix(at).partition(".")[0] in HERE


class Override(Config):
    """Settings that differ for a part of the grid."""

    where: dict[str, str | int]
    """`base_model`, `method` or `seed` -> value; all must match."""
    set: dict[str, Any]
    """`training.<field>`, `evaluation.<field>` or deeper -> value."""
    here: dict[str, Any] = Field(default_factory=dict, exclude=True, json_schema_extra=OPERATIONAL)
    """What of `set` changes no record; written under `set`, and in no manifest."""

    @model_validator(mode="before")
    @classmethod
    def _part(cls, values: Any) -> Any:
        return _parted(values, "set", EVALUATE)

    @field_validator("where")
    @classmethod
    def _known_axes(cls, where: dict[str, str | int]) -> dict[str, str | int]:
        for axis in where:
            if axis not in AXES:
                raise ValueError(f"unknown axis {axis!r}; known: {', '.join(AXES)}")
        return where

    @field_validator("set")
    @classmethod
    def _stages_only(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name in settings:
            if not name.startswith(("training.", "evaluation.")):
                raise ValueError(
                    f"{name!r} cannot be overridden; write training.<field> or evaluation.<field>"
                )
        return settings


AXES = ("base_model", "method", "seed")


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
        return _parted(values, "evaluation")

    @model_serializer(mode="wrap")
    def _said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """All fields; nothing of `evaluation` where it is empty, as in studies made before it."""
        values: dict[str, Any] = dump(self)
        if not values.get("evaluation"):
            values.pop("evaluation", None)
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
        plain = tuple(value.partition("+")[0] for value in values)
        _known(plain, tasks.names(), "task")
        for value in set(values) - set(plain):
            try:
                tasks.task(value)
            except AstraiosError as error:
                raise ValueError(str(error)) from None
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


def training_config(study: Study, arm: Arm) -> TrainingConfig:
    """The config of one arm: the study's defaults, then every override that matches.

    Raises:
        ConfigError: if a field is unknown or a value is wrong; names the study and the arm.
    """
    values: dict[str, Any] = _copied(study.training)
    values |= {"base_model": arm.base_model, "method": arm.method, "seed": arm.seed}
    entry = next(one for one in study.methods if _key(one) == arm.method)
    if isinstance(entry, MethodEntry) and entry.options:
        _set(values, "method_options", {**values.get("method_options", {}), **entry.options})
    _override(study, arm, "training.", values)
    source = f"study {study.name!r}, {arm.base_model} {arm.method} seed {arm.seed}, training"
    return validate(values, TrainingConfig, source=source)


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
        "sampling": study.sampling.get(task.name, task.sampling),
        "base_model": arm.base_model,
        "revision": _revision(study, arm),
        "method": arm.method,
        "adapter": adapter,
        "seed": arm.seed,
        "limit_problems": study.limit_problems,
    }
    return validate({**values, **settings}, EvaluationConfig, source=source)


def _revision(study: Study, arm: Arm) -> str | None:
    """Of the base that the arm was tuned from; untuned, what the study says of all of its arms."""
    if arm.method != BASE:
        return training_config(study, arm).revision
    found: str | None = study.training.get("revision")
    for override in study.overrides:
        if override.where in ({}, {"base_model": arm.base_model}):
            found = override.set.get("training.revision", found)
    return found


def _override(study: Study, arm: Arm, stage: str, values: dict[str, Any]) -> None:
    """Change `values` by all that is said of `arm` and `stage`.

    Options are those of one engine: where another one is set, there are none yet.
    """
    for override in study.overrides:
        if all(getattr(arm, axis) == value for axis, value in override.where.items()):
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
