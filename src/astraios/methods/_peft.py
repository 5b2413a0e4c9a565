"""A `Method` that is a PEFT config: apply, save, load, merge, and the formula's frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

from astraios.errors import MethodError
from astraios.files import fill_folder
from astraios.methods import Method, Shape
from astraios.methods._architectures import Architecture, architecture
from astraios.methods._options import resolve

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["PeftMethod"]

Formula = Callable[[Shape, Mapping[str, Any]], int]


@final
@dataclass(frozen=True)
class PeftMethod(Method):
    """A method that PEFT carries out."""

    name: str
    title: str
    paper: str
    peft_type: str
    """PEFT's name of the method, in capitals."""
    formula: Formula
    """Trainable parameters from the base's sizes and the settings."""
    mergeable: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """The paper's recipe: option name -> value; None is left to PEFT or to the architecture."""
    more_options: tuple[str, ...] = ()
    """Further fields of the PEFT config that a study may set."""
    targets: Callable[[Architecture], Mapping[str, Any]] | None = None
    """Config fields that depend on the architecture, for options left unset."""
    find: Callable[[Any], Mapping[str, Any]] | None = None
    """Config fields that depend on the model itself, for options left unset."""
    check: Callable[[Any], None] | None = None
    """Refuses a base model that the method is not for."""
    is_identity: Callable[[Mapping[str, Tensor]], bool] = lambda weights: False
    """Whether saved weights provably change nothing; others that do not are refused on loading."""
    length: str | None = None
    """The option that is the number of training steps, if one is."""
    each_step: Callable[[Any, int], None] | None = None
    """What the method does after each optimizer step."""
    remembered: Callable[[Any], Mapping[str, dict[str, Tensor]]] | None = None
    """Where it keeps what it remembers between steps: tables of tensors by the table's name."""
    put_back: Callable[[Any], None] | None = None
    """What it does once weights of an earlier step are back in their places."""
    batched: bool = True
    trains_base: bool = False
    adds_tokens: bool = False
    isolates: bool = True
    alters_base: bool = False

    # --- the contract -------------------------------------------------------------------------

    def apply(self, model: nn.Module, options: Mapping[str, Any] | None = None) -> nn.Module:
        from astraios.methods._tuned import refuse_tuned, wrap

        settings = resolve(self.name, options, self.defaults, self.more_options)
        refuse_tuned(model)
        if self.check is not None:
            self.check(model)
        tuned = wrap(model, self._config(model, settings), f"method {self.name!r}")
        return cast("nn.Module", tuned)

    def save(self, model: nn.Module, folder: Path) -> None:
        from astraios.methods._tuned import as_tuned, save_tuned

        tuned = as_tuned(model, self.name, self.peft_type)
        with fill_folder(folder) as scratch:
            save_tuned(tuned, scratch, self.name)

    def load(self, model: nn.Module, folder: Path, *, trainable: bool = False) -> nn.Module:
        from astraios.methods._tuned import load_tuned, refuse_tuned

        self._register()
        refuse_tuned(model)
        tuned = load_tuned(
            model,
            folder,
            method=self.name,
            peft_type=self.peft_type,
            trainable=trainable,
            is_identity=self.is_identity,
        )
        return cast("nn.Module", tuned)

    def n_trainable(self, shape: Shape, options: Mapping[str, Any] | None = None) -> int:
        return self.formula(shape, resolve(self.name, options, self.defaults, self.more_options))

    def options_for(self, options: Mapping[str, Any], n_steps: int) -> Mapping[str, Any]:
        return options if self.length is None else {self.length: n_steps, **options}

    def after_step(self, model: nn.Module, step: int) -> None:
        if self.each_step is not None:
            self.each_step(model, step)

    def after_put_back(self, model: nn.Module) -> None:
        if self.put_back is not None:
            self.put_back(model)

    def memory(self, model: nn.Module) -> dict[str, Tensor]:
        if self.remembered is None:
            return {}
        return {
            f"{table}/{name}": tensor
            for table, tensors in self.remembered(model).items()
            for name, tensor in tensors.items()
        }

    def remember(self, model: nn.Module, memory: Mapping[str, Tensor]) -> None:
        if self.remembered is None:
            return
        tables = self.remembered(model)
        for key, tensor in memory.items():
            table, _, name = key.partition("/")
            tables[table][name] = tensor

    def merge(self, model: nn.Module) -> nn.Module:
        from astraios.methods._tuned import as_tuned

        if not self.mergeable:
            return super().merge(model)
        tuned = as_tuned(model, self.name, self.peft_type)
        try:
            return cast("nn.Module", tuned.merge_and_unload())
        except (ValueError, NotImplementedError, AttributeError) as error:
            raise MethodError(f"{self.title} cannot be merged into this base: {error}") from error

    def inputs(self, model: nn.Module, ids_BT: Tensor, mask_BT: Tensor) -> dict[str, Any]:
        from astraios.methods._tuned import inputs

        return inputs(model, ids_BT, mask_BT)

    def decoder(self, model: nn.Module) -> nn.Module:
        from astraios.methods._tuned import decoder

        return cast("nn.Module", decoder(model))

    # --- the config ---------------------------------------------------------------------------

    def _config(self, model: nn.Module, settings: Mapping[str, Any]) -> Any:
        """The PEFT config for `model`."""
        from peft import PeftType
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        from astraios.methods._linear import linear_names

        self._register()
        values = {name: value for name, value in settings.items() if value is not None}
        if self.targets is not None and "target_modules" not in values:
            model_type = getattr(getattr(model, "config", None), "model_type", None)
            block = architecture(model_type, f"method {self.name!r}", linear_names(model))
            values = {**self.targets(block), **values}
        if self.find is not None:
            values = {**self.find(model), **values}
        make = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(self.peft_type)]
        try:
            return make(task_type="CAUSAL_LM", **values)
        except MethodError as error:
            raise MethodError(f"method {self.name!r}: {error}") from None
        except (ValueError, TypeError, ImportError) as error:
            raise MethodError(f"method {self.name!r}: {error}") from error

    def _register(self) -> None:
        if self.peft_type == "BOTTLENECK":
            from astraios.methods._register import register

            register()
