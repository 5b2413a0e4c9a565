"""The sizes of a decoder that parameter formulas are written in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from astraios.errors import MethodError
from astraios.methods._architectures import ARCHITECTURES, Architecture, ends_with

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Shape", "is_bias", "is_norm"]


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
    query: int | None = None
    """Width of all queries of one token; None where it is `hidden`, as in most models."""
    norms: int | None = None
    """Weights and biases of all normalisations; None where no model was looked at."""
    biases: int | None = None
    """All biases, those of normalisations too; None likewise."""

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """Sizes of the model that a transformers `config` describes; no weights are made.

        Raises:
            MethodError: if the architecture is not in `ARCHITECTURES`.
        """
        import torch
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            return cls.from_model(AutoModelForCausalLM.from_config(config))

    @classmethod
    def from_model(cls, model: nn.Module) -> Self:
        """Sizes of a causal language model without adapters, read off its layers.

        Raises:
            MethodError: if the architecture is not in `ARCHITECTURES`, or the layers are not
                where its entry says.
        """
        model_type = str(getattr(getattr(model, "config", None), "model_type", None))
        if model_type not in ARCHITECTURES:
            raise MethodError(
                f"no sizes are known for architecture {model_type!r}; known: "
                f"{', '.join(sorted(ARCHITECTURES))}. Count the tuned model's parameters instead"
            )
        block = ARCHITECTURES[model_type]
        outs = [widths for _, widths in _layers(model, block.mlp_out)]
        if not outs:
            raise MethodError(
                f"a {model_type} model without any {block.mlp_out!r} has no known sizes"
            )
        inner, hidden = outs[0]
        query, _ = _widths(model, block.attention_out)
        return cls(
            architecture=model_type,
            n_layers=len(outs),
            hidden=hidden,
            inner=inner,
            kv=_kv(model, block, query),
            n_parameters=sum(weight.numel() for weight in model.parameters()),
            query=None if query == hidden else query,
            norms=sum(
                weight.numel()
                for module in model.modules()
                if is_norm(module)
                for weight in module.parameters(recurse=False)
            ),
            biases=sum(w.numel() for name, w in model.named_parameters() if is_bias(name)),
        )

    @property
    def attention(self) -> int:
        """Width of all queries of one token, and so of the attention's result."""
        return self.hidden if self.query is None else self.query

    def widths(self, path: str) -> tuple[int, int]:
        """Inputs and outputs of the linear layer at `path` inside one block.

        Raises:
            KeyError: if the block has no such layer.
        """
        block = ARCHITECTURES[self.architecture]
        if path in block.attention_in:
            if block.fused:
                return self.hidden, self.attention + 2 * self.kv
            return self.hidden, self.attention if path == block.attention_in[0] else self.kv
        if path == block.attention_out:
            return self.attention, self.hidden
        if path in block.mlp_in:
            return self.hidden, self._mlp_in_width(block)
        if path == block.mlp_out:
            return self.inner, self.hidden
        raise KeyError(path)

    def _mlp_in_width(self, block: Architecture) -> int:
        # Phi-3 reads gate and up from one layer of twice the width.
        return 2 * self.inner if block.mlp_in == ("mlp.gate_up_proj",) else self.inner


def is_norm(module: nn.Module) -> bool:
    """Whether `module` is a normalisation with weights, by its class: LayerNorm, LlamaRMSNorm."""
    return "Norm" in type(module).__name__ and any(True for _ in module.parameters(recurse=False))


def is_bias(name: str) -> bool:
    """Whether the parameter of that name is a bias."""
    return name.rpartition(".")[2] == "bias"


def _kv(model: nn.Module, block: Architecture, query: int) -> int:
    if block.fused:
        return (_widths(model, block.attention_in[0])[1] - query) // 2
    return _widths(model, block.attention_in[1])[1]


def _widths(model: nn.Module, path: str) -> tuple[int, int]:
    return next(widths for _, widths in _layers(model, path))


def _layers(model: nn.Module, path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    from astraios.methods._linear import linear_widths

    for name, module in model.named_modules():
        if ends_with(name, path):
            widths = linear_widths(module)
            if widths is not None:
                yield name, widths
