"""Learning rates at work: trials, the choice among them, and the training that takes it up."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from astraios.errors import DataError, DivergedError, MissingDataError, TrainingError
from astraios.files import read_json, read_records
from astraios.progress import Progress
from astraios.records import ChosenRate, Divergence, RunKind, Step, Trial
from astraios.runs import Run, read_manifest, read_run
from astraios.studies.plan import Job
from astraios.studies.search import SearchConfig
from astraios.training.config import TrainingConfig

__all__ = ["CHOSEN", "TRIALS", "choose", "config_of", "ranked", "try_rate"]

TRIALS, CHOSEN = "trials", "chosen"
DIVERGED = "diverged"
_METRICS = "metrics"
_WEIGHTS = ("adapter", "adapter-best")


def config_of(job: Job, root: Path) -> TrainingConfig:
    """The config of a training, with the learning rate that was chosen for it if there is a search.

    Raises:
        MissingDataError: if that search is not done.
        DataError: if it ranks fewer rates than the training's place.
    """
    config = job.config
    assert isinstance(config, TrainingConfig)
    if job.place is None:
        return config
    order = ranked(root / job.place.search)
    if job.place.rank >= len(order):
        raise DataError(
            f"{job.place.search}/{TRIALS}.jsonl ranks {len(order)} rates, and {job.id} takes "
            f"number {job.place.rank + 1}; remove that folder to have the rates ranked again"
        )
    rate = order[job.place.rank].learning_rate
    optimization = config.optimization.model_copy(update={"learning_rate": rate})
    return config.model_copy(update={"optimization": optimization})


def try_rate(
    job: Job,
    root: Path,
    folder: Path,
    *,
    base: Path | None,
    data_dir: Path | None,
    progress: Progress,
    opened: Callable[[], AbstractContextManager[Any]] | None = None,
) -> None:
    """Train at one rate; the weights are thrown away, and a loss that explodes is a result.

    Raises:
        AstraiosError: what went wrong otherwise.
    """
    from astraios.training import checkpoints
    from astraios.training.tune import tune

    config = config_of(job, root)
    try:
        tune(
            config,
            folder,
            base=base,
            data=root / job.inputs["data"],
            inputs=job.inputs,
            data_dir=data_dir,
            opened=opened,
            progress=progress,
        )
    except DivergedError as error:
        inputs = read_manifest(folder).inputs
        with Run.open(folder, kind=RunKind.TRAIN, config=config, inputs=inputs) as run:
            run.write_json(DIVERGED, Divergence(message=str(error)))
            run.seal({"diverged": 1})
        checkpoints.remove(folder)
    _drop_weights(folder)


def choose(job: Job, root: Path, folder: Path) -> None:
    """Rank the rates of a rung, and of the last one choose the best.

    Leaves `trials.jsonl`, all trials so far, the shortest first; the last rung `chosen.json` too.

    Raises:
        TrainingError: if every trial diverged.
        DataError: if a trial has no validation loss.
    """
    config = job.config
    assert isinstance(config, SearchConfig)
    names = [name for name in job.inputs if name.startswith("trial")]
    trials = [_trial(root, job.inputs[name], config) for name in names]
    order = sorted(trials, key=_rank)
    if order[0].validation_loss is None:
        raise TrainingError(
            f"all {len(trials)} learning rates that were tried for {config.base_model} "
            f"{config.method} diverged, from {config.rates[0]:g} on; lower search.learning_rate"
        )
    before = root / job.inputs["before"] if "before" in job.inputs else None
    earlier = list(read_records(before / f"{TRIALS}.jsonl", Trial)) if before else []
    with Run.open(folder, kind=RunKind.SEARCH, config=config, inputs=job.inputs) as run:
        if run.done:
            return
        every = [*earlier, *order]
        run.rewrite(TRIALS, every)
        if config.is_last:
            run.write_json(CHOSEN, _chosen(config, every, order))
        run.seal({"n_trials": len(trials), "n_diverged": sum(not _held(t) for t in trials)})
    for name in names:
        _drop_weights(root / job.inputs[name])


def ranked(search: Path) -> list[Trial]:
    """The trials of the rung that the run folder `search` ranked, best first.

    Raises:
        MissingDataError: if it is not there, or not finished.
    """
    run = read_run(search)
    if run.manifest.kind is not RunKind.SEARCH:
        raise MissingDataError(f"{str(search)!r} is a {run.manifest.kind} run and no search")
    rung = int(run.manifest.config["rung"])
    return [trial for trial in run.read(TRIALS, Trial) if trial.rung == rung]


def chosen(search: Path) -> ChosenRate:
    """What the finished search in that run folder chose.

    Raises:
        MissingDataError: if there is no such file.
    """
    return read_json(search / f"{CHOSEN}.json", ChosenRate)


def _trial(root: Path, run_id: str, config: SearchConfig) -> Trial:
    run = read_run(root / run_id)
    plan = run.manifest.config["optimization"]
    loss, message = None, ""
    if run.manifest.counts.get("diverged"):
        message = read_json(run.folder / f"{DIVERGED}.json", Divergence).message
    else:
        steps = [s for s in run.read(_METRICS, Step) if s.validation_loss is not None]
        if not steps or steps[-1].step != plan["n_steps"]:
            raise DataError(
                f"trial {run_id!r} has no validation loss after its last step; "
                "set training.n_validation to 1 or more, or remove its folder to train it again"
            )
        loss = steps[-1].validation_loss
    return Trial(
        rung=config.rung,
        learning_rate=plan["learning_rate"],
        n_steps=plan["n_steps"],
        validation_loss=loss,
        diverged=message,
        run=run_id,
    )


def _held(trial: Trial) -> bool:
    return trial.validation_loss is not None


def _rank(trial: Trial) -> tuple[bool, float, float]:
    """Lowest loss first, of equal ones the lower rate; those that diverged behind."""
    return not _held(trial), trial.validation_loss or 0.0, trial.learning_rate


def _chosen(config: SearchConfig, every: list[Trial], order: list[Trial]) -> ChosenRate:
    best = order[0]
    assert best.validation_loss is not None
    edge: Literal["", "low", "high"] = ""
    warning = ""
    sides: tuple[tuple[Literal["low", "high"], float, str], ...] = (
        ("low", config.rates[0], "below"),
        ("high", config.rates[-1], "above"),
    )
    for side, rate, word in sides:
        if best.learning_rate == rate:
            edge = side
            warning = (
                f"the best rate, {rate:g}, is the {side}est that was tried: a better one may lie "
                f"{word} it"
            )
    return ChosenRate(
        base_model=config.base_model,
        method=config.method,
        learning_rate=best.learning_rate,
        validation_loss=best.validation_loss,
        on=config.on,
        how=config.how,
        rates=config.rates,
        ranking=tuple(trial.learning_rate for trial in order),
        n_trials=len(every),
        n_diverged=sum(not _held(trial) for trial in every),
        at_edge=edge,
        warning=warning,
    )


def _drop_weights(folder: Path) -> None:
    for name in _WEIGHTS:
        shutil.rmtree(folder / name, ignore_errors=True)
