"""The training loop: `transformers.Trainer`, and the only file that knows it.

`fit` takes rows in the order they are to be seen, so data order is the caller's, visible, and equal
for every method. Losses are means over target tokens. An interrupted fit continues from its last
whole checkpoint and ends with the same weights.
"""

from __future__ import annotations

import logging
import math
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_constant_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
    get_wsd_schedule,
    set_seed,
)

from astraios.data import Row
from astraios.data.tokens import IGNORED
from astraios.errors import TrainingError
from astraios.measure import Meter
from astraios.progress import Progress, silent
from astraios.records import Cost, Step
from astraios.runs import Run
from astraios.training import checkpoints
from astraios.training.config import Optimization

METRICS = "metrics"
CHECKPOINTS = "checkpoints"


def fit(
    model: nn.Module,
    rows: Sequence[Row],
    optimization: Optimization,
    run: Run,
    *,
    validation: Sequence[Row] = (),
    seed: int = 0,
    pad_id: int = 0,
    progress: Progress = silent,
) -> Cost:
    """Train the trainable parameters of `model` in place.

    Args:
        model: a causal language model, possibly wrapped by a method.
        rows: `n_steps * batch_size` rows in the order they are seen.
        optimization: optimizer and schedule.
        run: where metrics go (`metrics.jsonl`) and checkpoints are kept until the end.
        validation: rows whose loss is recorded before, during and after.
        seed: for dropout.
        pad_id: fills rows on the right; never in the loss.
        progress: called after every step.

    Returns:
        What the whole run cost, its interrupted parts included.

    Raises:
        TrainingError: if the loss is not finite, or memory runs out.
    """
    wanted = optimization.n_steps * optimization.batch_size
    if len(rows) != wanted:
        raise TrainingError(f"fit needs {wanted} rows in order, got {len(rows)}")
    folder = run.folder / CHECKPOINTS
    resumed = checkpoints.latest(folder)
    first_step = resumed[1].step if resumed else 0
    kept = [step for step in run.read(METRICS, Step) if step.step <= first_step] if resumed else []
    run.rewrite(METRICS, kept)
    meter = Meter(**resumed[1].model_dump(include={"wall_s", "cpu_s"}) if resumed else {})

    set_seed(seed)
    recorder = _Recorder(run, rows, validation, optimization, pad_id, meter, progress)
    config: Any = model.config
    use_cache = config.use_cache
    config.use_cache = False  # a cache would switch document isolation off, silently
    optimizer = adamw(model, optimization)
    trainer = _Trainer(
        model=model,
        args=_arguments(optimization, folder, seed),
        train_dataset=_Rows(rows),
        data_collator=_Collator(pad_id),
        callbacks=[recorder],
        optimizers=(optimizer, schedule(optimizer, optimization)),
    )
    trainer.remove_callback(PrinterCallback)
    try:
        with _quiet():
            trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"out of memory at step {recorder.step} ({error}); lower optimization.batch_size "
            "or block_length"
        ) from error
    finally:
        config.use_cache = use_cache
    shutil.rmtree(folder, ignore_errors=True)
    n_tokens = sum(len(row.ids) for row in rows)
    total = sum(p.numel() for p in model.parameters())
    return Cost(
        wall_s=meter.wall_s,
        cpu_s=meter.cpu_s,
        n_tokens=n_tokens,
        tokens_per_s=n_tokens / meter.wall_s,
        peak_mib=meter.peak_mib,
        trainable_parameters=sum(p.numel() for p in checkpoints.trainable(model).values()),
        total_parameters=total,
    )


@torch.no_grad()
def mean_loss(model: nn.Module, rows: Sequence[Row], *, pad_id: int = 0, batch: int = 32) -> float:
    """Mean cross-entropy over all target tokens of `rows`, nats."""
    was_training = model.training
    model.eval()
    collate = _Collator(pad_id)
    ordered = sorted(rows, key=lambda row: len(row.ids))
    total, n_targets = 0.0, 0
    for at in range(0, len(ordered), batch):
        inputs = collate(ordered[at : at + batch])
        # The first label of a row is never predicted: losses are over shifted labels.
        n = int((inputs["labels"][:, 1:] != IGNORED).sum())
        device = next(model.parameters()).device
        total += float(model(**{k: v.to(device) for k, v in inputs.items()}).loss) * n
        n_targets += n
    model.train(was_training)
    return total / max(n_targets, 1)


# --- optimizer --------------------------------------------------------------------------------


