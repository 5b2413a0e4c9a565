"""Checkpoints of an interrupted run: trainable weights, optimizer, schedule, random state.

    checkpoints/checkpoint-200/
      trainable.safetensors    every trainable tensor under its full name
      optimizer.pt ...         what the trainer needs beside the weights
      complete.json            written last; a folder without it is torn and not used

Weights are saved by name from the model in memory, not through `save_pretrained`, because PEFT
keeps only the output of a prompt encoder: a P-Tuning run resumed from that has lost its encoder.
"""

from __future__ import annotations

import re
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from astraios import files
from astraios.errors import TrainingError
from astraios.records import Record

WEIGHTS = "trainable.safetensors"
COMPLETE = "complete.json"


class Spent(Record):
    """What a run had cost when the checkpoint was made."""

    step: int
    wall_s: float
    cpu_s: float


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters by name; tied ones once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write the trainable tensors of `model` to `folder`."""
    tensors = {name: p.detach().contiguous() for name, p in trainable(model).items()}
    with files.storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / WEIGHTS)


def load_weights(model: nn.Module, folder: Path) -> None:
    """Put the tensors of `folder` into the trainable parameters of `model`.

    Raises:
        TrainingError: if names or shapes differ.
    """
    saved, wanted = load_file(folder / WEIGHTS), trainable(model)
    strange = sorted(set(saved) ^ set(wanted))
    strange += [n for n in set(saved) & set(wanted) if saved[n].shape != wanted[n].shape]
    if strange:
        raise TrainingError(
            f"checkpoint {str(folder)!r} does not fit the model: {strange[0]!r} differs; "
            "remove the run's checkpoints folder to start it afresh"
        )
    for name, parameter in wanted.items():
        parameter.data.copy_(saved[name])


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
