"""Checkpoints of an interrupted run: trainable weights, optimizer, schedule, random state.

    checkpoints/checkpoint-200/
      trainable.safetensors    every trainable tensor under its full name
      optimizer.pt ...         what the trainer needs beside the weights
      complete.json            written last, with the size of every file before it
    checkpoints/best.safetensors   the weights of the lowest validation loss so far

A folder without `complete.json`, or with a file of another size, is torn: it is never used, and the
run goes on from the one before it. Files are on the disk before they are called complete, so that
holds for a machine that loses its power, too.

Weights are saved by name from the model in memory, not through `save_pretrained`, because PEFT
keeps only the output of a prompt encoder: a P-Tuning run resumed from that has lost its encoder.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path

from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from astraios import files
from astraios.errors import DataError, StorageError, TrainingError
from astraios.records import Record
from astraios.training._parts import put, whole
from astraios.training.processes import processes

FOLDER = "checkpoints"
WEIGHTS = "trainable.safetensors"
BEST = "best.safetensors"
COMPLETE = "complete.json"


class Spent(Record):
    """What a run had cost when the checkpoint was made."""

    step: int
    wall_s: float
    cpu_s: float
    energy_j: float | None = None
    unlogged: float = 0.0
    """Sum of the losses of the steps since `logged`, which the next record is the mean of."""
    logged: int = 0
    """Step of the last record of a loss."""
    flops_per_token: float | None = None
    """As counted in the run's first step: counting changes the arithmetic of some layers."""
    sizes: dict[str, int] = Field(default_factory=dict)
    """File of the checkpoint -> its bytes."""


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by name; tied ones once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write the trainable tensors of `model` to `folder`; every process of the run takes part."""
    tensors = _tensors(model)
    if processes().is_main_process:
        with files.storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _write(tensors, folder / WEIGHTS)


def load_weights(model: nn.Module, folder: Path) -> None:
    """Put the tensors of `folder` into the trainable parameters of `model`.

    Raises:
        TrainingError: if names or shapes differ.
    """
    _fill(model, folder / WEIGHTS)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """What is trained, put together where devices hold parts; empty but on the first process."""
    found = {}
    for name, parameter in trainable(model).items():
        tensor = whole(parameter)
        if processes().is_main_process:
            found[name] = tensor.contiguous()
    return found


def _write(tensors: dict[str, Tensor], path: Path, about: dict[str, str] | None = None) -> None:
    try:
        save_file(tensors, path, metadata=about)
    except SafetensorError as error:  # its own kind, for what the system says, too
        raise StorageError(
            f"cannot write {str(path)!r}: {error}; make room and run the same command again, which "
            "goes on from the last whole checkpoint"
        ) from error


def _fill(model: nn.Module, path: Path) -> None:
    wanted = trainable(model)
    with safe_open(path, "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        strange = sorted(set(shapes) ^ set(wanted))
        strange += [n for n in set(shapes) & set(wanted) if shapes[n] != tuple(wanted[n].shape)]
        if strange:
            raise TrainingError(
                f"checkpoint {str(path.parent)!r} does not fit the model: {strange[0]!r} differs; "
                "remove the run's checkpoints folder to start it afresh"
            )
        for name, parameter in wanted.items():
            put(parameter, file.get_tensor(name))


# --- the best weights so far ------------------------------------------------------------------


class Best(Record):
    """Where the lowest validation loss was."""

    step: int
    validation_loss: float


def keep_best(model: nn.Module, run_folder: Path, step: int, loss: float) -> None:
    """Keep the trainable tensors if no earlier validation loss was as low.

    One file, replaced atomically, says of itself which step it is: a kill leaves a whole one.
    """
    path = run_folder / FOLDER / BEST
    before = read_best(run_folder)
    if before is not None and before.validation_loss <= loss:
        return
    processes().wait_for_everyone()  # all have read before the first one writes
    tensors = _tensors(model)
    if not processes().is_main_process:
        return
    scratch = path.with_suffix(".part")
    about = Best(step=step, validation_loss=loss)
    with files.storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(tensors, scratch, {"best": about.model_dump_json()})
        _settle(scratch)
        scratch.replace(path)


def read_best(run_folder: Path) -> Best | None:
    """What was kept, if anything was."""
    path = run_folder / FOLDER / BEST
    if not path.exists():
        return None
    with safe_open(path, "pt") as file:
        return Best.model_validate_json(file.metadata()["best"])


def fill_best(model: nn.Module, run_folder: Path) -> None:
    """Put the best weights into `model`."""
    _fill(model, run_folder / FOLDER / BEST)


def remove(run_folder: Path) -> None:
    """Remove all checkpoints: what was trained is saved."""
    shutil.rmtree(run_folder / FOLDER, ignore_errors=True)


# --- whole checkpoints ------------------------------------------------------------------------


def complete(folder: Path, spent: Spent) -> None:
    """Mark a checkpoint as whole, once all of it is on the disk."""
    with files.storage(folder):
        sizes = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            _settle(path)
            sizes[str(path.relative_to(folder))] = path.stat().st_size
        _settle(folder)
    files.write_json(folder / COMPLETE, spent.model_copy(update={"sizes": sizes}))
    with files.storage(folder):
        _settle(folder)
        _settle(folder.parent)


def latest(folder: Path) -> tuple[Path, Spent] | None:
    """The newest whole checkpoint below `folder`; says so where a newer one is damaged."""
    for path in reversed(_found(folder)):
        spent, fault = _read(path)
        if spent is not None:
            return path, spent
        if fault:
            _LOG.warning("%s is damaged and not used: %s", path, fault)
    return None


def sweep(folder: Path) -> None:
    """Remove torn checkpoints, which would count as the newest when old ones are removed."""
    for path in _found(folder):
        if _read(path)[0] is None:
            shutil.rmtree(path, ignore_errors=True)


def _found(folder: Path) -> list[Path]:
    """Checkpoints, oldest step first."""
    numbered = ((re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.glob("*"))
    return [path for _, path in sorted((int(m.group(1)), path) for m, path in numbered if m)]


def _read(path: Path) -> tuple[Spent | None, str]:
    """What a whole checkpoint says of itself; else None, and what is wrong with a finished one."""
    if not (path / COMPLETE).exists():
        return None, ""
    try:
        spent = files.read_json(path / COMPLETE, Spent)
    except DataError as error:
        return None, str(error)
    for name, size in spent.sizes.items():
        file = path / name
        there = file.stat().st_size if file.is_file() else None
        if there != size:
            what = "is missing" if there is None else f"has {there} bytes of {size}"
            return None, f"{name} {what}"
    return spent, ""


def _settle(path: Path) -> None:
    """Have the system put a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_LOG = logging.getLogger(__name__)
