"""Checkpoints of an interrupted run: trainable weights, optimizer, schedule, random state.

    checkpoints/checkpoint-200/
      trainable.safetensors    every trainable tensor under its full name
      optimizer.pt ...         what the trainer needs beside the weights
      complete.json            written last; a folder without it is torn and not used
    checkpoints/best.safetensors   the weights of the lowest validation loss so far

Weights are saved by name from the model in memory, not through `save_pretrained`, because PEFT
keeps only the output of a prompt encoder: a P-Tuning run resumed from that has lost its encoder.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from astraios import files
from astraios.errors import TrainingError
from astraios.records import Record

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


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by name; tied ones once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write the trainable tensors of `model` to `folder`."""
    with files.storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_tensors(model), folder / WEIGHTS)


def load_weights(model: nn.Module, folder: Path) -> None:
    """Put the tensors of `folder` into the trainable parameters of `model`.

    Raises:
        TrainingError: if names or shapes differ.
    """
    _fill(model, folder / WEIGHTS)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().contiguous() for name, p in trainable(model).items()}


def _fill(model: nn.Module, path: Path) -> None:
    saved, wanted = load_file(path), trainable(model)
    strange = sorted(set(saved) ^ set(wanted))
    strange += [n for n in set(saved) & set(wanted) if saved[n].shape != wanted[n].shape]
    if strange:
        raise TrainingError(
            f"checkpoint {str(path.parent)!r} does not fit the model: {strange[0]!r} differs; "
            "remove the run's checkpoints folder to start it afresh"
        )
    for name, parameter in wanted.items():
        parameter.data.copy_(saved[name])


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
    scratch = path.with_suffix(".part")
    about = Best(step=step, validation_loss=loss)
    with files.storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(_tensors(model), scratch, metadata={"best": about.model_dump_json()})
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
    """Mark a checkpoint as whole."""
    files.write_json(folder / COMPLETE, spent)


def latest(folder: Path) -> tuple[Path, Spent] | None:
    """The newest whole checkpoint below `folder`."""
    found = [
        (int(match.group(1)), path)
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and (path / COMPLETE).exists()
    ]
    if not found:
        return None
    path = max(found)[1]
    return path, files.read_json(path / COMPLETE, Spent)
