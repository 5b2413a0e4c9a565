"""How a base model is tuned: one file a method, found by its name.

`Method` is the abstract class of the kind; every public module here exports a `method`. Listing
and describing methods needs neither torch nor peft; tuning does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astraios.errors import MethodError
from astraios.methods._shape import Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Method", "Shape"]


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
        """Write the tuned weights to `folder`, atomically, and read them back to compare.

        Raises:
            MethodError: if `model` is not tuned by this method.
            StorageError: if the folder cannot be written, or reads back differently.
        """

    @abstractmethod
    def load(self, model: nn.Module, folder: Path, *, trainable: bool = False) -> nn.Module:
        """Put the weights of `folder` on base `model`, ready for inference.

        With `trainable` the result can be trained further instead.

        Raises:
            MissingDataError: if the folder or its files are not there.
            MethodError: if keys are missing or unexpected, shapes or weights are those of another
                base, or the adapter has no effect. The model is then as before.
        """

    @abstractmethod
    def n_trainable(self, shape: Shape, options: Mapping[str, Any] | None = None) -> int:
        """Trainable parameters by the method's formula.

        Raises:
            MethodError: if an option is unknown, or one that the formula does not cover.
        """

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

        Gives `input_ids` or `inputs_embeds`, `attention_mask`, and `position_ids` where the
        decoder takes them, with virtual tokens between the padding and the prompt where the method
        has any; the time axis of the result counts them.
        """

    @abstractmethod
    def decoder(self, model: nn.Module) -> nn.Module:
        """The causal language model inside `model` whose forward takes `inputs`."""
