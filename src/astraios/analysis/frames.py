"""Sealed runs as data frames: what every table and figure is computed from.

    runs       one row a sealed run: kind, model, method, seed, task, folder, sandbox, ...
    steps      training and pretraining, one row a record
    costs      one row a run that has a cost
    scores     one row a score, as the task computed it
    outcomes   one row an arm, task, slice, CWE and outcome: how many verdicts
    problems   one row an arm, task and problem: samples counted, passed, faults
    units      one row an arm, task and group: its value by the task's primary metric

and, computed from them when first asked for (see `comparison.py`):

    quality        one row a model, method and task: primary metric, interval, seed spread, chance
    quality_pairs  one row a pair of methods, model and task: difference, interval, p-values, effect
    pass_rates     as `quality`, of tasks scored by pass@1 alone
    pairs          as `quality_pairs`, of the same tasks
    robustness     one row a model, method and transformation: clean, perturbed, drop

An *arm* is a base model, a method and a seed (see `arms.py`). What the study file promises and no
sealed run holds stays a hole: it is listed in `notes` and printed as a dash, never filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from astraios.analysis import (
    arms,
    comparison,
    ledger,
    losses,
    measuring,
    robustness,
    searches,
    sensitivity,
    style,
    tallies,
)
from astraios.analysis.arms import Evaluation, Of
from astraios.analysis.loading import (
    costs_of,
    facts_of,
    runs_of,
    scores_of,
    sizes_of,
    steps_of,
    where,
)
from astraios.analysis.searches import trial_folders
from astraios.analysis.studyfile import StudyFile, clip, holes, read_study_file
from astraios.analysis.tallies import METRICS, Kind
from astraios.errors import MissingDataError, UnknownNameError
from astraios.records import ArmFacts, RunKind
from astraios.runs import Run, find_runs

if TYPE_CHECKING:
    import polars as pl

TRAINED_HERE = "counted when it was trained"
"""Source of the trainable parameters of a tuning of this study."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Everything a view may look at; views change nothing in it."""

    root: Path
    study: StudyFile
    runs: pd.DataFrame
    steps: pd.DataFrame
    costs: pd.DataFrame
    scores: pd.DataFrame
    counts: pl.DataFrame
    """How many verdicts of each kind an arm has on a task; see `tallies`."""
    worst: pl.DataFrame
    """Completions of variants of a problem, taken together; see `reading.Counts`."""
    arm_facts: tuple[ArmFacts, ...]
    """What is known of models that were not trained here."""
    evaluations: tuple[Evaluation, ...]
    known: tuple[Of, ...]
    """Every sealed run and its arm."""
    notes: tuple[str, ...]
    """What is missing or was left out, in whole sentences."""

    @cached_property
    def problems(self) -> pd.DataFrame:
        """Counts per arm, task and problem; see `tallies.problems`."""
        return tallies.problems(self.counts)

    @property
    def sealed(self) -> tuple[Run, ...]:
        """The sealed runs."""
        return tuple(run for run, _ in self.known)

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """Counts per arm, task, slice, CWE and outcome; see `tallies.outcomes`."""
        return tallies.outcomes(self.counts)

    @cached_property
    def units(self) -> pd.DataFrame:
        """The primary value of every arm, task and group; see `tallies.units`."""
        return tallies.units(self.counts, self.worst, self._kinds)

    @cached_property
    def _kinds(self) -> dict[str, Kind]:
        return tallies.kinds(self.counts, self.scores)

    def task_kind(self, task: str) -> str:
        """How `task` is scored: "pass", "robust", "classification" or "security".

        Raises:
            UnknownNameError: if it was not judged.
        """
        if task not in self._kinds:
            raise UnknownNameError("judged task", task, self.tasks)
        return str(self._kinds[task])

    def primary_metric(self, task: str) -> str:
        """What the mean of a task's `units` is called: "pass@1", "robust-pass@1", ..."""
        return METRICS[Kind(self.task_kind(task))]

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Base model -> its parameters, where a cost or `arms.jsonl` says so."""
        told = {facts.model: facts.total_parameters for facts in self.arm_facts}
        return {**told, **sizes_of(self.costs)}

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Base models, small to large; those of unknown size first, by name."""
        seen = {*self.study.models, *self.runs["model"]} - {""}
        return tuple(sorted(seen, key=lambda model: (self.sizes.get(model, 0), model)))

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Methods in display order; the untuned base first."""
        return style.order({*self.study.methods, *self.runs["method"]} - {""})

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Judged tasks, in the study file's order, then by name."""
        places = {task: place for place, task in enumerate(self.study.tasks)}
        seen = set(self._kinds)
        return tuple(sorted(seen, key=lambda task: (places.get(task, len(places)), task)))

    @cached_property
    def robust_tasks(self) -> tuple[str, ...]:
        """Tasks made of variants of other problems (ReCode and its like)."""
        return tuple(task for task in self.tasks if self._kinds[task] is Kind.ROBUST)

    @cached_property
    def pass_tasks(self) -> tuple[str, ...]:
        """Tasks that are scored by the share of samples that pass, variants apart.

        Not those whose scores have a chance level: a share of right answers without it misleads.
        """
        return tuple(task for task in self.tasks if self._kinds[task] is Kind.PASS)

    @cached_property
    def qualified_scores(self) -> pd.DataFrame:
        """Scores that must not be shown without their chance level, or without their caveat."""
        scores = self.scores
        return scores[scores["chance"].notna() | scores["caveat"].fillna("").ne("")]

    @cached_property
    def headline_task(self) -> str | None:
        """The task the answer is about: the first that asks for synthesis; else the first that is
        scored by passing tests; else the first."""
        synthesis = tuple(task for task in self.pass_tasks if "synthesize" in task)
        return next(iter((*synthesis, *self.pass_tasks, *self.tasks)), None)

    @cached_property
    def headline_model(self) -> str | None:
        """The model the answer is about: the largest on which the headline task compares methods,
        else the largest that was judged on it. Faults alone are no judgement, if there is any."""
        judged = self.problems[self.problems["task"] == self.headline_task]
        if judged["rate"].notna().any():
            judged = judged[judged["rate"].notna()]
        methods = judged.groupby("model", observed=True)["method"].nunique()
        compared = set(methods[methods > 1].index) or set(methods.index)
        return next((model for model in reversed(self.models) if model in compared), None)

    @cached_property
    def several_models(self) -> bool:
        """Whether more than one base model was judged."""
        return self.problems["model"].nunique() > 1

    @cached_property
    def several_seeds(self) -> bool:
        """Whether some method was judged with more than one seed."""
        seeds = self.problems.groupby(["model", "method", "task"], observed=True)["seed"]
        return bool(len(self.problems)) and int(seeds.nunique().max()) > 1

    @cached_property
    def priced(self) -> bool:
        """Whether the trained parameters of some method judged on the headline task are known."""
        return self._on_headline(self.trainable)

    @cached_property
    def forecast(self) -> bool:
        """Whether the validation loss of some method judged on the headline task is known."""
        return self._on_headline(self.losses)

    def _on_headline(self, arms: pd.DataFrame) -> bool:
        rates = self.quality
        judged = rates[(rates["task"] == self.headline_task) & rates["value"].notna()]
        known = set(zip(arms["model"], arms["method"], strict=True))
        return bool(known & set(zip(judged["model"], judged["method"], strict=True)))

    @cached_property
    def several_methods(self) -> bool:
        """Whether there is anything to compare on the headline task."""
        judged = self.problems[self.problems["task"] == self.headline_task]
        return judged["method"].nunique() > 1

    @cached_property
    def pass_rates(self) -> pd.DataFrame:
        """pass@1 by model, method and task; see `comparison.pass_rates`."""
        return comparison.pass_rates(self._plain_problems)

    @cached_property
    def slice_rates(self) -> pd.DataFrame:
        """pass@1 by model, method, task and slice."""
        return comparison.pass_rates(self._plain_problems, by=("slice",))

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Paired differences of pass@1 between methods; see `comparison.pairs`."""
        return self.quality_pairs[self.quality_pairs["task"].isin(self.pass_tasks)]

    @cached_property
    def quality(self) -> pd.DataFrame:
        """The primary metric of every model, method and task, of whatever kind.

        Returns:
            Columns `model, method, task, metric, value, low, high, n, n_seeds, seed_low, seed_high,
            n_faults, chance` (what the most frequent answer gets; NaN where guessing has no rate).
        """
        keys = ["model", "method", "task"]
        faults = self.problems.groupby(keys, sort=False)["n_faults"].sum().reset_index()
        found = faults.merge(comparison.rates(self.units), on=keys, how="left")
        found = found.merge(tallies.majorities(self.counts), on=keys, how="left")
        found["n"] = found["n"].fillna(0).astype("int64")
        found["n_seeds"] = found["n_seeds"].fillna(0).astype("int64")
        found["metric"] = [self.primary_metric(task) for task in found["task"]]
        return found[[*keys, "metric", *comparison.RATES, "n_faults", "chance"]]

    @cached_property
    def quality_pairs(self) -> pd.DataFrame:
        """Paired differences of the primary metric, tasks of all kinds; see `comparison.pairs`."""
        return comparison.pairs(self.units)

    @cached_property
    def robustness(self) -> pd.DataFrame:
        """Perturbed against clean prompts; see `robustness.robustness`."""
        parts = [
            robustness.robustness(self.worst, self.problems, task, self.nominal_task(task))
            for task in self.robust_tasks
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    @cached_property
    def losses(self) -> pd.DataFrame:
        """First and last validation loss of every arm; see `losses.losses`."""
        return losses.losses(self.steps)

    def nominal_task(self, robust: str) -> str:
        """Where the unperturbed problems of a robust task are: in itself or in a plain task."""
        problems = self.problems
        groups = set(problems[problems["task"] == robust]["group"])

        def fit(task: str) -> tuple[int, bool, bool]:
            own = problems[(problems["task"] == task) & problems["problem_id"].isin(groups)]
            return own["problem_id"].nunique(), task == robust, task == self.headline_task

        return max((robust, *self.pass_tasks), key=fit)

    @cached_property
    def tunings(self) -> pd.DataFrame:
        """Costs of the trainings that count, one row an arm."""
        return self.costs[(self.costs["kind"] == RunKind.TRAIN) & self.costs["counted"].eq(True)]

    @cached_property
    def generations(self) -> pd.DataFrame:
        """Costs of the generations that count, each under the task that its verdicts go by."""
        tasks = {where(self.root, e.samples): e.arm.task for e in self.evaluations}
        counted = (self.costs["kind"] == RunKind.GENERATE) & self.costs["folder"].isin(list(tasks))
        own = self.costs[counted]
        return own.assign(task=own["folder"].map(tasks))

    @cached_property
    def trainable(self) -> pd.DataFrame:
        """Trainable parameters of every tuned model: of trainings here, else of `arms.jsonl`.

        Returns:
            Columns `model, method, trainable_parameters, source` (how the number is known).
        """
        own = self.tunings.groupby(["model", "method"], sort=False)["trainable_parameters"].max()
        found = own.reset_index().assign(source=TRAINED_HERE)
        known = set(zip(found["model"], found["method"], strict=True))
        told = [
            facts.model_dump(include=set(found.columns))
            for facts in self.arm_facts
            if (facts.model, facts.method) not in known
        ]
        return pd.concat([found, pd.DataFrame(told, columns=found.columns)], ignore_index=True)

    @cached_property
    def cost_ledger(self) -> pd.DataFrame:
        """What every method cost, stage by stage; see `ledger.cost_ledger`."""
        trials = {
            f.relative_to(self.root).as_posix() for f in trial_folders(self.root, self.sealed)
        }
        evaluated = {
            where(self.root, run) for e in self.evaluations for run in (e.judge, e.samples)
        }
        return ledger.cost_ledger(self.costs, self.runs, trials, evaluated)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Every metric of every model, method and task; see `measuring.measured`."""
        return measuring.measured(self.counts, self.worst, self._kinds)

    @cached_property
    def detectable(self) -> pd.DataFrame:
        """Smallest difference each benchmark would find; see `sensitivity.detectable`."""
        names = {task: self.primary_metric(task) for task in self.tasks}
        return sensitivity.detectable(self.quality_pairs, names)

    @cached_property
    def loss_correlations(self) -> pd.DataFrame:
        """Final validation loss against each score; see `sensitivity.loss_correlations`."""
        return sensitivity.loss_correlations(self.losses, self.quality)

    @cached_property
    def searches(self) -> pd.DataFrame:
        """Learning rates that were tried; see `searches.searches`."""
        return searches.searches(self.known)

    @property
    def _plain_problems(self) -> pd.DataFrame:
        return self.problems[self.problems["task"].isin(self.pass_tasks)]


