"""Where and how a model runs: device, precision, context, the options of the engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from astraios.errors import ConfigError
from astraios.generation import Model

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from astraios.methods import Method

__all__ = [
    "Options",
    "devices_of",
    "end_tokens",
    "inputs_of",
    "n_positions",
    "n_virtual",
    "options_of",
    "placed",
    "special_tokens",
]

_UNLIMITED = 2**62

TWO_BUDGETS = "give either batch_tokens or memory_mib as the budget of a batch"


@dataclass(frozen=True)
class Options:
    """What a config's `engine_options` may say for engine hf."""

    memory_mib: float | None = None
    """Memory that generation may take beside the weights, on each device."""
    threads: int | None = None
    """Threads of torch on a CPU, in each process."""


def options_of(model: Model) -> Options:
    """The options, checked.

    Raises:
        ConfigError: if there is no such option, a value is none, or two budgets are given.
    """
    known = [field.name for field in fields(Options)]
    for name, value in model.options.items():
        if name not in known:
            raise ConfigError(f"engine hf has no option {name!r}; known: {', '.join(known)}")
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 < value < math.inf
        ):
            raise ConfigError(f"engine_options.{name} of engine hf is {value!r}; give a number > 0")
        if name == "threads" and not isinstance(value, int):
            raise ConfigError(f"engine_options.threads of engine hf is {value!r}; give an integer")
    options = Options(**model.options)
    if options.memory_mib is not None and model.batch_tokens is not None:
        raise ConfigError(TWO_BUDGETS)
    return options


AUTO = "auto"


def devices_of(model: Model) -> tuple[str, ...]:
    """Its devices, one a worker process.

    Raises:
        ConfigError: if one is empty.
    """
    devices = tuple(device.strip() for device in model.device.split(","))
    if not all(devices):
        raise ConfigError(f"device {model.device!r} names an empty device; give cuda:0,cuda:1")
    return devices


def placed(
    model: nn.Module, device: str | torch.device | None, dtype: str | torch.dtype | None
) -> nn.Module:
    """`model` on `device` in `dtype`; None leaves it, `auto` is a GPU where there is one.

    Raises:
        ConfigError: if there is no such device or precision here.
    """
    import torch

    if device == AUTO:
        device = "cuda" if torch.cuda.is_available() else "cpu"

    if isinstance(dtype, str):
        named = getattr(torch, dtype, None)
        if not isinstance(named, torch.dtype) or not named.is_floating_point:
            raise ConfigError(f"unknown precision {dtype!r}; known: float32, bfloat16, float16")
        dtype = named
    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # torch raises both for what is not there
            first = str(error).split("\n")[0]
            raise ConfigError(
                f"device {str(device)!r} cannot be used: {first}; try 'cpu'"
            ) from None
        model = model.to(device=device)
    if dtype is not None:
        _convert(model, dtype)
    return model


def _convert(model: nn.Module, dtype: torch.dtype) -> None:
    """Weights and stored buffers; what a model computes when it is made, such as the frequencies of
    rotary embeddings, keeps the precision that transformers gives it."""
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            if weight.is_floating_point():
                weight.data = weight.data.to(dtype)
        for name, buffer in list(module.named_buffers(recurse=False)):
            stored = name not in module._non_persistent_buffers_set
            if stored and buffer.is_floating_point():
                setattr(module, name, buffer.to(dtype))


def n_positions(config: Any) -> int:
    """Tokens that the context holds; ALiBi models name no limit."""
    return getattr(config, "max_position_embeddings", None) or _UNLIMITED


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends a text, by the tokenizer, the config or the generation config."""
    named = [
        tokenizer.eos_token_id,
        getattr(model.config, "eos_token_id", None),
        getattr(getattr(model, "generation_config", None), "eos_token_id", None),
    ]
    ids: set[int] = set()
    for value in named:
        ids.update(value if isinstance(value, list | tuple) else () if value is None else (value,))
    return frozenset(ids)


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Name of each token that is no text -> its id."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    named = {token.content: number for number, token in added if token.special}
    return named | dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))


def inputs_of(model: Any, method: Method | None) -> Callable[[Tensor, Tensor], dict[str, Any]]:
    """What makes the keyword arguments of a forward pass of left-padded rows."""

    def inputs(ids_PT: Tensor, mask_PT: Tensor) -> dict[str, Any]:
        if method is not None:
            return method.inputs(model, ids_PT, mask_PT)
        return {
            "input_ids": ids_PT,
            "attention_mask": mask_PT,
            "position_ids": (mask_PT.cumsum(-1) - 1).clamp(min=0),
        }

    return inputs


def n_virtual(inputs: Callable[[Tensor, Tensor], dict[str, Any]], device: torch.device) -> int:
    """Tokens that `inputs` puts in front of a prompt."""
    import torch

    with torch.inference_mode():
        one_11 = torch.ones(1, 1, dtype=torch.long, device=device)
        width: int = inputs(one_11, one_11)["attention_mask"].shape[1]
    return width - 1
