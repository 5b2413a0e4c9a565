"""What is written, watched and said while a model trains."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

from astraios.data import Row
from astraios.errors import DivergedError, TrainingError
from astraios.files import storage
from astraios.measure import Meter
from astraios.methods import Method
from astraios.progress import Progress
from astraios.records import Step
from astraios.runs import Run
from astraios.training import checkpoints
from astraios.training.accounting import peak_allocated_mib, peak_mib
from astraios.training.batches import mean_loss, tokens_by_step
from astraios.training.config import Optimization
from astraios.training.processes import mean_of, processes

METRICS = "metrics"
MEMORY = "method.safetensors"
"""In a checkpoint: what the method remembers between steps."""
_PATIENCE = 2
"""Records in a row above the bound before a run counts as diverged."""


class Recorder(TrainerCallback):  # type: ignore[misc]
    """Writes `Step` records, keeps the best weights, reports, and stops what went wrong."""

    def __init__(
        self,
        run: Run,
        rows: Sequence[Row],
        validation: Sequence[Row],
        optimization: Optimization,
        pad_id: int,
        meter: Meter,
        progress: Progress,
        stop: Stop,
        resumed: checkpoints.Spent | None = None,
        kept: Iterable[Step] = (),
    ) -> None:
        self.trainer: Any = None
        """The one it records; set once that is made."""
        self.resumed = resumed
        self.run, self.validation, self.optimization = run, validation, optimization
        self.pad_id, self.meter, self.progress, self.stop = pad_id, meter, progress, stop
        self.step = 0
        self.note = ""
        self.writes = processes().is_main_process
        self._tokens = list(tokens_by_step(rows, optimization.batch_size))
        self._mark = (0, meter.wall_s)
        self._bound: float | None = None
        self._n_above = 0
        for record in kept:  # of the steps before the checkpoint
            if record.loss is not None:
                self._check(record.loss, record.step)

    def on_train_begin(self, args: Any, state: Any, control: Any, **k: Any) -> None:
        self.step = state.global_step
        self._mark = (self._tokens[self.step], self.meter.wall_s)
        if self.resumed is not None:
            # The next record is a mean over steps of which some are before the checkpoint.
            self.trainer._tr_loss += self.resumed.unlogged
            self.trainer._globalstep_last_logged = self.resumed.logged
            self.trainer.flops_per_token = self.resumed.flops_per_token
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
        if not last and self.stop.asked():
            control.should_save = control.should_training_stop = True
        if self.writes:
            self.progress(self.step, self.optimization.n_steps, self.note)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **k: Any) -> None:
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        self._check(loss, state.global_step)
        tokens, wall = self._tokens[state.global_step], self.meter.wall_s
        spent = wall - self._mark[1]
        rate = (tokens - self._mark[0]) / spent if spent > 0 else 0.0
        self._write(
            Step(
                step=state.global_step,
                loss=loss,
                learning_rate=logs.get("learning_rate"),
                gradient_norm=logs.get("grad_norm"),
                n_tokens=tokens,
                tokens_per_s=rate,
                peak_mib=peak_mib(self.meter.peak_mib),
                peak_allocated_mib=peak_allocated_mib(),
            )
        )
        self._mark = (tokens, wall)
        self.note = f"loss {loss:.3f}, {rate:,.0f} tokens/s"

    def on_save(self, args: Any, state: Any, control: Any, **k: Any) -> None:
        unlogged = mean_of(float(self.trainer._tr_loss))
        processes().wait_for_everyone()  # each process writes its own random state
        if not self.writes:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        spent = checkpoints.Spent(
            step=state.global_step,
            wall_s=self.meter.wall_s,
            cpu_s=self.meter.cpu_s,
            energy_j=self.meter.energy_j,
            unlogged=unlogged,
            logged=self.trainer._globalstep_last_logged,
            flops_per_token=self.trainer.flops_per_token,
        )
        checkpoints.complete(folder, spent)

    def _write(self, record: Step) -> None:
        if self.writes:
            self.run.append(METRICS, record)

    def _check(self, loss: float, step: int) -> None:
        """Stop on a loss that is not finite, or that has left where it began for good.

        Raises:
            DivergedError: with the step, the loss and what to lower.
        """
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss} at step {step}; {self._remedy()}")
        if self._bound is None:
            self._bound = self.optimization.divergence * loss
        self._n_above = self._n_above + 1 if loss > self._bound else 0
        if self._n_above >= _PATIENCE:
            raise DivergedError(
                f"the training diverges: the loss is {loss:.3f} at step {step}, after "
                f"{self._bound / self.optimization.divergence:.3f} in the beginning; "
                f"{self._remedy()} (optimization.divergence is the bound)"
            )

    def _remedy(self) -> str:
        return f"lower optimization.learning_rate ({self.optimization.learning_rate})"

    def _validate(self, model: nn.Module, state: Any) -> None:
        if not self.validation:
            return
        loss = mean_loss(model, self.validation, pad_id=self.pad_id)
        step = state.global_step
        if not math.isfinite(loss):
            remedy = self._remedy() if step else "take a base model or a precision that gives one"
            kind = DivergedError if step else TrainingError
            raise kind(f"the validation loss is {loss} at step {step}; {remedy}")
        self._write(Step(step=step, validation_loss=loss, n_tokens=self._tokens[step]))
        if self.trainer.args.report_to:
            control = self.trainer.control
            wanted = control.should_log
            self.trainer.log({"eval_loss": loss})
            control.should_log = wanted  # of training losses, which sending this one took back
        if step > 0:
            checkpoints.keep_best(model, self.run.folder, step, loss)


class MethodsOwn(TrainerCallback):  # type: ignore[misc]
    """What a method does between the optimizer's step and the clearing of gradients."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def on_train_begin(self, args: Any, state: Any, control: Any, **k: Any) -> None:
        if state.global_step:
            path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / MEMORY
            memory = load_file(path) if path.exists() else {}
            device = next(k["model"].parameters()).device
            on_device = {name: tensor.to(device) for name, tensor in memory.items()}
            self._method.remember(k["model"], on_device)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **k: Any) -> None:
        self._method.after_step(k["model"], state.global_step + 1)

    def on_save(self, args: Any, state: Any, control: Any, **k: Any) -> None:
        memory = self._method.memory(k["model"])
        if memory and processes().is_main_process:
            path = Path(args.output_dir) / f"checkpoint-{state.global_step}" / MEMORY
            plain = {name: tensor.detach().cpu().contiguous() for name, tensor in memory.items()}
            with storage(path):
                save_file(plain, path)


class Stop(AbstractContextManager["Stop"]):
    """Turns the first SIGTERM into a wish: to end after this step, with a checkpoint.

    A second one is what it was before. Only the main thread can be asked so.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def asked(self) -> bool:
        """Whether any process of the run was asked; all of them agree on the answer."""
        state = processes()
        if state.num_processes == 1:
            return self._asked
        wish = torch.tensor([float(self._asked)], device=state.device)
        torch.distributed.all_reduce(wish)
        return bool(wish.item())

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, *_: object) -> None:
        self._asked = True
        signal.signal(signal.SIGTERM, self._before)
