"""How a base model is tuned: one file a method, found by its name.

`Method` is the abstract class of the kind; every public module here exports a `method`. Listing
and describing methods needs neither torch nor peft; tuning does.

    lora             the method of `methods/lora.py`
    peft-loha        any other method of PEFT, by its type in small letters
    lora~wide        the first of them under a label, so that a study can have it twice
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astraios.errors import MethodError, UnknownNameError
from astraios.methods._shape import Shape
from astraios.methods._told import Told, adapter_config, told

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "ANY",
    "LABEL",
    "Method",
    "Shape",
    "Told",
    "adapter_config",
    "method",
    "method_of",
    "told",
]

ANY = "peft-"
"""Before the type of a method of PEFT that has no file here."""
LABEL = "~"
"""Before what tells two entries of one method apart; it changes nothing else."""


def method(name: str) -> Method:
    """The method of that name; see the module for the three forms.

    Raises:
        UnknownNameError: if there is no such method; names the nearest one.
    """
    import sys
    from importlib import import_module

    from astraios import registry

    plain = name.partition(LABEL)[0]
    here = sys.modules[__name__]
    if not plain.startswith(ANY):
        found: Method = registry.load(here, "method", plain, Method)
        return found
    # As the registry does it: a method knows the class of its kind, which does not know methods.
    others = import_module(f"{__name__}._generic")
    kind, kinds = plain.removeprefix(ANY), others.peft_types()
    if kind not in kinds:
        raise UnknownNameError("method of PEFT", kind, kinds)
    made: Method = others.generic(kind)
    return made


def method_of(folder: Path) -> Method:
    """The method that loads the adapter in `folder`, by what the folder says.

    Raises:
        MissingDataError: if it is no adapter's folder.
        MethodError: if a file in it is not what it should be.
    """
    from importlib import import_module

    name: str = import_module(f"{__name__}._folder").method_name(folder)
    return method(name)


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
    batched: bool = True
    """Whether `inputs` can express what the method does; without it there is no generation here."""
    trains_base: bool = False
    """Whether weights of the base itself are trained: they cannot be quantised then."""
    adds_tokens: bool = False
    """Whether virtual tokens come before a row."""
    isolates: bool = True
    """Whether documents of one row can be kept apart, each with what the method adds."""
    alters_base: bool = False
    """Whether it moves something out of the base's frozen weights: switched off, it leaves a rest
    that is not the base."""

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

    def overwrites(self, name: str) -> bool:
        """Whether `load` writes into the base's own weight of that name, not beside it."""
        return self.trains_base

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

    def options_for(self, options: Mapping[str, Any], n_steps: int) -> Mapping[str, Any]:
        """`options` with those that follow from the length of the training."""
        return options

    def after_step(self, model: nn.Module, step: int) -> None:
        """Called after each optimizer step, counted from 1, while gradients are still there."""
        return

    def after_put_back(self, model: nn.Module) -> None:
        """Called after weights of an earlier step were put back, before they are saved."""
        return

    def memory(self, model: nn.Module) -> dict[str, Tensor]:
        """What `after_step` remembers beside the weights, for a checkpoint; by name."""
        return {}

    def remember(self, model: nn.Module, memory: Mapping[str, Tensor]) -> None:
        """Take up what `memory` gave when the checkpoint was made."""
        return

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
