"""All or nothing: a model that cannot be changed as asked is left as it was."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from astraios.errors import AstraiosError, MethodError

__all__ = ["all_or_nothing"]

# What PEFT raises on a config or model that it does not accept.
REFUSALS = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError)


@contextmanager
def all_or_nothing(model: nn.Module, doing: str) -> Iterator[None]:
    """Undo the block's changes to `model` if it raises, and say `doing` in PEFT's errors.

    Children, hooks, plain attributes and trainability are put back; the values of weights are not
    watched, and nothing here changes those of a base model.

    Raises:
        MethodError: in place of what PEFT raised.
    """
    parts = {
        module: (
            {key: dict(value) if _is_table(key) else value for key, value in vars(module).items()}
        )
        for module in model.modules()
    }
    trainable = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        with warnings.catch_warnings():
            # Raised inside PEFT by its own use of transformers; nothing a user can act on.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            warnings.filterwarnings("ignore", message=r"Unsupported layer type .*Norm'")
            # AdaLoRA's own pattern, in a form that PEFT's general check does not know.
            warnings.filterwarnings("ignore", message=r"The following rank_pattern keys .*lora_E")
            yield
    except BaseException as error:
        for module, attributes in parts.items():
            _restore(module, attributes)
        for weight, was in trainable:
            weight.requires_grad = was
        if isinstance(error, AstraiosError) or not isinstance(error, REFUSALS):
            raise
        reason = str(error.args[0]) if error.args else type(error).__name__
        raise MethodError(f"{doing}: {reason}") from error


def _is_table(key: str) -> bool:
    """Whether an attribute is one of `nn.Module`'s own dictionaries."""
    return key in ("_modules", "_parameters", "_buffers") or key.endswith("_hooks")


def _restore(module: nn.Module, attributes: dict[str, object]) -> None:
    for key in set(vars(module)) - set(attributes):
        del vars(module)[key]
    for key, value in attributes.items():
        table = vars(module).get(key)
        if _is_table(key) and isinstance(table, dict) and isinstance(value, dict):
            table.clear()
            table.update(value)
        else:
            vars(module)[key] = value
