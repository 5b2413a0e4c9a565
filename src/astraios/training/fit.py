"""The training loop: `transformers.Trainer` with our data order, records and checkpoints.

`fit` takes rows in the order they are to be seen, so data order is the caller's, visible, and equal
for every method and every number of devices. An interrupted fit continues from its last whole
checkpoint and ends with the same weights.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, set_seed

from astraios.data import Row
from astraios.errors import TrainingError
from astraios.measure import Meter
from astraios.methods import Method
from astraios.progress import Progress, silent
from astraios.records import Cost, Step
from astraios.runs import Run
from astraios.training import checkpoints, sharding
from astraios.training._recorder import METRICS, MethodsOwn, Recorder, Stop
from astraios.training._trainer import OurTrainer, arguments, out_of_memory, what_to_lower
from astraios.training.accounting import (
    matmul_rate,
    peak_allocated_mib,
    peak_mib,
    state_bytes,
    weight_bytes,
)
from astraios.training.batches import Collator, Rows
from astraios.training.config import Optimization, TrainingConfig
from astraios.training.optimizers import optimizer_of, schedule
from astraios.training.processes import processes
from astraios.training.reporting import reporters


def fit(
    model: nn.Module,
    rows: Sequence[Row],
    optimization: Optimization,
    run: Run,
    *,
    recipe: TrainingConfig | None = None,
    validation: Sequence[Row] = (),
    seed: int = 0,
    pad_id: int = 0,
    method: Method | None = None,
    progress: Progress = silent,
) -> Cost:
    """Train the trainable parameters of `model` in place.

    Checkpoints stay in the run folder until `checkpoints.remove`, which belongs after what was
    trained is saved; so do the weights of the best validation loss, for `checkpoints.best`.

    Args:
        model: a causal language model, possibly wrapped by a method.
        rows: `n_steps * batch_size` rows in the order they are seen.
        optimization: optimizer and schedule.
        run: where metrics go (`metrics.jsonl`) and checkpoints are kept.
        recipe: compute precision, checkpointing, sharding and whom to tell; None: fp32 and none.
        validation: rows whose loss is recorded before, during and after.
        seed: for dropout.
        pad_id: fills rows on the right; never in the loss.
        method: the one that tuned `model`; some do something of their own after a step.
        progress: called after every step.

    Returns:
        What the whole run cost, its interrupted parts included.

    Raises:
        TrainingError: if the loss is not finite or diverges, or memory runs out.
        StorageError: if a checkpoint does not fit on the disk.
        KeyboardInterrupt: after SIGTERM, when the step is done and saved.
    """
    wanted = optimization.n_steps * optimization.batch_size
    if len(rows) != wanted:
        raise TrainingError(f"fit needs {wanted} rows in order, got {len(rows)}")
    if recipe is not None:
        sharding.refuse(recipe, method)
    tellers = reporters(recipe.report_to if recipe else (), run)
    folder = run.folder / checkpoints.FOLDER
    resumed = checkpoints.latest(folder)
    first_step = resumed[1].step if resumed else 0
    kept = [s for s in run.read(METRICS, Step) if s.step <= first_step] if resumed else []
    processes().wait_for_everyone()  # all have looked before the first one writes
    if processes().is_main_process:
        run.rewrite(METRICS, kept)
        checkpoints.sweep(folder)
    meter = Meter(
        **resumed[1].model_dump(include={"wall_s", "cpu_s", "energy_j"}) if resumed else {}
    )

    set_seed(seed)
    config: Any = model.config
    use_cache = config.use_cache
    config.use_cache = False  # a cache would switch document isolation off, silently
    trained = model if recipe is None else sharding.shard(model, recipe.sharding)
    optimizer = optimizer_of(trained, optimization)
    with Stop() as stop:
        recorder = Recorder(
            run,
            rows,
            validation,
            optimization,
            pad_id,
            meter,
            progress,
            stop,
            resumed and resumed[1],
            kept,
        )
        trainer = sharding.trainer_of(recipe)(
            model=trained,
            args=arguments(optimization, folder, seed, recipe),
            train_dataset=Rows(rows),
            data_collator=Collator(pad_id),
            # A checkpoint is whole when the recorder says so: it comes last.
            callbacks=[*tellers, *([MethodsOwn(method)] if method else []), recorder],
            optimizers=(optimizer, schedule(optimizer, optimization)),
        )
        recorder.trainer = trainer
        trainer.args.report_to = list(recipe.report_to) if recipe else []
        trainer.args.run_name = run.folder.name
        if optimization.loss == "mean-of-means":
            trainer.model_accepts_loss_kwargs = False
        trainer.remove_callback(PrinterCallback)
        try:
            with _quiet():
                trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise what_to_lower(recorder.step, optimization, peak_mib(meter.peak_mib)) from error
        finally:
            config.use_cache = use_cache
    if recorder.step < optimization.n_steps:
        raise KeyboardInterrupt
    cost = _cost(trainer, rows, meter)
    if trained is not model:
        sharding.gather(trained, model)
    return cost


def _cost(trainer: OurTrainer, rows: Sequence[Row], meter: Meter) -> Cost:
    model, wall_s = trainer.model, meter.wall_s
    n_tokens = sum(len(row.ids) for row in rows)
    device_s = wall_s * processes().num_processes
    flops = None if trainer.flops_per_token is None else trainer.flops_per_token * n_tokens
    dtype = torch.bfloat16 if trainer.args.bf16 else torch.float32
    return Cost(
        wall_s=wall_s,
        cpu_s=meter.cpu_s,
        n_tokens=n_tokens,
        tokens_per_s=n_tokens / wall_s,
        peak_mib=peak_mib(meter.peak_mib),
        peak_allocated_mib=peak_allocated_mib(),
        trainable_parameters=sum(p.numel() for p in checkpoints.trainable(model).values()),
        total_parameters=sum(p.numel() for p in model.parameters()),
        device_s=device_s,
        flops=flops,
        mfu=flops and flops / device_s / matmul_rate(str(trainer.args.device), dtype),
        gradient_mib=weight_bytes(model, here=True) / 2**20,
        optimizer_mib=state_bytes(trainer.optimizer, here=True) / 2**20,
        energy_j=meter.energy_j,
    )


class _quiet(warnings.catch_warnings):  # noqa: N801
    """The trainer prints its logs and warns about things that are chosen here on purpose."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
        return entered
