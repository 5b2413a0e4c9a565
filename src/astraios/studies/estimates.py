"""What the cells of a study will cost, before anything runs.

Every figure says where it comes from, and is None with a reason where nothing tells it. Trained
parameters follow from the method's formula, tokens from the config or the packed data, memory from
the shape of the model (`training.forecast`), time from trainings that were measured: of a few steps
(`calibrate`), or of finished runs. Nothing is downloaded and no weights are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from astraios import methods, tasks
from astraios.errors import AstraiosError, MethodError
from astraios.evaluation.config import EvaluationConfig
from astraios.records import RunKind
from astraios.runs import is_done
from astraios.studies.paces import Paces
from astraios.studies.plan import Job
from astraios.studies.shapes import shape_of
from astraios.studies.study import BASE, Study, sampling
from astraios.studies.work import is_finished
from astraios.training.config import EMBEDDED, TrainingConfig

__all__ = ["Cell", "Figure", "estimate"]

UNKNOWN_SHAPE = "the base model's config is not on this machine"
NO_TORCH = "needs torch: pip install 'astraios[train]'"
NO_PACE = "nothing was measured: --calibrate, or --from RUNS"


@dataclass(frozen=True)
class Figure:
    """A number and where it comes from; without a number, why there is none."""

    value: float | None
    source: str
    bound: bool = False
    """Whether it is the most that it can be."""


@dataclass
class Cell:
    """A base model, a method and a seed; the search for a rate is a cell of its own."""

    base_model: str
    method: str
    seed: int | None
    """None for a search, which is one for all seeds."""
    what: str
    """`evaluate` for the untuned model, `tune` or `search`."""
    n_jobs: int = 0
    n_done: int = 0
    trainable_parameters: Figure = field(default=Figure(0, ""))
    training_tokens: Figure = field(default=Figure(0, ""))
    memory_mib: Figure = field(default=Figure(None, ""))
    """Of one device, in training."""
    training_s: Figure = field(default=Figure(0, ""))
    completion_tokens: Figure = field(default=Figure(0, ""))
    generating_s: Figure = field(default=Figure(0, ""))
    judging_s: Figure = field(default=Figure(0, ""))
    over_mib: float | None = None
    """By how much `memory_mib` is more than a device may have."""


def estimate(
    study: Study,
    jobs: Sequence[Job],
    root: Path,
    *,
    paces: Paces,
    data_dir: Path | None = None,
    max_memory_mib: float | None = None,
) -> list[Cell]:
    """The cells of `study`, in the order of its jobs, with what each will cost.

    Args:
        study: the grid.
        jobs: its plan.
        root: its folder; packed data there tell tokens exactly.
        paces: what was measured.
        data_dir: folder of benchmark files, by which completions are counted.
        max_memory_mib: what one device may have.
    """
    cells: dict[tuple[str, str, int | None], Cell] = {}
    by_id = {job.id: job for job in jobs}
    completions = _Completions(study, data_dir)
    for job in jobs:
        cell = _cell(job, by_id, cells)
        if cell is None:
            continue
        done = is_finished(job, root)
        cell.n_jobs += 1
        cell.n_done += done
        if isinstance(job.config, TrainingConfig):
            _add_training(cell, job, root, paces)
        elif isinstance(job.config, EvaluationConfig):
            _add_generation(cell, job.config, completions.of(job.config), paces)
        elif job.kind is RunKind.JUDGE:
            asked: Any = by_id[job.inputs["samples"]].config
            _add_judging(cell, asked, completions.of(asked), paces)
    for cell in cells.values():
        used = cell.memory_mib.value
        if max_memory_mib is not None and used is not None and used > max_memory_mib:
            cell.over_mib = used - max_memory_mib
    return list(cells.values())


def _cell(
    job: Job, by_id: dict[str, Job], cells: dict[tuple[str, str, int | None], Cell]
) -> Cell | None:
    """The cell that `job` belongs to, made if need be; None for what several share."""
    config: Any = job.config
    if job.kind is RunKind.JUDGE:
        config = by_id[job.inputs["samples"]].config
    if job.kind in (RunKind.PRETRAIN, RunKind.PACK):
        return None
    if job.is_trial or job.kind is RunKind.SEARCH:
        key, what = (config.base_model, config.method, None), "search"
    else:
        key = (config.base_model, config.method or BASE, config.seed)
        what = "evaluate" if key[1] == BASE else "tune"
    return cells.setdefault(key, Cell(*key, what))


def _add_training(cell: Cell, job: Job, root: Path, paces: Paces) -> None:
    config = job.config
    assert isinstance(config, TrainingConfig)
    tokens = _tokens(config, root / job.inputs["data"])
    shape = _shape(config.base_model, config.revision)
    cell.trainable_parameters = _trainable(config, shape)
    cell.training_tokens = _sum(cell.training_tokens, tokens)
    told = _forecast(config, shape)
    if isinstance(told, str):
        cell.memory_mib = Figure(None, told)
        cell.training_s = _sum(cell.training_s, Figure(None, told))
        return
    if cell.memory_mib.value is None or told.estimate_mib > cell.memory_mib.value:
        of = "a GPU" if _on_gpu(config) else "a CPU"
        cell.memory_mib = Figure(told.estimate_mib, f"estimate for {of}, by shape")
    pace = paces.flops_per_s(config)
    if pace is None:
        cell.training_s = _sum(cell.training_s, Figure(None, NO_PACE))
    elif tokens.value is not None:
        seconds = told.flops_per_token * tokens.value / pace[0]
        cell.training_s = _sum(cell.training_s, Figure(seconds, pace[1], tokens.bound))


def _add_generation(cell: Cell, config: EvaluationConfig, n: Figure, paces: Paces) -> None:
    if n.value is None:
        cell.completion_tokens = _sum(cell.completion_tokens, n)
        cell.generating_s = _sum(cell.generating_s, n)
        return
    most = n.value * config.sampling.max_new_tokens
    cell.completion_tokens = _sum(
        cell.completion_tokens, Figure(most, "problems x samples x max_new_tokens", bound=True)
    )
    each = paces.seconds_a_completion(config.base_model, config.task)
    known = Figure(None, "no finished generation of this base model and task: --from RUNS")
    if each is not None:
        known = Figure(each * n.value, "recorded runs")
    cell.generating_s = _sum(cell.generating_s, known)


def _add_judging(cell: Cell, config: EvaluationConfig, n: Figure, paces: Paces) -> None:
    each = paces.seconds_a_verdict(config.task)
    if n.value is None:
        cell.judging_s = _sum(cell.judging_s, n)
    elif each is None:
        cell.judging_s = _sum(cell.judging_s, Figure(None, "no finished judging: --from RUNS"))
    else:
        cell.judging_s = _sum(cell.judging_s, Figure(each * n.value, "recorded runs"))


def _sum(one: Figure, more: Figure) -> Figure:
    """Both together; None where one is, and the source of the last."""
    if one.value is None:
        return one
    if more.value is None:
        return more
    return Figure(one.value + more.value, more.source, one.bound or more.bound)


def total(figures: Iterator[Figure]) -> Figure:
    """Their sum, as `_sum` makes it."""
    found = Figure(0, "")
    for figure in figures:
        found = _sum(found, figure)
    return found


# --- by part ----------------------------------------------------------------------------------


def _tokens(config: TrainingConfig, data: Path) -> Figure:
    """Tokens that a training sees: exactly where its data are packed, else the most it can be."""
    plan = config.optimization
    most = plan.n_steps * plan.batch_size * config.block_length
    if config.layout == "constant_length":
        return Figure(most, "steps x rows x block_length")
    if is_done(data):
        from astraios.training.rows import training_rows

        rows, _ = training_rows(config, data)
        return Figure(int(rows.lengths.sum()), "the packed data")
    return Figure(most, "steps x rows x block_length", bound=True)


@lru_cache(maxsize=64)
def _shape(base_model: str, revision: str | None) -> Any:
    """Transformers config and its source, or why there is none."""
    try:
        return shape_of(base_model, revision) or UNKNOWN_SHAPE
    except ImportError:
        return NO_TORCH


def _trainable(config: TrainingConfig, shape: Any) -> Figure:
    if isinstance(shape, str):
        return Figure(None, shape)
    source = shape[1]
    method = methods.method(config.method)
    options = method.options_for(config.method_options, config.optimization.n_steps)
    try:
        return Figure(method.n_trainable(_sizes(config.base_model, config.revision), options),
                      f"the method's formula, {source}")  # fmt: skip
    except ImportError:
        return Figure(None, NO_TORCH)
    except MethodError as formula:
        told = _forecast(config, shape)
        if isinstance(told, str):
            return Figure(None, str(formula))
        return Figure(told.trainable_parameters, f"counted on the meta device, {source}")


@lru_cache(maxsize=64)
def _sizes(base_model: str, revision: str | None) -> methods.Shape:
    return methods.Shape.from_config(_shape(base_model, revision)[0])


def _on_gpu(config: TrainingConfig) -> bool:
    """Embedded models are trained on a CPU."""
    return config.base_model not in EMBEDDED


def _forecast(config: TrainingConfig, shape: Any) -> Any:
    """The `Forecast` of a training, or why there is none."""
    if isinstance(shape, str):
        return shape
    options, of = methods.method(config.method).options_for, config.method_options
    changed: dict[str, Any] = {"learning_rate": 1.0}
    if options(of, config.optimization.n_steps) == options(of, 1):
        changed |= {"n_steps": 1, "n_warmup_steps": 0}  # trainings of any length are alike
    plan = config.optimization.model_copy(update=changed)
    alike = config.model_copy(update={"optimization": plan, "seed": 0})
    return _forecast_of(alike.model_dump_json())


@lru_cache(maxsize=512)
def _forecast_of(config_json: str) -> Any:
    config = TrainingConfig.model_validate_json(config_json)
    try:
        from astraios.training.forecast import forecast
    except ImportError:
        return NO_TORCH
    shape = _shape(config.base_model, config.revision)
    try:
        return forecast(config, shape[0], row_tokens=config.block_length, gpu=_on_gpu(config))
    except (AstraiosError, RuntimeError, ValueError, NotImplementedError, AttributeError) as error:
        return f"cannot be told by shape ({str(error).splitlines()[0][:100]})"


@lru_cache(maxsize=256)
def _n_problems(name: str, version: str, data_dir: Path | None) -> tuple[Figure, int]:
    """Problems of a task, counted in its data, and questions a problem; nothing is downloaded."""
    task = tasks.task_of_version(name, version)
    if task.data_name and (data_dir is None or not (data_dir / task.data_name).exists()):
        return Figure(None, f"the data of {task.data_name} are not here: --data-dir"), 1
    try:
        n_problems, first = task.extent(data_dir)
    except AstraiosError as error:
        return Figure(None, str(error).splitlines()[0][:120]), 1
    n_turns = 1
    while n_turns < 4 and _asks_again(task, first, n_turns):
        n_turns += 1
    return Figure(n_problems, "the task's data"), n_turns


def _asks_again(task: Any, problem: Any, n_turns: int) -> bool:
    try:
        return task.prompt(problem, ("x",) * n_turns, task.template) is not None
    except AstraiosError:
        return False


class _Completions:
    """How many completions a study asks of each task; every arm is asked as many."""

    def __init__(self, study: Study, data_dir: Path | None) -> None:
        self._study, self._data_dir = study, data_dir
        self._known: dict[tuple[str, str], Figure] = {}

    def of(self, config: EvaluationConfig) -> Figure:
        key = config.task, config.task_version
        if key not in self._known:
            self._known[key] = self._count(*key)
        return self._known[key]

    def _count(self, name: str, version: str) -> Figure:
        found, n_turns = _n_problems(name, version, self._data_dir)
        if found.value is None:
            return found
        drawn = sampling(self._study, tasks.task_of_version(name, version)).n_samples
        limit = self._study.limit_problems
        n = found.value if limit is None else min(found.value, limit)
        return replace(found, value=n * n_turns * drawn)
