"""How a base model is tuned: one file a method, found by its name.

`Method` is the abstract class of the kind; every public module here exports a `method`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astraios.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Method", "Shape"]


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder that parameter formulas are written in."""

    architecture: str
    """`model_type` of the transformers config: `gpt_bigcode`, `llama`, ..."""
    n_layers: int
    hidden: int
    inner: int
    """Width inside the MLP."""
    kv: int
    """Width of all keys of one token (equal to that of all values): `n_kv_heads * head_size`."""
    n_parameters: int
    """All weights of the base model, tied ones counted once."""


class Method(ABC):
    """A way of tuning a base model."""

    name: str
    """The file's name: what configs and commands say."""
    title: str
    """For display."""
    paper: str
    """Citation with arXiv number."""
    mergeable: bool
    """Whether the tuned weights can be folded into the base model exactly."""

    @abstractmethod
    def apply(self, model: nn.Module, options: Mapping[str, Any] | None = None) -> nn.Module:
        """Make `model` tunable: new weights inserted, everything else frozen.

        `options` overrides the method's own settings by name. On an error the model is as before.

        Raises:
            MethodError: if an option is unknown or wrong, or the model has no such targets.
        """

    @abstractmethod
    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the tuned weights to `folder`, atomically."""

    @abstractmethod
    def load(self, model: nn.Module, folder: Path) -> nn.Module:
        """Put the weights of `folder` on base `model`, ready for inference.

        Raises:
            MethodError: if keys are missing or unexpected, or shapes do not fit the base.
        """

    @abstractmethod
    def n_trainable(self, shape: Shape, options: Mapping[str, Any] | None = None) -> int:
        """Trainable parameters by the method's formula."""

    def merge(self, model: nn.Module) -> nn.Module:
        """The base model with the tuned weights folded in.

        Raises:
            MethodError: if the method cannot be merged; says what to do instead.
        """
        raise MethodError(
            f"{self.title} cannot be merged into its base model; serve it unmerged, "
            "or use LoRA where merging matters"
        )

    @abstractmethod
    def inputs(self, model: nn.Module, ids_BT: Tensor, mask_BT: Tensor) -> dict[str, Any]:
        """Keyword arguments for one forward pass of `decoder(model)` on left-padded rows.

        Gives `input_ids` or `inputs_embeds`, `attention_mask` and `position_ids`, with virtual
        tokens between the padding and the prompt where the method has any.
        """

    @abstractmethod
    def decoder(self, model: nn.Module) -> nn.Module:
        """The causal language model inside `model` whose forward takes `inputs`."""