def adamw(model: nn.Module, optimization: Optimization) -> AdamW:
    """AdamW; vectors (biases, norms, scales) are not decayed, as the Trainer does."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in checkpoints.trainable(model).values():
        groups[parameter.ndim > 1].append(parameter)
    return AdamW(
        [
            {"params": groups[True], "weight_decay": optimization.weight_decay},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=optimization.learning_rate,
        betas=(optimization.beta1, optimization.beta2),
    )


def schedule(optimizer: AdamW, optimization: Optimization) -> LambdaLR:
    """The learning-rate schedule, from transformers."""
    n, warmup = optimization.n_steps, optimization.n_warmup_steps
    if optimization.schedule == "cosine":
        made = get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, warmup, n, min_lr_rate=optimization.floor
        )
    elif optimization.schedule == "linear":
        made = get_linear_schedule_with_warmup(optimizer, warmup, n)
    elif optimization.schedule == "constant":
        made = get_constant_schedule_with_warmup(optimizer, warmup)
    else:
        made = get_wsd_schedule(
            optimizer,
            num_warmup_steps=warmup,
            num_decay_steps=n - max(warmup, round(n * optimization.flat)),
            num_training_steps=n,
            decay_type="linear",
            min_lr_ratio=optimization.floor,
        )
    return made  # type: ignore[no-any-return]


# --- rows to tensors --------------------------------------------------------------------------


class _Rows(Dataset[Row]):
    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> Row:
        return self.rows[at]


class _Collator:
    """Rows padded on the right; no mask, since nothing looks at what comes after it."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        length = max(len(row.ids) for row in rows)

        def padded(lists: Iterable[list[int]], fill: int) -> torch.Tensor:
            return torch.tensor([items + [fill] * (length - len(items)) for items in lists])

        inputs = {
            "input_ids": padded((row.ids for row in rows), self.pad_id),
            "labels": padded((row.labels for row in rows), IGNORED),
        }
        if any(row.positions != list(range(len(row.ids))) for row in rows):
            # Padding continues the count, so that it does not look like another document.
            inputs["position_ids"] = torch.tensor(
                [
                    [*row.positions, *(row.positions[-1] for _ in range(length - len(row.ids)))]
                    for row in rows
                ]
            )
        return inputs


# --- the trainer ------------------------------------------------------------------------------


def _arguments(optimization: Optimization, folder: Path, seed: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=optimization.n_steps,
        per_device_train_batch_size=optimization.batch_size,
        train_sampling_strategy="sequential",
        max_grad_norm=optimization.clip,
        logging_strategy="steps",
        logging_steps=optimization.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=optimization.save_every,
        save_total_limit=2,
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
    )


class _Trainer(Trainer):  # type: ignore[misc]
    """Checkpoints hold the trainable tensors by name instead of `save_pretrained` folders."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        checkpoints.save_weights(self.model, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoints.load_weights(model or self.model, Path(resume_from_checkpoint))


class _Recorder(TrainerCallback):  # type: ignore[misc]
    """Writes `Step` records, reports progress and stops on a loss that is not finite."""

    def __init__(
        self,
        run: Run,
        rows: Sequence[Row],
        validation: Sequence[Row],
        optimization: Optimization,
        pad_id: int,
        meter: Meter,
        progress: Progress,
    ) -> None:
        self.run, self.validation, self.optimization = run, validation, optimization
        self.pad_id, self.meter, self.progress = pad_id, meter, progress
        self.step = 0
        self.note = ""
        self._tokens = list(_cumulated(rows, optimization.batch_size))
        self._mark = (0, meter.wall_s)

    def on_train_begin(self, args: Any, state: Any, control: Any, **k: Any) -> None:
        self.step = state.global_step
        self._mark = (self._tokens[self.step], self.meter.wall_s)
        if self.step == 0:
            self._validate(k["model"], state)

    def on_step_end(self, args: Any, state: Any, control: Any, **k: Any) -> None:
        self.step = state.global_step
        last = self.step == self.optimization.n_steps
        if last:
            control.should_log = True
            control.should_save = False
        if last or self.step % self.optimization.validate_every == 0:
            self._validate(k["model"], state)
        self.progress(self.step, self.optimization.n_steps, self.note)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **k: Any) -> None:
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {state.global_step}; "
                f"lower optimization.learning_rate ({self.optimization.learning_rate})"
            )
        tokens, wall = self._tokens[state.global_step], self.meter.wall_s
        spent = wall - self._mark[1]
        rate = (tokens - self._mark[0]) / spent if spent > 0 else 0.0
        self.run.append(
            METRICS,
            Step(
                step=state.global_step,
                loss=loss,
                learning_rate=logs.get("learning_rate"),
                gradient_norm=logs.get("grad_norm"),
                n_tokens=tokens,
                tokens_per_s=rate,
                peak_mib=self.meter.peak_mib,
            ),
        )
        self._mark = (tokens, wall)
        self.note = f"loss {loss:.3f}, {rate:,.0f} tokens/s"

    def on_save(self, args: Any, state: Any, control: Any, **k: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        spent = checkpoints.Spent(
            step=state.global_step, wall_s=self.meter.wall_s, cpu_s=self.meter.cpu_s
        )
        checkpoints.complete(folder, spent)

    def _validate(self, model: nn.Module, state: Any) -> None:
        if not self.validation:
            return
        loss = mean_loss(model, self.validation, pad_id=self.pad_id)
        step = state.global_step
        self.run.append(METRICS, Step(step=step, validation_loss=loss, n_tokens=self._tokens[step]))


def _cumulated(rows: Sequence[Row], batch_size: int) -> Iterator[int]:
    total = 0
    yield total
    for at in range(0, len(rows), batch_size):
        total += sum(len(row.ids) for row in rows[at : at + batch_size])
        yield total


class _quiet(warnings.catch_warnings):  # noqa: N801
    """The trainer prints its logs and warns about things that are chosen here on purpose."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        logging.getLogger("transformers.trainer").setLevel(logging.ERROR)
        return entered
