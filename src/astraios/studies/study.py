"""A study as a user writes it, and its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from astraios import methods, registry, tasks
from astraios.config import OPERATIONAL, Config, validate
from astraios.errors import AstraiosError, ConfigError, did_you_mean
from astraios.generation.engines.hf import HFEngine
from astraios.methods import ANY, LABEL
from astraios.records import Sampling
from astraios.training.config import TrainingConfig

BASE = "base"
"""In place of a method: the base model as it is."""


class Override(Config):
    """Settings that differ for a part of the grid."""

    where: dict[str, str | int]
    """`base_model`, `method` or `seed` -> value; all must match."""
    set: dict[str, Any]
    """`training.<field>` or deeper -> value."""

    @field_validator("where")
    @classmethod
    def _known_axes(cls, where: dict[str, str | int]) -> dict[str, str | int]:
        for axis in where:
            if axis not in AXES:
                raise ValueError(f"unknown axis {axis!r}; known: {', '.join(AXES)}")
        return where

    @field_validator("set")
    @classmethod
    def _training_only(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name in settings:
            if not name.startswith("training."):
                raise ValueError(f"{name!r} cannot be overridden; write training.<field>")
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
    for override in study.overrides:
        if all(getattr(arm, axis) == value for axis, value in override.where.items()):
            for name, value in override.set.items():
                _set(values, name.removeprefix("training."), value)
    source = f"study {study.name!r}, {arm.base_model} {arm.method} seed {arm.seed}, training"
    return validate(values, TrainingConfig, source=source)


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override of {name!r}: {parent!r} holds a value, not fields")
    values[last] = value


def check(study: Study) -> None:
    """Build every arm's config once, so that a mistake is told before anything runs.

    Raises:
        ConfigError: the first mistake.
    """
    for arm in arms(study):
        training_config(study, arm)
    for key in study.method_names:
        if not HFEngine.supports(key):
            raise ConfigError(
                f"study {study.name!r}: completions of method {key!r} cannot be generated here "
                f"(see `astraios.methods`); take another method"
            )
    for name in study.sampling:
        if name not in study.tasks:
            raise ConfigError(
                f"study {study.name!r}: sampling is given for {name!r}, which is not one of its "
                f"tasks.{did_you_mean(name, study.tasks)}"
            )
