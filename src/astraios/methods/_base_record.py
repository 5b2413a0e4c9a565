"""Which base model an adapter is for, in a form that survives another precision and a move.

An adapter on the wrong base of the right shape computes without any error, and its scores look
like those of a bad method. So a folder keeps the base's sizes and a sample of its input
embeddings, which no adapter changes and which quantisation leaves alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from astraios.errors import MethodError

__all__ = ["BaseRecord"]

N_SAMPLES = 32
# Half precision keeps 8 bits of a weight (bf16); embeddings of two models differ by far more.
RELATIVE = 2.0**-6
ABSOLUTE = 1e-6


@dataclass(frozen=True)
class BaseRecord:
    """What is kept of a base model."""

    architecture: str
    hidden: int
    n_layers: int
    vocabulary: int
    revision: str | None
    sample: tuple[float, ...]
    """Input embeddings at evenly spaced places; empty where the model has no weights in memory."""

    @classmethod
    def of(cls, model: nn.Module) -> Self:
        """The record of a transformers model, tuned or not."""
        config: Any = model.config
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        return cls(
            architecture=config.model_type,
            hidden=int(config.hidden_size),
            n_layers=int(config.num_hidden_layers),
            vocabulary=int(config.vocab_size),
            revision=getattr(config, "_commit_hash", None),
            sample=_sample(model),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "sample": list(self.sample)}

    @classmethod
    def from_json(cls, values: Any, source: Path) -> Self:
        """From plain values.

        Raises:
            MethodError: if `values` are none of ours; names `source`.
        """
        try:
            return cls(**{**values, "sample": tuple(values["sample"])})
        except (TypeError, KeyError):
            raise MethodError(
                f"{source}: the record of the base model is damaged; restore the file"
            ) from None

    def check(self, model: nn.Module, source: Path) -> None:
        """Refuse a base model that is not the recorded one.

        Raises:
            MethodError: naming what differs.
        """
        other = BaseRecord.of(model)
        for name in ("architecture", "hidden", "n_layers", "vocabulary"):
            mine, its = getattr(self, name), getattr(other, name)
            if mine != its:
                raise MethodError(
                    f"the adapter in {str(source)!r} is for a base model with {name} {mine!r}, and "
                    f"this one has {its!r}; load it on the base it was trained on"
                )
        if not self.sample or len(self.sample) != len(other.sample):
            return
        recorded, found = torch.tensor(self.sample), torch.tensor(other.sample)
        if not torch.allclose(recorded, found, rtol=RELATIVE, atol=ABSOLUTE):
            raise MethodError(
                f"the adapter in {str(source)!r} is for a base model of this shape with other "
                "weights (its input embeddings differ); load it on the base it was trained on"
                + (f", revision {self.revision}" if self.revision else "")
            )


def _sample(model: Any) -> tuple[float, ...]:
    module = model.get_input_embeddings()
    module = getattr(module, "original_module", module)  # trained besides, by modules_to_save
    weight: Tensor | None = getattr(module, "weight", None)
    if weight is None or weight.is_meta or not weight.is_floating_point():
        return ()
    flat = weight.detach().reshape(-1)
    at = torch.linspace(0, flat.numel() - 1, N_SAMPLES, dtype=torch.float64).long()
    return tuple(flat[at.to(flat.device)].float().cpu().tolist())
