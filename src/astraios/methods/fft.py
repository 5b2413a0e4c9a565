"""Full fine-tuning: every weight of the base model is trained.

    W -> W + dW        for all W, dW of full rank

The upper reference that the other methods are measured against; nothing is added, and the tuned
model is an ordinary checkpoint (Zhuo et al. 2024, arXiv:2401.00788, section on training).
Parameters: all of the base, tied ones counted once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from astraios.errors import MethodError
from astraios.files import fill_folder
from astraios.methods import Method, Shape
from astraios.methods._options import resolve

if TYPE_CHECKING:
    from torch import Tensor, nn


@final
class FullFineTuning(Method):
    """Trains all weights."""

    name = "fft"
    title = "FFT"
    paper = "Zhuo et al. 2024, arXiv:2401.00788"
    mergeable = True
    trains_base = True

    def apply(self, model: nn.Module, options: Mapping[str, Any] | None = None) -> nn.Module:
        from astraios.methods._tuned import refuse_tuned

        resolve(self.name, options, {})
        refuse_tuned(model)
        packed = [name for name, w in model.named_parameters() if not w.is_floating_point()]
        if packed:
            raise MethodError(
                f"method 'fft' trains the base weights, and {packed[0]!r} is quantised; "
                "load the base in bf16 or fp32"
            )
        model.requires_grad_(True)
        return model

    def save(self, model: nn.Module, folder: Path) -> None:
        from astraios.methods._checkpoint import save_model

        with fill_folder(folder) as scratch:
            save_model(model, scratch)

    def load(self, model: nn.Module, folder: Path, *, trainable: bool = False) -> nn.Module:
        from astraios.methods._checkpoint import load_model
        from astraios.methods._tuned import refuse_tuned

        refuse_tuned(model)
        load_model(model, folder)
        model.requires_grad_(trainable)
        return model.train(trainable)

    def n_trainable(self, shape: Shape, options: Mapping[str, Any] | None = None) -> int:
        resolve(self.name, options, {})
        return shape.n_parameters

    def merge(self, model: nn.Module) -> nn.Module:
        """The model itself: its weights are the tuned ones."""
        return model

    def inputs(self, model: nn.Module, ids_BT: Tensor, mask_BT: Tensor) -> dict[str, Any]:
        from astraios.methods._tuned import inputs

        return inputs(model, ids_BT, mask_BT)

    def decoder(self, model: nn.Module) -> nn.Module:
        return model


method = FullFineTuning()
