"""Sealed runs as data frames: what every table and figure is computed from.

    runs       one row a sealed run: kind, model, method, seed, task, folder, sandbox, ...
    steps      training and pretraining, one row a record
    costs      one row a run that has a cost
    scores     one row a score, as the task computed it
    verdicts   one row a verdict, without its message
    problems   one row an arm, task and problem: samples counted, passed, faults

and, computed from `problems` when first asked for (see `comparison.py`):

    pass_rates   one row an arm and task, with interval and seed spread
    pairs        one row a pair of methods, model and task: difference, interval, Holm p-value
    robustness   one row a model, method and transformation: clean, perturbed, drop

An *arm* is a base model, a method and a seed (see `arms.py`). What the study file promises and no
sealed run holds stays a hole: it is listed in `notes` and printed as a dash, never filled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from astraios.analysis import arms, comparison, style
from astraios.analysis.arms import Evaluation
from astraios.analysis.columns import Coded, read_columns, rows_of
from astraios.analysis.studyfile import StudyFile, read_study_file
from astraios.errors import DataError, MissingDataError
from astraios.files import read_json
from astraios.records import Cost, Outcome, RunKind, Score, Step, Verdict
from astraios.runs import Run, find_runs

KEYS = ("model", "method", "seed", "task")
VERDICT_TEXT = ("problem_id", "group", "slice", "outcome")
VERDICT_NUMBERS = ("index", "wall_s", "cpu_s", "peak_mib")
SECURITY = frozenset({Outcome.VULNERABLE, Outcome.SAFE})
"""Tasks with these outcomes are not scored by the share of samples that pass."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Everything a view may look at; views change nothing in it."""

    root: Path
    study: StudyFile
    runs: pd.DataFrame
    steps: pd.DataFrame
    costs: pd.DataFrame
    scores: pd.DataFrame
    verdicts: pd.DataFrame
    problems: pd.DataFrame
    evaluations: tuple[Evaluation, ...]
    sealed: tuple[Run, ...]
    notes: tuple[str, ...]
    """What is missing or was left out, in whole sentences."""

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Base model -> its parameters, where a cost says so."""
        return _sizes(self.costs)

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
        seen = set(self.problems["task"].unique())
        return tuple(sorted(seen, key=lambda task: (places.get(task, len(places)), task)))

    @cached_property
    def robust_tasks(self) -> tuple[str, ...]:
        """Tasks made of variants of other problems (ReCode and its like)."""
        variants = self.problems[self.problems["group"] != self.problems["problem_id"]]
        return tuple(task for task in self.tasks if task in set(variants["task"].unique()))

    @cached_property
    def pass_tasks(self) -> tuple[str, ...]:
        """Tasks that are scored by the share of samples that pass, variants apart.

        Not those whose scores have a chance level: a share of right answers without it misleads.
        """
        outcomes = self.verdicts[["task", "outcome"]].drop_duplicates()
        secure = set(outcomes[outcomes["outcome"].isin(list(SECURITY))]["task"])
        guessed = set(self.scores[self.scores["chance"].notna()]["task"])
        others = secure | guessed | set(self.robust_tasks)
        return tuple(task for task in self.tasks if task not in others)

    @cached_property
    def qualified_scores(self) -> pd.DataFrame:
        """Scores that must not be shown without their chance level, or without their caveat."""
        scores = self.scores
        return scores[scores["chance"].notna() | scores["caveat"].fillna("").ne("")]

    @cached_property
    def headline_task(self) -> str | None:
        """The task the answer is about: the first that asks for synthesis, else the first."""
        synthesis = (task for task in self.pass_tasks if "synthesize" in task)
        return next(synthesis, next(iter(self.pass_tasks), None))

    @cached_property
    def headline_model(self) -> str | None:
        """The model the answer is about: the largest that was judged on the headline task."""
        judged = self.problems[self.problems["task"] == self.headline_task]
        seen = set(judged["model"].unique())
        return next((model for model in reversed(self.models) if model in seen), None)

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
    def several_slices(self) -> bool:
        """Whether some pass@1 task has parts that are worth telling apart."""
        slices = self._plain_problems.groupby("task", observed=True)["slice"].nunique()
        return bool(len(slices)) and int(slices.max()) > 1

    @cached_property
    def priced(self) -> bool:
        """Whether the trained parameters of some method judged on the headline task are known."""
        return self._on_headline(self.tunings)

    @cached_property
    def forecast(self) -> bool:
        """Whether the validation loss of some method judged on the headline task is known."""
        return self._on_headline(self.losses)

    def _on_headline(self, arms: pd.DataFrame) -> bool:
        rates = self.pass_rates
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
        """Paired differences between methods; see `comparison.pairs`."""
        return comparison.pairs(self._plain_problems)

    @cached_property
    def robustness(self) -> pd.DataFrame:
        """Perturbed against clean prompts; see `comparison.robustness`."""
        parts = [
            comparison.robustness(self.problems, task, self._nominal_task(task))
            for task in self.robust_tasks
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    @cached_property
    def losses(self) -> pd.DataFrame:
        """First and last validation loss of every arm; see `comparison.losses`."""
        return comparison.losses(self.steps)

    def _nominal_task(self, robust: str) -> str:
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
        names = ", ".join(_where(root, run) for run in found if not run.done)
        notes.append(
            f"{len(found) - len(sealed)} of {len(found)} runs are not finished and are left out: "
            f"{_clip(names)}."
        )
    evaluations, n_older = arms.evaluations(sealed)
    if n_older:
        notes.append(
            f"{n_older} older judgings of an arm and task that was judged again are left out; "
            "the latest counts."
        )
    counted = arms.counted(root, sealed, evaluations)
    verdicts = _verdicts(evaluations)
    frames = Frames(
        root=root,
        study=study,
        runs=_runs(root, sealed),
        steps=_steps(sealed, counted),
        costs=_costs(sealed, counted),
        scores=_scores(evaluations),
        verdicts=verdicts,
        problems=comparison.problems(verdicts),
        evaluations=evaluations,
        sealed=sealed,
        notes=(),
    )
    notes += [*arms.mixed_versions(evaluations), *_holes(frames)]
    object.__setattr__(frames, "notes", tuple(notes))
    return frames


# --- frames -----------------------------------------------------------------------------------


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """A frame that has its columns even without rows."""
    return pd.DataFrame(rows, columns=pd.Index(columns))


def _runs(root: Path, sealed: tuple[Run, ...]) -> pd.DataFrame:
    rows = [
        {
            "kind": str(run.manifest.kind),
            **asdict(arm),
            "folder": _where(root, run),
            "run_id": run.manifest.run_id,
            "fingerprint": run.manifest.fingerprint,
            "sandbox": run.manifest.environment.get("sandbox", ""),
            "started": run.manifest.started,
            "finished": run.manifest.finished,
        }
        for run, arm in zip(sealed, arms.arms(sealed), strict=True)
    ]
    columns = ("folder", "run_id", "fingerprint", "sandbox", "started", "finished")
    return _frame(rows, ("kind", *KEYS, *columns))


def _steps(sealed: tuple[Run, ...], counted: set[Path]) -> pd.DataFrame:
    rows = []
    for run, arm in zip(sealed, arms.arms(sealed), strict=True):
        if run.folder in counted:
            keys = {"kind": str(run.manifest.kind), **{key: getattr(arm, key) for key in KEYS[:3]}}
            rows += [{**keys, **step.model_dump()} for step in run.read("metrics", Step)]
    return _frame(rows, ("kind", *KEYS[:3], *Step.model_fields))


def _costs(sealed: tuple[Run, ...], counted: set[Path]) -> pd.DataFrame:
    rows = []
    for run, arm in zip(sealed, arms.arms(sealed), strict=True):
        path = run.folder / "cost.json"
        if path.exists():
            cost = read_json(path, Cost).model_dump()
            keys = {"kind": str(run.manifest.kind), **asdict(arm), "counted": run.folder in counted}
            rows.append({**keys, **cost})
    return _frame(rows, ("kind", *KEYS, "counted", *Cost.model_fields))


def _scores(evaluations: tuple[Evaluation, ...]) -> pd.DataFrame:
    rows = []
    for evaluation in evaluations:
        path = evaluation.judge.folder / "scores.json"
        if not path.exists():
            continue
        try:
            scores = [Score.model_validate(value) for value in json.loads(path.read_bytes())]
        except (ValueError, TypeError):
            raise DataError(
                f"{path}: not a list of scores; remove {str(path.parent)!r} and judge again"
            ) from None
        keys = asdict(evaluation.arm)
        rows += [{**score.model_dump(), **keys} for score in scores]
    names = tuple(name for name in Score.model_fields if name not in KEYS)
    return _frame(rows, (*KEYS, *names))


def _verdicts(evaluations: tuple[Evaluation, ...]) -> pd.DataFrame:
    text = {name: Coded() for name in ("model", "method", "task", *VERDICT_TEXT)}
    numbers: dict[str, list[Any]] = {name: [] for name in ("seed", *VERDICT_NUMBERS)}
    for evaluation in evaluations:
        wanted = (*VERDICT_TEXT, *VERDICT_NUMBERS)
        columns = read_columns(evaluation.judge, "verdicts", Verdict, wanted)
        n = len(columns["problem_id"])
        for name in ("model", "method", "task"):
            text[name].repeat(getattr(evaluation.arm, name), n)
        for name in VERDICT_TEXT:
            text[name].extend(columns[name])
        numbers["seed"].append(pd.Series(evaluation.arm.seed, index=range(n), dtype="int32"))
        for name in VERDICT_NUMBERS:
            kind = "int32" if name == "index" else "float32"
            numbers[name].append(pd.Series(columns[name], dtype=kind))
    joined = {
        name: pd.concat(parts, ignore_index=True) if parts else pd.Series(dtype="float32")
        for name, parts in numbers.items()
    }
    return pd.DataFrame({**{name: coded.column() for name, coded in text.items()}, **joined})


def _sizes(costs: pd.DataFrame) -> dict[str, int]:
    sizes: dict[str, int] = {}
    known = costs[costs["total_parameters"] > 0]
    for model, rows in known.groupby("model"):
        whole = rows[(rows["kind"] == RunKind.PRETRAIN) | (rows["method"] == style.FULL)]
        added = rows[(rows["kind"] == RunKind.TRAIN) & (rows["method"] != style.FULL)]
        if len(whole):
            sizes[str(model)] = int(whole["total_parameters"].iloc[0])
        elif len(added):  # totals include what the method added
            sizes[str(model)] = int(
                (added["total_parameters"] - added["trainable_parameters"]).min()
            )
    return sizes


# --- what is promised, what is missing --------------------------------------------------------


def _holes(frames: Frames) -> list[str]:
    cells = frames.problems[["model", "method", "task"]].drop_duplicates()
    judged = {tuple(row.values()) for row in rows_of(cells)}
    missing = [
        f"{style.title(method)} on {task} ({model})"
        for model in frames.study.models
        for method in frames.study.methods
        for task in frames.study.tasks
        if (model, method, task) not in judged
    ]
    if not missing:
        return []
    n_cells = len(frames.study.models) * len(frames.study.methods) * len(frames.study.tasks)
    return [f"{len(missing)} of {n_cells} cells have no result yet: {_clip(', '.join(missing))}."]


def _where(root: Path, run: Run) -> str:
    return run.folder.relative_to(root).as_posix()


def _clip(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[: limit - 4].rsplit(",", 1)[0] + ", ..."
