"""A few steps of each kind of training of a study, measured, so that its time can be estimated.

What the steps need, embedded base models and packed data, is made in the study's folder and stays
for its run. The steps leave nothing but a line of `calibration.jsonl`.
"""

from __future__ import annotations

from pathlib import Path

from astraios.files import Writer, read_records
from astraios.progress import Progress, silent
from astraios.provenance import now
from astraios.records import Calibration, RunKind
from astraios.runs import Run
from astraios.studies import changes
from astraios.studies.checks import check
from astraios.studies.paces import CALIBRATION, training_mark
from astraios.studies.plan import Job, plan
from astraios.studies.study import Study
from astraios.studies.work import work
from astraios.training.config import TrainingConfig

__all__ = ["calibrate"]


def calibrate(
    study: Study, root: Path, *, data_dir: Path | None = None, progress: Progress = silent
) -> int:
    """Measure each base model and method of `study` that was not measured yet.

    Args:
        study: the grid.
        root: its folder; made if it is not there.
        data_dir: folder of benchmark and training data.
        progress: told of each training that is tried.

    Returns:
        How many were measured.

    Raises:
        ForeignRunError: if `root` holds the study as it was before a change, and work of it.
        LockedRunError: if a process runs the study there.
        AstraiosError: what a training would raise at its start.
    """
    check(study)
    jobs = plan(study, lacking={})
    changes.settle(study, jobs, root)
    by_id = {job.id: job for job in jobs}
    with Run.open(root, kind=RunKind.STUDY, config=study, run_id=study.name):
        changes.write_study(study, jobs, root)
        path = root / CALIBRATION
        known = {line.fingerprint for line in read_records(path, Calibration)}
        todo: dict[str, Job] = {}
        for job in jobs:
            if isinstance(job.config, TrainingConfig):
                mark = training_mark(job.config)
                if mark not in known:
                    todo.setdefault(mark, job)
        with Writer(path) as writer:
            for place, (mark, job) in enumerate(todo.items()):
                progress(place, len(todo), job.label)
                for needed in _forerunners(job, by_id):
                    work(needed, root, sandbox="best", data_dir=data_dir, progress=silent)
                writer.append(_measured(job, root, mark))
                progress(place + 1, len(todo), job.label)
    return len(todo)


def _forerunners(job: Job, by_id: dict[str, Job]) -> list[Job]:
    """Base model and packed data of a training, in order."""
    return [by_id[job.inputs[role]] for role in ("base", "data") if role in job.inputs]


def _measured(job: Job, root: Path, mark: str) -> Calibration:
    import torch

    from astraios.studies.shapes import shape_of
    from astraios.training.forecast import forecast
    from astraios.training.outlook import outlook

    config = job.config
    assert isinstance(config, TrainingConfig)
    base = root / job.inputs["base"] / "model" if "base" in job.inputs else None
    found = outlook(config, root / job.inputs["data"], base)
    assert found.seconds is not None
    gpu = torch.cuda.is_available()
    shape = shape_of(str(base or config.base_model), config.revision)
    flops = 0.0
    if shape is not None:
        flops = forecast(config, shape[0], row_tokens=config.block_length, gpu=gpu).flops_per_token
    return Calibration(
        base_model=config.base_model,
        method=config.method,
        fingerprint=mark,
        flops_per_token=flops,
        tokens_per_s=found.n_tokens / found.seconds,
        n_tokens=found.n_tokens,
        peak_mib=found.measured_mib,
        device=torch.cuda.get_device_name() if gpu else "cpu",
        n_devices=found.devices,
        when=now(),
    )
