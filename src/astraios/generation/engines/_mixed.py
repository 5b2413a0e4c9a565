"""Several LoRA adapters in one batch, each row with its own.

    y = W x + B (m * A x)        A: all adapters' below each other, B: all beside each other
                                 m: the scaling on the rank of a row's own adapter, 0 on the others

That is one LoRA of the ranks' sum, however many adapters there are, where a pass for each would
read the base's weights each time. What the other adapters add to a row is exactly 0.

Axes: B rows, T tokens, R ranks of all adapters, I and O inputs and outputs of the layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from astraios.errors import MethodError
from astraios.generation.engines._view import view
from astraios.methods import Method

__all__ = ["METHODS", "mixed"]

METHODS = ("lora", "rslora")
"""What can be mixed."""
DEFAULT = "default"
"""PEFT's name of the one adapter of a model."""


class Chosen:
    """The adapters of the rows of the pass to come, as every layer needs them."""

    def __init__(self) -> None:
        self._scales: dict[tuple[float, ...], Tensor] = {}
        self._masks: dict[tuple[float, ...], Tensor] = {}

    def enter(self, owners_R: Tensor, scale_R: Tensor, n_adapters: int) -> tuple[float, ...]:
        """A kind of layer: the adapter and the scaling of each rank; gives the key to its mask."""
        key = (*owners_R.tolist(), *scale_R.tolist())
        adapters_K1 = torch.arange(n_adapters, device=owners_R.device)[:, None]
        self._scales[key] = torch.where(adapters_K1 == owners_R, scale_R, 0)
        return key

    def __call__(self, adapters_B: Tensor) -> None:
        for key, scale_KR in self._scales.items():
            self._masks[key] = scale_KR[adapters_B]

    def mask(self, key: tuple[float, ...], x: Tensor) -> Tensor:
        """What the ranks of `x` [B, T, R] are multiplied by; some models lay rows end to end."""
        mask_BR = self._masks[key].to(x.dtype)
        if x.dim() == 2:
            return mask_BR.repeat_interleave(len(x) // len(mask_BR), dim=0)
        return mask_BR[:, None]


class MixedLora(nn.Module):
    """A layer and the LoRA of every adapter that has one there."""

    down_RI: Tensor
    up_OR: Tensor

    def __init__(
        self, base_layer: nn.Module, parts: Mapping[int, Any], n_adapters: int, chosen: Chosen
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self._chosen = chosen
        downs = [part.lora_A[DEFAULT].weight.detach() for part in parts.values()]
        self.register_buffer("down_RI", torch.cat(downs), persistent=False)
        ups = [part.lora_B[DEFAULT].weight.detach() for part in parts.values()]
        self.register_buffer("up_OR", torch.cat(ups, dim=1), persistent=False)
        ranks = torch.tensor([len(down) for down in downs])
        owners_R = torch.tensor(list(parts)).repeat_interleave(ranks)
        scales = torch.tensor([float(part.scaling[DEFAULT]) for part in parts.values()])
        device = downs[0].device
        scale_R = scales.repeat_interleave(ranks).to(device)
        self._key = chosen.enter(owners_R.to(device), scale_R, n_adapters)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output with what each row's adapter adds."""
        y: Tensor = self.base_layer(x)
        inner = nn.functional.linear(x.to(self.down_RI.dtype), self.down_RI)
        inner = inner * self._chosen.mask(self._key, inner)
        return y + nn.functional.linear(inner, self.up_OR).to(y.dtype)


def mixed(base: nn.Module, tuned: Sequence[tuple[nn.Module, Method]]) -> tuple[nn.Module, Chosen]:
    """A view of `base` with all adapters of `tuned`, and what chooses among them for each row.

    Args:
        base: the model that all are views of.
        tuned: models with one adapter each, by `put_on`.

    Raises:
        MethodError: if one of them is more than a LoRA beside the base's weights.
    """
    own = {weight.data_ptr() for weight in base.parameters()}
    found: dict[str, dict[int, Any]] = {}
    for number, (model, method) in enumerate(tuned):
        decoder = method.decoder(model)
        more = [
            name
            for name, weight in decoder.named_parameters()
            if weight.data_ptr() not in own and ".lora_A." not in name and ".lora_B." not in name
        ]
        if method.name not in METHODS or more:
            plain = method.name in METHODS
            what = f"trains {more[0]!r} besides" if plain else "is no plain LoRA"
            raise MethodError(
                f"an adapter of {method.name!r} {what}, so it cannot share a batch with others; "
                "use SharedBase.engine for one after the other"
            )
        for name, module in decoder.named_modules():
            if hasattr(module, "lora_A"):
                found.setdefault(name, {})[number] = module
    chosen, made = Chosen(), view(base, tuned[0][1])
    for name, parts in found.items():
        parent, _, leaf = name.rpartition(".")
        layer = MixedLora(made.get_submodule(name), parts, len(tuned), chosen)
        setattr(made.get_submodule(parent), leaf, layer)
    return made, chosen
