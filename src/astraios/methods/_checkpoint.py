"""Whole models on disk: safetensors, written through transformers, read without pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from astraios.errors import MethodError, MissingDataError, StorageError
from astraios.methods._folder import read_tensors, writing_weights

__all__ = ["load_model", "save_model"]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def save_model(model: nn.Module, folder: Path) -> None:
    """Write all of `model` into the existing `folder` and compare it with what is there.

    Raises:
        StorageError: if it cannot be written, or reads back differently.
    """
    model = cast("nn.Module", getattr(model, "_orig_mod", model))
    with writing_weights(folder):
        model.save_pretrained(str(folder))  # type: ignore[operator]
    own = model.state_dict()
    for name, tensor in _tensors(folder):
        if name not in own or not torch.equal(own[name].detach().cpu(), tensor):
            raise StorageError(
                f"{folder}: {name} reads back differently from what was saved (or holds NaN); "
                "check the disk and the training, and save again"
            )


def load_model(model: nn.Module, folder: Path) -> None:
    """Copy the weights of `folder` into `model`.

    Everything is checked before the first weight is copied.

    Raises:
        MissingDataError: if the folder has no weights.
        MethodError: if keys are missing or unexpected, or shapes differ.
    """
    own = model.state_dict()
    found = {name: tuple(tensor.shape) for name, tensor in _tensors(folder)}
    _check(model, folder, own, found)
    with torch.no_grad():
        for name, tensor in _tensors(folder):
            own[name].copy_(tensor)


def _check(
    model: Any, folder: Path, own: dict[str, Tensor], found: dict[str, tuple[int, ...]]
) -> None:
    unexpected = sorted(found.keys() - own.keys())
    # Weights that share memory are in the file once.
    there = {own[name].data_ptr() for name in found.keys() & own.keys()}
    missing = sorted(
        name for name, weight in own.items() if name not in found and weight.data_ptr() not in there
    )
    for what, names in (("unexpected", unexpected), ("missing", missing)):
        if names:
            raise MethodError(
                f"the weights in {str(folder)!r} do not fit a {type(model).__name__}: {len(names)} "
                f"{what} (first: {names[0]}); load the checkpoint of this base model"
            )
    for name, shape in found.items():
        if shape != tuple(own[name].shape):
            raise MethodError(
                f"{name} in {str(folder)!r} has shape {shape}, and this base model has "
                f"{tuple(own[name].shape)}; load the checkpoint of this base model"
            )


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors, one at a time: a second copy of a large model would not fit."""
    for path in _files(folder):
        if path.suffix != ".safetensors":
            yield from read_tensors(path).items()
            continue
        try:
            with safe_open(str(path), framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a mapping)
                    yield name, file.get_tensor(name)
        except SafetensorError as error:
            raise MethodError(
                f"{path}: cannot be read as weights ({error}); the file is cut short: copy it again"
            ) from None


def _files(folder: Path) -> list[Path]:
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        names = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
        absent = [name for name in names if not (folder / name).is_file()]
        if absent:
            raise MissingDataError(f"{str(folder)!r} lacks {absent[0]!r}; copy the whole folder")
        return [folder / name for name in names]
    if (folder / "pytorch_model.bin").is_file():
        return [folder / "pytorch_model.bin"]
    raise MissingDataError(
        f"{str(folder)!r} has no weights: neither {SINGLE} nor {INDEX} is there; "
        "give the folder of a fine-tuned model"
    )
