"""BitFit: full fine-tuning of the biases alone (Ben Zaken et al. 2022, arXiv:2106.10199).

    y = W x + (b + db)        of every layer that has a bias, normalisations included

Nothing is added: the base's own biases are trained, and saved by themselves. Architectures without
biases, such as Llama, have nothing to train and are refused. Parameters: every bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from astraios.errors import MethodError, MissingDataError, StorageError
from astraios.files import fill_folder, write_json
from astraios.methods import Method, Shape
from astraios.methods._options import resolve
from astraios.methods._shape import is_bias

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "biases.safetensors"


@final
class BitFit(Method):
    """Trains all biases."""

    name = "bitfit"
    title = "BitFit"
    paper = "Ben Zaken et al. 2022, arXiv:2106.10199"
    mergeable = True

    def apply(self, model: nn.Module, options: Mapping[str, Any] | None = None) -> nn.Module:
        from astraios.methods._tuned import refuse_tuned

        resolve(self.name, options, {})
        refuse_tuned(model)
        if not _biases(model):
            raise MethodError(
                f"method 'bitfit' trains biases, and {type(model).__name__} has none; take "
                "'lntuning', which trains normalisations, or another method"
            )
        for name, weight in model.named_parameters():
            weight.requires_grad = is_bias(name)
        return model

    def save(self, model: nn.Module, folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        from astraios.methods._base_record import BaseRecord
        from astraios.methods._folder import FORMAT, RECORD, read_tensors, writing_weights

        found = {name: b.detach().cpu().contiguous() for name, b in _biases(model).items()}
        with fill_folder(folder) as scratch:
            with writing_weights(scratch):
                save_file(found, str(scratch / WEIGHTS), metadata={"format": "pt"})
            again = read_tensors(scratch / WEIGHTS)
            if again.keys() != found.keys() or not all(
                torch.equal(again[name], bias) for name, bias in found.items()
            ):
                raise StorageError(
                    f"{folder}: reads back differently from what was saved (or the biases hold "
                    "NaN); check the disk and the training, and save again"
                )
            base = BaseRecord.of(_plain(model)).to_json()
            record = {"format": FORMAT, "method": self.name, "base": base}
            write_json(scratch / RECORD, record)

    def load(self, model: nn.Module, folder: Path, *, trainable: bool = False) -> nn.Module:
        import torch

        from astraios.methods._folder import RECORD, check_weights, read_record, read_tensors
        from astraios.methods._tuned import refuse_tuned

        refuse_tuned(model)
        for name in (WEIGHTS, RECORD):
            if not (folder / name).is_file():
                raise MissingDataError(
                    f"{str(folder)!r} has no {name}: it holds no biases that were tuned; copy the "
                    "whole folder, or load it by the method that made it"
                )
        _, base = read_record(folder / RECORD)
        if base is not None:
            base.check(model, folder)
        own, saved = _biases(model), read_tensors(folder / WEIGHTS)
        check_weights(folder, saved, own)
        with torch.no_grad():
            for name, bias in own.items():
                bias.copy_(saved[name])
        for name, weight in model.named_parameters():
            weight.requires_grad = trainable and is_bias(name)
        return model.train(trainable)

    def overwrites(self, name: str) -> bool:
        return is_bias(name)

    def n_trainable(self, shape: Shape, options: Mapping[str, Any] | None = None) -> int:
        resolve(self.name, options, {})
        if shape.biases is None:
            raise MethodError(
                "the parameter formula of 'bitfit' needs the sizes of the biases; take the shape "
                "from a model or its config (Shape.from_config)"
            )
        return shape.biases

    def merge(self, model: nn.Module) -> nn.Module:
        """The model itself: its biases are the tuned ones."""
        return model

    def inputs(self, model: nn.Module, ids_BT: Tensor, mask_BT: Tensor) -> dict[str, Any]:
        from astraios.methods._tuned import inputs

        return inputs(model, ids_BT, mask_BT)

    def decoder(self, model: nn.Module) -> nn.Module:
        return model


def _plain(model: nn.Module) -> Any:
    return getattr(model, "_orig_mod", model)  # compiled


def _biases(model: nn.Module) -> dict[str, Any]:
    return {name: w for name, w in _plain(model).named_parameters() if is_bias(name)}


method = BitFit()
