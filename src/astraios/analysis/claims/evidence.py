"""What the claims are tested on: scores without holes, per base model, and how a test answers.

A *score* is the primary metric of a task; an arm's score over several tasks is their plain mean.
Tasks that count are those scored by passing tests or by right answers (what the paper's first
figure averages); perturbed tasks only where a study has no others. A task of right answers counts
for a model only if some method's accuracy lies above chance there, with its whole interval: below
that, a difference between methods is one of answering habits.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from astraios.analysis import style
from astraios.analysis.columns import rows_of
from astraios.analysis.common import common
from astraios.analysis.draws import Draws, Estimate, Floats, complete_block, draws
from astraios.metrics import Interval

if TYPE_CHECKING:
    from astraios.analysis.frames import Frames

N_CLAIMS = 6


class Mark(StrEnum):
    """What a study's data say of a claim."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Finding:
    """The outcome of one claim's test, before it is weighed together with the others."""

    measured: str
    """The deciding number in words."""
    data: str
    """What it was computed from."""
    n: str
    """How much of that there is."""
    p_for: float | None = None
    """One-sided: of data like these, were the claim false. None where nothing could be tested."""
    p_against: float | None = None
    """One-sided: of data like these, were the claim true."""
    estimate: Interval | None = None
    """The deciding number; its claim holds above the `threshold`."""
    threshold: float = 0.0
    unit: str = ""
    missing: str = ""
    """What the data lack to decide, whatever the p-values say."""
    partial: str = ""
    """Why one of the two marks is out of reach; its p-value is 1 then."""
    seen: str = ""
    """What these trained models show, where their seeds are too few to decide."""
    needed: str = ""
    """How much more would be needed, where that can be computed."""

    @property
    def p_value(self) -> float | None:
        """Two-sided: twice the smaller one."""
        if self.p_for is None or self.p_against is None:
            return None
        return min(1.0, 2 * min(self.p_for, self.p_against))

    @property
    def leaning(self) -> Mark:
        """What the data speak for, certain or not."""
        if self.p_for is None or self.p_against is None:
            return Mark.UNDECIDED
        return Mark.SUPPORTED if self.p_for <= self.p_against else Mark.NOT_SUPPORTED


@dataclass(frozen=True)
class Test:
    """One comparison out of those that a claim is made of: it holds above `threshold`."""

    __test__ = False

    name: str
    estimate: Estimate
    threshold: float

    @property
    def p_for(self) -> float:
        """One-sided p-value of "it does not hold"."""
        return self.estimate.p_above(self.threshold)

    @property
    def p_against(self) -> float:
        """One-sided p-value of "it holds"."""
        return self.estimate.p_below(self.threshold)


def all_hold(tests: Sequence[Test]) -> tuple[float, float, Test, Test]:
    """The claim that every test holds: p for, p against, and the tests that decide them.

    For it: the largest p-value (an intersection-union test, Berger 1982, Technometrics 24, which
    needs no adjustment). Against it: the smallest times their number (Bonferroni).
    """
    weakest = max(tests, key=lambda test: test.p_for)
    strongest = min(tests, key=lambda test: test.p_against)
    against = min(1.0, len(tests) * strongest.p_against)
    return weakest.p_for, against, weakest, strongest