def read_frames(root: Path) -> Frames:
    """Read all sealed runs in `root` and below.

    Raises:
        MissingDataError: if `root` is no folder, or holds neither runs nor a study file.
        DataError: if a record is not what it should be; names the file and the line.
    """
    study = read_study_file(root)
    found = [r for r in find_runs(root, unfinished=True) if r.manifest.kind != RunKind.STUDY]
    if not found and not (root / "study.yaml").exists():
        raise MissingDataError(
            f"{str(root)!r} holds no runs: no {'manifest.json'!r} in it or below; give the folder "
            "of a study or of one run, or make one with `astraios demo`"
        )
    sealed = tuple(run for run in found if run.done)
    notes = []
    if len(sealed) < len(found):
        names = [where(root, run) for run in found if not run.done]
        notes.append(
            f"{len(found) - len(sealed)} of {len(found)} runs are not finished and are left out: "
            f"{clip(names)}."
        )
    known = arms.arms(sealed)
    judged = arms.evaluations(known)
    trials = trial_folders(root, sealed)
    counted = arms.counted(root, known, judged.evaluations) - trials
    counts, worst = tallies.read_counts(judged.evaluations)
    cells = counts.select("model", "method", "task").unique().iter_rows()
    return Frames(
        root=root,
        study=study,
        runs=runs_of(root, known),
        steps=steps_of(known, counted),
        costs=costs_of(root, known, counted),
        scores=scores_of(judged.evaluations),
        counts=counts,
        worst=worst,
        arm_facts=facts_of(root),
        evaluations=judged.evaluations,
        known=known,
        notes=(*notes, *judged.notes, *holes(study, cells)),
    )
