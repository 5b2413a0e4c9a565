"""What a tuned model costs, as recorded, and whether that keeps within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from astraios.analysis import style
from astraios.analysis.columns import rows_of
from astraios.analysis.quantities import show_count, show_hours, show_memory
from astraios.errors import ConfigError

if TYPE_CHECKING:
    from astraios.analysis.frames import Frames

OF_TRAINING = frozenset({"memory", "hours", "trainable", "trainable share", "mergeable"})
"""Limits that a base model as it comes cannot break."""

Mergeable = Callable[[str], bool | None]
"""Method -> whether its weights can be folded into the base; None if that is not known."""


@dataclass(frozen=True)
class Price:
    """What was recorded of one model and method; None where nothing was."""

    trainable: float | None
    size: int | None
    """Parameters of the base model."""
    memory_mib: float | None
    """Highest peak of the trainings, whatever their seed."""
    hours: float | None
    """Wall time of one training, mean over the seeds of which it was measured."""
    tokens_per_s: float | None
    """Tokens generated a wall second, all measured generations of what counts together."""
    latency_s: float | None
    """Wall seconds of generation per completion, likewise."""
    mergeable: bool | None


@dataclass(frozen=True)
class Limits:
    """A budget; None is no limit."""

    max_memory_mib: float | None = None
    max_hours: float | None = None
    max_trainable: float | None = None
    max_trainable_share: float | None = None
    """Of the base model's parameters."""
    mergeable: bool = False
    max_latency_s: float | None = None
    min_tokens_per_s: float | None = None

    def __post_init__(self) -> None:
        for name, bound in vars(self).items():
            if bound is not None and not isinstance(bound, bool) and not bound > 0:
                raise ConfigError(f"{name} must be above zero, got {bound:g}")

    def told(self) -> tuple[str, ...]:
        """The limits in words."""
        return tuple(rule.title() for rule in _rules(self))


@dataclass(frozen=True)
class Breach:
    """A limit that is not kept, or of which that cannot be said."""

    limit: str
    value: float | None
    """None: not recorded."""
    bound: float
    excess: float
    """Share by which the bound is missed."""
    text: str


@dataclass(frozen=True)
class _Rule:
    name: str
    bound: float | None
    value: Callable[[Price], float | None]
    show: Callable[[float], str]
    sentence: str
    """The limit in words, around what `show` makes of the bound."""
    at_least: bool = False

    @property
    def least(self) -> float:
        """The bound, of a limit that is set."""
        return self.bound or 0.0

    def title(self) -> str:
        """The limit in words."""
        return self.sentence.format(self.show(self.least))


def breaches(price: Price, limits: Limits, method: str) -> tuple[Breach, ...]:
    """Every limit that `price` breaks; the untuned base cannot break those on training."""
    found = []
    for rule in _rules(limits):
        if method == style.BASE and rule.name in OF_TRAINING:
            continue
        value = rule.value(price)
        if value is None:
            text = f"{rule.name}: not recorded, so {rule.title()} cannot be checked"
            found.append(Breach(rule.name, None, rule.least, 0.0, text))
        elif value < rule.least if rule.at_least else value > rule.least:
            off = abs(value - rule.least)
            side = "below" if rule.at_least else "over"
            text = (
                f"{rule.name}: {rule.show(value)}, {rule.show(off)} {side} {rule.show(rule.least)}"
            )
            if rule.name == "mergeable":
                text = "mergeable: its weights cannot be folded into the base"
            found.append(Breach(rule.name, value, rule.least, off / rule.least, text))
    return tuple(found)


def _rules(limits: Limits) -> list[_Rule]:
    """The limits that are set."""
    every = (
        _Rule(
            "memory",
            limits.max_memory_mib,
            lambda price: price.memory_mib,
            show_memory,
            "at most {} of memory to train",
        ),
        _Rule(
            "hours",
            limits.max_hours,
            lambda price: price.hours,
            show_hours,
            "at most {} to train",
        ),
        _Rule(
            "trainable",
            limits.max_trainable,
            lambda price: price.trainable,
            show_count,
            "at most {} trained parameters",
        ),
        _Rule(
            "trainable share",
            limits.max_trainable_share,
            _share,
            lambda share: f"{100 * share:.3g} %",
            "at most {} of the parameters trained",
        ),
        _Rule(
            "mergeable",
            1.0 if limits.mergeable else None,
            lambda price: None if price.mergeable is None else float(price.mergeable),
            str,
            "mergeable",
            at_least=True,
        ),
        _Rule(
            "latency",
            limits.max_latency_s,
            lambda price: price.latency_s,
            lambda seconds: f"{seconds:.3g} s",
            "at most {} a completion",
        ),
        _Rule(
            "speed",
            limits.min_tokens_per_s,
            lambda price: price.tokens_per_s,
            lambda rate: f"{rate:,.3g} tokens/s",
            "at least {}",
            at_least=True,
        ),
    )
    return [rule for rule in every if rule.bound is not None]


def _share(price: Price) -> float | None:
    if price.trainable is None or not price.size:
        return None
    return price.trainable / price.size


def prices(frames: Frames, mergeable: Mergeable) -> dict[tuple[str, str], Price]:
    """What was recorded of every model and method that was trained or judged."""
    trained, generated = _train_costs(frames), _generation_costs(frames)
    trainable = {
        (str(row["model"]), str(row["method"])): float(row["trainable_parameters"])
        for row in rows_of(frames.trainable)
    }
    judged = frames.units[["model", "method"]].drop_duplicates()
    cells = {(str(row["model"]), str(row["method"])) for row in rows_of(judged)}
    found = {}
    for model, method in sorted(cells | set(trained) | set(trainable)):
        base = method == style.BASE
        memory, hours = trained.get((model, method), (None, None))
        speed, latency = generated.get((model, method), (None, None))
        found[model, method] = Price(
            0.0 if base else trainable.get((model, method)),
            frames.sizes.get(model),
            memory,
            hours,
            speed,
            latency,
            True if base else mergeable(method),
        )
    return found


def _train_costs(frames: Frames) -> dict[tuple[str, str], tuple[float | None, float | None]]:
    found = {}
    for (model, method), own in frames.tunings.groupby(["model", "method"]):
        wall = own["wall_s"].astype("float64")
        memory, hours = float(own["peak_mib"].max()), float(wall[wall > 0].mean()) / 3600
        found[str(model), str(method)] = (_known(memory), _known(hours))
    return found


def _generation_costs(frames: Frames) -> dict[tuple[str, str], tuple[float | None, float | None]]:
    """Tokens a second and seconds a completion, of the generations whose time was measured."""
    keys = ["model", "method", "seed", "task"]
    judged = frames.outcomes.groupby(keys)["n"].sum().rename("n_completions").reset_index()
    both = frames.generations.merge(judged, on=keys, how="inner")
    both = both[both["wall_s"] > 0]
    found = {}
    for (model, method), own in both.groupby(["model", "method"]):
        counted = own[own["n_tokens"] > 0]
        wall, tokens = float(counted["wall_s"].sum()), float(counted["n_tokens"].sum())
        n = float(own["n_completions"].sum())
        found[str(model), str(method)] = (
            _known(tokens / wall) if wall > 0 else None,
            _known(float(own["wall_s"].sum()) / n) if n > 0 else None,
        )
    return found


def _known(value: float) -> float | None:
    """None for what a run could not measure: it is written as zero, or not at all."""
    return value if isfinite(value) and value > 0 else None
