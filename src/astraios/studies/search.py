"""The search for a learning rate: what a study asks for, and the trials that follow from it.

    search:
      learning_rate: {low: 0.0001, high: 0.01, n: 5}     # or a list: [0.0001, 0.001, 0.01]
      how: grid

`grid` trains every rate for as long as the study's own trainings. `halving` begins with short
trainings of all rates and lets the best go on to longer ones (successive halving, Jamieson and
Talwalkar 2016, arXiv:1502.07943); with nine rates, `factor: 3` and 90 steps,

    rung 0    9 rates    30 steps each
    rung 1    3 rates    90 steps each, from the beginning, with a schedule of that length

The warm-up keeps its share of the steps.

Every base model and method is searched by itself, on the validation loss of the last step: no task
is asked. The trainings of all seeds then take the rate that was chosen.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from astraios.config import Config

__all__ = ["Range", "Rung", "Search", "SearchConfig", "described", "merged"]


class Range(Config):
    """Rates at equal ratios from one to another, both ends included."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)
    n: int = Field(ge=2)

    @model_validator(mode="after")
    def _upwards(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) has to be below high ({self.high:g})")
        return self

    @property
    def rates(self) -> tuple[float, ...]:
        """The rates, at three digits."""
        ratio = (self.high / self.low) ** (1 / (self.n - 1))
        return tuple(float(f"{self.low * ratio**step:.3g}") for step in range(self.n))


class Rung(Config):
    """Trials of one length."""

    n_trials: int
    n_steps: int


class Search(Config):
    """How learning rates are chosen. Overrides change it for a base model or a method."""

    learning_rate: tuple[float, ...] | Range
    """The rates that are tried: a list, or a range."""
    how: Literal["grid", "halving", "none"] = "grid"
    """`none`: the rate is the one that the training says, and nothing is tried."""
    on: Literal["validation_loss"] = "validation_loss"
    """What decides: the loss on validation rows after the last step; lower is better."""
    factor: int = Field(default=3, ge=2)
    """Of halving: one of so many rates goes on, to a training that is so many times as long."""
    n_steps: int | None = Field(default=None, ge=1)
    """Steps of the longest trials; None: as many as the study's trainings have."""
    seed: int = 1_000
    """Of the trials; none of the study's own."""

    @field_validator("learning_rate")
    @classmethod
    def _several(cls, given: tuple[float, ...] | Range) -> tuple[float, ...] | Range:
        rates = given.rates if isinstance(given, Range) else given
        if len(set(rates)) < 2:
            raise ValueError("a search needs two different rates at least")
        if len(set(rates)) < len(rates):
            twice = next(rate for at, rate in enumerate(rates) if rate in rates[:at])
            raise ValueError(f"{twice:g} is there twice (rates are told apart by three digits)")
        for rate in rates:
            if not (math.isfinite(rate) and rate > 0):
                raise ValueError(f"a learning rate has to be above 0, and {rate} is not")
        return given

    @property
    def rates(self) -> tuple[float, ...]:
        """What is tried, lowest first."""
        given = self.learning_rate
        return tuple(sorted(given.rates if isinstance(given, Range) else given))

    def rungs(self, n_steps: int) -> tuple[Rung, ...]:
        """Numbers and lengths of the trials for trainings of `n_steps`, shortest first."""
        sizes = [len(self.rates)]
        while self.how == "halving" and sizes[-1] > self.factor:
            sizes.append(math.ceil(sizes[-1] / self.factor))
        longest = self.n_steps or n_steps
        found = []
        for place, size in enumerate(sizes):
            steps = max(1, longest // self.factor ** (len(sizes) - 1 - place))
            found.append(Rung(n_trials=size, n_steps=steps))
        return tuple(found)


class SearchConfig(Config):
    """One decision of a search: the trials of one rung are ranked."""

    base_model: str
    method: str
    on: str
    seed: int
    how: str
    rates: tuple[float, ...]
    """All that the search tries, lowest first."""
    rung: int
    n_rungs: int
    n_steps: int
    """Of each trial of the rung."""

    @property
    def is_last(self) -> bool:
        """Whether the best of this rung is the rate that is chosen."""
        return self.rung == self.n_rungs - 1


def described(search: Search) -> str:
    """`searched: 0.0001 ... 0.01 (5, grid)`."""
    rates = search.rates
    return f"searched: {rates[0]:g} ... {rates[-1]:g} ({len(rates)}, {search.how})"


def merged(search: Search | None) -> dict[str, Any]:
    """Its fields, for overrides to change; none where the study searches nothing."""
    return {} if search is None else search.model_dump(mode="json")
