"""One job done: the code that runs in a worker process."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from astraios import tasks
from astraios.data.config import PackConfig
from astraios.errors import AstraiosError
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.judge import JudgeConfig, judge
from astraios.evaluation.parity import is_owed
from astraios.progress import Progress
from astraios.records import RunKind
from astraios.runs import is_done, read_manifest
from astraios.studies import trials
from astraios.studies.bases import Bases, base_of
from astraios.studies.plan import Job
from astraios.training.config import PretrainingConfig, TrainingConfig

PREPARED = "prepared"
"""Folder of what engines make of tuned weights, one for all tasks of a model."""


def is_finished(job: Job, root: Path) -> bool:
    """Whether the job's run folder is sealed, without faults, and compared where it has to be."""
    folder = root / job.id
    if not is_done(folder) or n_faults(job, root):
        return False
    config = job.config
    return not (isinstance(config, EvaluationConfig) and is_owed(read_manifest(folder), config))


def n_faults(job: Job, root: Path) -> int:
    """Samples in the job's sealed folder that an engine or the sandbox failed on."""
    folder = root / job.id
    return int(read_manifest(folder).counts.get("n_faults", 0)) if is_done(folder) else 0


def work(
    job: Job,
    root: Path,
    *,
    sandbox: str,
    data_dir: Path | None,
    progress: Progress,
    bases: Bases | None = None,
) -> None:
    """Fill the run folder of `job`.

    A sealed one is left alone, but for its faults, which are tried again, and a comparison of its
    engine that was skipped and is wanted now; a started one is completed.

    Args:
        job: what to do; what it builds on is done.
        root: the study's folder.
        sandbox: level of isolation of generated programs.
        data_dir: folder of benchmark files.
        progress: told how far the job is.
        bases: base models in memory, shared with the jobs before and after; None: shared with none.

    Raises:
        AstraiosError: what went wrong, told for a user.
    """
    folder = root / job.id
    if is_finished(job, root):
        return
    if job.kind is RunKind.PRETRAIN:
        from astraios.training.pretrain import pretrain

        assert isinstance(job.config, PretrainingConfig)
        pretrain(job.config, folder, progress=progress)
    elif job.kind is RunKind.PACK:
        from astraios.data.pack import load_tokenizer, pack

        assert isinstance(job.config, PackConfig)
        source = _model_folder(job, root) or job.config.tokenizer
        tokenizer = load_tokenizer(source, job.config.revision)
        pack(job.config, folder, tokenizer=tokenizer, data_dir=data_dir, progress=progress)
    elif job.kind is RunKind.TRAIN:
        _train(job, root, folder, data_dir, progress, bases)
    elif job.kind is RunKind.SEARCH:
        trials.choose(job, root, folder)
    elif job.kind is RunKind.GENERATE:
        _generate(job, root, folder, data_dir, progress, bases)
    elif job.kind is RunKind.JUDGE:
        _judge(job, root, folder, sandbox, data_dir, progress)
    else:
        raise AstraiosError(f"job {job.id!r} is of kind {job.kind}, which no worker does")


def _model_folder(job: Job, root: Path) -> Path | None:
    """Where the pretraining run that `job` builds on left its model."""
    return root / job.inputs["base"] / "model" if "base" in job.inputs else None


def _train(
    job: Job,
    root: Path,
    folder: Path,
    data_dir: Path | None,
    progress: Progress,
    bases: Bases | None,
) -> None:
    from astraios.training.tune import tune

    config, base, shared = job.config, _model_folder(job, root), base_of(job)
    assert isinstance(config, TrainingConfig)
    opened = None
    if bases is not None and shared is not None:
        opened = partial(bases.trainable, shared, config, base or config.base_model)
    if job.is_trial:
        trials.try_rate(
            job, root, folder, base=base, data_dir=data_dir, progress=progress, opened=opened
        )
        return
    tune(
        trials.config_of(job, root),
        folder,
        base=base,
        data=root / job.inputs["data"],
        inputs=job.inputs,
        data_dir=data_dir,
        opened=opened,
        progress=progress,
    )


def _generate(
    job: Job,
    root: Path,
    folder: Path,
    data_dir: Path | None,
    progress: Progress,
    bases: Bases | None,
) -> None:
    from astraios.evaluation.generate import generate
    from astraios.studies.serving import model_of, trusted_engine
    from astraios.training.tune import ADAPTER

    config = job.config
    assert isinstance(config, EvaluationConfig)
    task = tasks.task_of_version(config.task, config.task_version)
    adapter = root / job.inputs["adapter"] / ADAPTER if "adapter" in job.inputs else None
    prepared = root / PREPARED / (job.inputs.get("adapter") or _part(config.base_model))
    model = model_of(config, base=_model_folder(job, root), adapter=adapter, folder=prepared)
    problems = task.problems(data_dir)
    shared = base_of(job)
    with ExitStack() as stack:
        if bases is not None and shared is not None:  # hf itself: compared with nothing
            engine, parity = stack.enter_context(bases.engine(shared, config, model)), None
        else:
            engine, parity = stack.enter_context(
                trusted_engine(config, model, task, problems, root)
            )
        generate(
            task,
            engine,
            config.sampling,
            folder,
            config=config,
            problems=problems,
            template=config.template,
            limit=config.limit_problems,
            inputs=job.inputs,
            parity=parity,
            progress=progress,
        )


def _part(base_model: str) -> str:
    """A folder name for a hub id or a path."""
    return base_model.strip("./").replace("/", "--")


def _judge(
    job: Job, root: Path, folder: Path, sandbox: str, data_dir: Path | None, progress: Progress
) -> None:
    config = job.config
    assert isinstance(config, JudgeConfig)
    task = tasks.task_of_version(config.task, config.task_version)
    judge(
        task,
        root / job.inputs["samples"],
        folder,
        problems=task.problems(data_dir),
        config=config,
        sandbox=sandbox,
        references="references" not in job.inputs,
        inputs=job.inputs,
        progress=progress,
    )