@dataclass(frozen=True)
class Block:
    """Methods and tasks of one base model, every method judged on every task."""

    model: str
    size: int
    methods: tuple[str, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that the claims are tested on."""

    draws: Draws
    sizes: Mapping[str, int]
    """Base model -> parameters; small to large, those of unknown size left out."""
    kinds: Mapping[str, str]
    """Task -> `pass`, `robust`, `classification`, `security`."""
    groups: Mapping[tuple[str, str], frozenset[str]]
    """Base model and task -> its problems; tasks may share some."""
    above_chance: Mapping[tuple[str, str], bool]
    """(model, classification task) -> whether any method's interval lies above chance."""
    trainable: Mapping[tuple[str, str], float]
    losses: pd.DataFrame
    """Columns `model, method, seed, final`."""
    clean: Mapping[str, str]
    """Perturbed task -> the task in `draws` that holds the same problems unperturbed."""
    unsized: tuple[str, ...]
    """Base models that were judged, but whose size is not known."""
    notes: tuple[str, ...]
    """What was left out, so that all are compared on the same problems."""

    @cached_property
    def quality_tasks(self) -> tuple[str, ...]:
        """Tasks that count."""
        plain = tuple(t for t in self.kinds if self.kinds[t] in ("pass", "classification"))
        return plain or tuple(t for t in self.kinds if self.kinds[t] == "robust")

    def n_problems(self, tasks: Container[str], models: Container[str]) -> int:
        """Distinct problems of `tasks` together, of these base models."""
        own = (self.groups[model, t] for model, t in self.groups if model in models and t in tasks)
        return len(frozenset[str]().union(*own))

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """Tasks of `kind`."""
        return tuple(task for task in self.kinds if self.kinds[task] == kind)

    def tuned(self, model: str) -> tuple[str, ...]:
        """Methods judged with `model`, the untuned base left out."""
        return style.order(b for a, b in self.draws.cells if a == model and b != style.BASE)

    def block(
        self, model: str, methods: Iterable[str] | None = None, keep: str = ""
    ) -> Block | None:
        """The methods and quality tasks of `model` that can be compared; None if there are none."""
        tasks = [t for t in self.quality_tasks if self.above_chance.get((model, t), True)]
        rows = self.tuned(model) if methods is None else tuple(methods)
        rows = tuple(method for method in rows if (model, method) in self.draws.cells)
        tasks = [t for t in tasks if any(self.draws.judged(model, m, t) for m in rows)]

        def has(method: str, task: str) -> bool:
            return self.draws.judged(model, method, task)

        kept, columns = complete_block(rows, tasks, has, keep)
        if not kept or not columns:
            return None
        return Block(model, self.sizes[model], kept, columns)

    @cached_property
    def guessing(self) -> tuple[str, ...]:
        """Classification tasks that do not count for some model, as `task (model)`."""
        return tuple(f"{t} ({m})" for (m, t), above in self.above_chance.items() if not above)

    def difference(self, block: Block, weight: Mapping[str, float]) -> Estimate:
        """`sum(weight[method] * score)` over the tasks of `block`, averaged."""
        weight_MK = np.zeros(self.draws.score_MK.shape)
        columns = [self.draws.tasks.index(task) for task in block.tasks]
        for method, value in weight.items():
            weight_MK[self.draws.row(block.model, method), columns] += value / len(columns)
        return self.draws.linear(weight_MK)

    def scores(self, block: Block) -> Callable[[Floats], Floats]:
        """Takes scores `(..., M, K)` to those of the block's methods, averaged over its tasks."""
        rows = [self.draws.row(block.model, method) for method in block.methods]
        columns = [self.draws.tasks.index(task) for task in block.tasks]

        def mean(score_MK: Floats) -> Floats:
            found: Floats = score_MK[..., rows, :][..., columns].mean(axis=-1)
            return found

        return mean

    def told(self, blocks: Sequence[Block]) -> str:
        """What `blocks` hold, in words: sizes, methods, tasks, problems, seeds."""
        methods = {method for block in blocks for method in block.methods}
        tasks = [t for t in self.kinds if any(t in block.tasks for block in blocks)]
        names = ", ".join(tasks)
        return (
            f"{_count(len(blocks), 'model')} x {_count(len(methods), 'method')}, mean over "
            f"{names if len(tasks) <= 4 else _count(len(tasks), 'task')}"
        )

    def counted(self, blocks: Sequence[Block]) -> str:
        """How much `blocks` hold: problems and seeds."""
        tasks = {task for block in blocks for task in block.tasks}
        rows = [self.draws.row(b.model, m) for b in blocks for m in b.methods]
        seeds = self.draws.n_seeds_M[rows]
        low, high = int(seeds.min()), int(seeds.max())
        told = _count(high, "seed") if low == high else f"{low} to {high} seeds"
        return f"{self.n_problems(tasks, {b.model for b in blocks}):,} problems, {told}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def evidence(frames: Frames, *, across: bool = False) -> Evidence:
    """What `frames` hold for the claims.

    Methods of a base model are compared on the problems that all of them have; `across` holds base
    models to each other too. Which answers are valid programs is part of what security measures:
    there each method has its own.
    """
    units = frames.units
    kinds = {task: frames.task_kind(task) for task in frames.tasks}
    units = units[units["task"].isin(list(kinds))]
    clean = {}
    for task, kind in kinds.items():
        if kind == "robust":
            own = clean_units(frames, task)
            if len(own):
                clean[task] = f"{task} (clean)"
                units = pd.concat([units, own.assign(task=clean[task])], ignore_index=True)
    together = {task: task for task, kind in kinds.items() if kind != "security"}
    together |= {plain: task for task, plain in clean.items()}
    same = common(units, together, across=across)
    drawn = draws(same.units)
    sizes = dict(sorted(frames.sizes.items(), key=lambda item: (item[1], item[0])))
    judged = {model for model, _ in drawn.cells}
    return Evidence(
        draws=drawn,
        sizes={model: size for model, size in sizes.items() if model in judged},
        kinds=kinds,
        groups={
            (str(model), str(task)): frozenset(own.astype(str))
            for (model, task), own in same.units.groupby(["model", "task"])["group"]
        },
        above_chance=_above_chance(frames, kinds),
        trainable=_trainable(frames),
        losses=frames.losses,
        clean=clean,
        unsized=tuple(sorted(judged - set(sizes))),
        notes=same.notes,
    )


def clean_units(frames: Frames, task: str) -> pd.DataFrame:
    """The unperturbed problems of a perturbed task, one row an arm and group."""
    problems = frames.problems
    nominal = problems[problems["task"] == frames.nominal_task(task)]
    groups = set(frames.units[frames.units["task"] == task]["group"])
    own = nominal[(nominal["group"] == nominal["problem_id"]) & nominal["group"].isin(groups)]
    return own[["model", "method", "seed", "task", "group"]].assign(value=own["rate"])


def _above_chance(frames: Frames, kinds: Mapping[str, str]) -> dict[tuple[str, str], bool]:
    found: dict[tuple[str, str], bool] = {}
    quality = frames.quality
    for row in rows_of(quality[quality["chance"].notna()]):
        key = str(row["model"]), str(row["task"])
        if kinds.get(key[1]) == "classification":
            found[key] = found.get(key, False) or bool(row["low"] > row["chance"])
    return found


def _trainable(frames: Frames) -> dict[tuple[str, str], float]:
    return {
        (str(row["model"]), str(row["method"])): float(row["trainable_parameters"])
        for row in rows_of(frames.trainable)
    }
