"""In which fields the arms of a study differ, and which of these differences were asked for.

A comparison of methods is one of methods only where nothing else differs. What may differ is what a
study sweeps (base model, method, seed), what its overrides and its methods' options set, and what a
search chooses; anything else would be a fault of ours, and `undeclared` finds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from astraios import tasks
from astraios.config import identity
from astraios.methods import LABEL
from astraios.studies.overrides import EVALUATE, EVALUATION, TRAIN
from astraios.studies.presets import read_study
from astraios.studies.search import described
from astraios.studies.study import (
    Arm,
    MethodEntry,
    Study,
    arms,
    evaluation_config,
    search_of,
    training_config,
)
from astraios.tasks import Task
from astraios.training.config import EMBEDDED
from astraios.training.recipes import RATES

__all__ = ["Difference", "differences", "undeclared", "unsearched"]

RATE = "training.optimization.learning_rate"
SWEPT = frozenset(
    f"{stage}{field}"
    for stage in (TRAIN, EVALUATE)
    for field in ("base_model", "method", "seed", "adapter")
)
FAR = 10.0
"""A rate so many times as large as another, or as small, is of another order of magnitude."""


@dataclass(frozen=True)
class Difference:
    """One field of an arm that is not as in most arms."""

    base_model: str
    method: str
    seeds: tuple[int, ...]
    """Of the arms that differ alike."""
    field: str
    value: Any
    usual: Any
    """Of most arms; of equally many, what the study says of all, else the one that comes first."""


def differences(study: Study) -> list[Difference]:
    """For every arm the fields in which it differs from most, in the order of the arms."""
    asked = [tasks.task(name) for name in study.tasks]
    found = {arm: _fields(study, arm, asked) for arm in arms(study)}
    names = sorted({name for fields in found.values() for name in fields})
    said = {f"{TRAIN}{name}": value for name, value in _leaves(study.training)}
    said |= {f"{EVALUATE}{name}": value for name, value in _leaves(study.evaluation)}
    usual = {
        name: _usual([fields.get(name) for fields in found.values()], said.get(name))
        for name in names
    }
    merged: dict[tuple[str, str, str, str], tuple[Any, list[int]]] = {}
    for arm, fields in found.items():
        for name in names:
            value = fields.get(name)
            if _text(value) != _text(usual[name]):
                key = (arm.base_model, arm.method, name, _text(value))
                merged.setdefault(key, (value, []))[1].append(arm.seed)
    return [
        Difference(base_model, method, tuple(seeds), name, value, usual[name])
        for (base_model, method, name, _), (value, seeds) in merged.items()
    ]


def undeclared(study: Study) -> list[Difference]:
    """Differences that neither the grid, an override, a method's options nor a search explains."""
    return [one for one in differences(study) if not _declared(study, one)]


def _declared(study: Study, one: Difference) -> bool:
    """Whether the study says that arms may differ in this field, of this arm or of the usual."""
    for override in study.overrides:
        for name in {**override.set, **override.here}:
            inside = one.field == name or one.field.startswith(f"{name}.")
            if inside or name.startswith(f"{one.field}."):
                return True
    options = any(isinstance(entry, MethodEntry) and entry.options for entry in study.methods)
    if options and one.field.startswith(f"{TRAIN}method_options"):
        return True
    return one.field == RATE and any(
        search_of(study, arm.base_model, arm.method) for arm in arms(study)
    )


def _fields(study: Study, arm: Arm, asked: Sequence[Task[Any]]) -> dict[str, Any]:
    """All fields of an arm's training and evaluation, by dotted name, without what is swept."""
    training = identity(training_config(study, arm))
    found = {f"{TRAIN}{name}": value for name, value in _leaves(training)}
    search = search_of(study, arm.base_model, arm.method)
    if search is not None:
        found[RATE] = described(search)
    for task in asked:
        config = identity(evaluation_config(study, arm, task))
        for field in EVALUATION:
            for leaf, value in _leaves(config.get(field), field):
                found[f"{EVALUATE}{leaf}"] = value
    return {name: value for name, value in found.items() if name not in SWEPT}


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{at}.{key}" if at else str(key))
    elif at:
        yield at, value


def _usual(values: Sequence[Any], said: Any) -> Any:
    counts = Counter(map(_text, values))
    most = max(counts.values())
    frequent = [value for value in values if counts[_text(value)] == most]
    return next((value for value in frequent if value == said), frequent[0])


def _text(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


# --- rates that nobody searched ---------------------------------------------------------------


def unsearched(study: Study) -> Iterator[str]:
    """A warning for each method whose rate is not searched, and is far from the known one."""
    far: dict[tuple[str, float, float], list[str]] = {}
    for base_model in study.base_models:
        known = _known_rates(base_model)
        for method in study.method_names:
            best = known.get(method.partition(LABEL)[0])
            if best is None or search_of(study, base_model, method) is not None:
                continue
            rates = {
                training_config(study, Arm(base_model, method, seed)).optimization.learning_rate
                for seed in study.seeds
            }
            for rate in rates:
                if max(rate / best, best / rate) >= FAR * (1 - 1e-9):
                    far.setdefault((method, rate, best), []).append(base_model)
    for (method, rate, best), models in far.items():
        more = f" and {len(models) - 1} more" if len(models) > 1 else ""
        yield (
            f"{method} on {models[0]}{more}: no learning rate is searched for it, and {rate:g} is "
            f"{max(rate / best, best / rate):.0f} times as "
            f"{'large' if rate > best else 'small'} as {best:g}, the best of its kind "
            "in the shipped studies; search it (search: "
            f"{{learning_rate: {{low: {best / 10:g}, high: {best * 10:g}, n: 5}}}}), or set "
            f"training.optimization.learning_rate where {{method: {method}}}"
        )


def _known_rates(base_model: str) -> Mapping[str, float]:
    """Method -> its rate: of embedded models the ones that were searched, else those published."""
    if base_model not in EMBEDDED:
        return RATES
    shipped = read_study("embedded-quick")
    first = shipped.base_models[0], shipped.seeds[0]
    return {
        method: training_config(shipped, Arm(first[0], method, first[1])).optimization.learning_rate
        for method in shipped.method_names
    }
