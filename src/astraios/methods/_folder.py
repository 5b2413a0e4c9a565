"""An adapter's folder: written by us, by PEFT or by the original fork; never trusted unread.

adapter_config.json            PEFT's
adapter_model.safetensors      PEFT's; adapter_model.bin in older folders
prompt_encoder.safetensors     prompt learning only: what training goes on from
astraios.json                  ours: the method, and which base model the adapter is for
"""

from __future__ import annotations

import contextlib
import copy
import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from astraios.errors import MethodError, MissingDataError, StorageError
from astraios.files import storage, write_json
from astraios.methods._base_record import BaseRecord
from astraios.methods._told import PRESETS, json_object

__all__ = [
    "ENCODER",
    "FORMAT",
    "RECORD",
    "SavedAdapter",
    "check_weights",
    "method_name",
    "read_folder",
    "read_record",
    "read_tensors",
    "write_folder",
]

ENCODER = "prompt_encoder.safetensors"
RECORD = "astraios.json"
FORMAT = 1


@dataclass(frozen=True)
class SavedAdapter:
    """What a folder holds."""

    folder: Path
    config: Any
    """The PEFT config."""
    weights: Mapping[str, Tensor]
    method: str | None
    """The method that wrote it; None where it was not ours that wrote."""
    base: BaseRecord | None
    """The base model it is for; None likewise."""


# --- writing ----------------------------------------------------------------------------------


def write_folder(
    folder: Path,
    *,
    config: PeftConfig,
    weights: Mapping[str, Tensor],
    method: str,
    base: BaseRecord,
    encoder: Mapping[str, Tensor] | None = None,
) -> None:
    """Write an adapter into the existing `folder` and compare what is there with what was meant.

    Raises:
        StorageError: if it cannot be written, or reads back differently.
    """
    saved = copy.copy(config)
    saved.inference_mode = True
    with writing_weights(folder):
        _write_tensors(folder / SAFETENSORS_WEIGHTS_NAME, weights)
        if encoder is not None:
            _write_tensors(folder / ENCODER, encoder)
        saved.save_pretrained(str(folder))
    write_json(folder / RECORD, {"format": FORMAT, "method": method, "base": base.to_json()})
    again = read_folder(folder)
    _compare(folder / SAFETENSORS_WEIGHTS_NAME, weights, again.weights)
    if encoder is not None:
        _compare(folder / ENCODER, encoder, read_tensors(folder / ENCODER))
    if again.config.to_dict() != saved.to_dict() or again.base != base:
        raise StorageError(f"{folder}: the adapter's config reads back differently; save it again")


@contextlib.contextmanager
def writing_weights(folder: Path) -> Iterator[None]:
    """`storage`, for what safetensors writes too: a full disk is an error of its own kind to it."""
    with storage(folder):
        try:
            yield
        except SafetensorError as error:
            raise StorageError(
                f"cannot write {str(folder)!r}: {error}; make room and save again"
            ) from error


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Clones, because safetensors refuses tensors that share memory.
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(plain, str(path), metadata={"format": "pt"})


def _compare(path: Path, meant: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    same = meant.keys() == found.keys() and all(
        torch.equal(tensor.detach().cpu(), found[name]) for name, tensor in meant.items()
    )
    if not same:
        raise StorageError(
            f"{path}: reads back differently from what was saved (or the weights hold NaN); "
            "check the disk and the training, and save again"
        )


# --- reading ----------------------------------------------------------------------------------


def read_folder(folder: Path) -> SavedAdapter:
    """Read an adapter's folder; nothing in it is executed.

    Raises:
        MissingDataError: if the folder, its config or its weights are not there.
        MethodError: if a file is not what it should be.
    """
    config = _read_config(folder)
    path = folder / SAFETENSORS_WEIGHTS_NAME
    if not path.is_file():
        path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise MissingDataError(
            f"{str(folder)!r} has no weights: neither {SAFETENSORS_WEIGHTS_NAME} nor "
            f"{WEIGHTS_NAME} is there; copy the whole folder, or train again"
        )
    method, base = read_record(folder / RECORD)
    return SavedAdapter(folder, config, read_tensors(path), method, base)


def method_name(folder: Path) -> str:
    """The name of a method that loads `folder`: of the one that made it, else by its PEFT type.

    Raises:
        MissingDataError: if it is no adapter's folder.
        MethodError: if a file is not what it should be.
    """
    made_by, _ = read_record(folder / RECORD)
    if made_by is not None:
        return made_by
    kind = _read_config(folder).peft_type.value
    return PRESETS.get(kind, f"peft-{kind.lower()}")


def _read_config(folder: Path) -> Any:
    path = folder / CONFIG_NAME
    if not folder.is_dir():
        raise MissingDataError(f"adapter folder {str(folder)!r} does not exist")
    if not path.is_file():
        raise MissingDataError(
            f"{str(folder)!r} is not an adapter's folder: it has no {CONFIG_NAME}"
        )
    values = json_object(path)
    kind = values.get("peft_type")
    if kind not in set(PeftType) or PeftType(kind) not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise MethodError(f"{path}: peft_type {kind!r} is not one that PEFT knows here")
    try:
        return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)].from_pretrained(str(folder))
    except MethodError as error:
        raise MethodError(f"{path}: {error}") from None
    except (ValueError, TypeError) as error:
        raise MethodError(f"{path}: not a config that this PEFT reads: {error}") from error


def read_record(path: Path) -> tuple[str | None, BaseRecord | None]:
    """The method that made a folder and the base it is for; None for both where nothing says so.

    Raises:
        MethodError: if the record is damaged or of another version.
    """
    if not path.is_file():
        return None, None
    values = json_object(path)
    if values.get("format") != FORMAT:
        raise MethodError(
            f"{path}: format {values.get('format')!r} is not the {FORMAT} that this version reads; "
            "use the version of astraios that wrote it, or a newer one"
        )
    return values.get("method"), BaseRecord.from_json(values.get("base"), path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or `.bin` file, on the CPU; no pickled code runs.

    Raises:
        MethodError: if the file is cut short or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            tensors: Any = load_file(str(path))
        else:
            with warnings.catch_warnings():
                # About odd pickles, which are either read all the same or refused below.
                warnings.filterwarnings("ignore", message="Detected pickle protocol")
                tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise MethodError(
            f"{path}: cannot be read as weights ({reason}); the "
            "file is cut short or not a file of tensors: copy it again"
        ) from None
    named = isinstance(tensors, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    )
    if not named:
        raise MethodError(f"{path}: holds something other than named tensors; copy it again")
    return dict(tensors)


def check_weights(
    source: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    """Refuse weights that do not fill the adapter exactly.

    Raises:
        MethodError: naming the first key that is missing, unexpected or of another shape.
    """
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    if missing or unexpected:
        parts = [
            f"{len(keys)} {what} (first: {keys[0]})"
            for what, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise MethodError(
            f"the weights in {str(source)!r} do not fit the model: {', '.join(parts)}. The adapter "
            "is for another base model, or its files were changed; load it on the base it was "
            "trained on"
        )
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise MethodError(
                f"{name} in {str(source)!r} has shape {tuple(tensor.shape)}, and this base model "
                f"needs {tuple(expected[name].shape)}; load it on the base it was trained on"
            )
