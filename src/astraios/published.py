"""The 28 models of the paper: four sizes of StarCoderBase, tuned in seven ways.

    astraios-1b-lora ... astraios-16b-fft        short name: size, method

Hub ids as the model lists of the hub's `bigcode` and `starpeft` pages show them. Sizes are in the
ids of 1b, 3b and 7b and not in those of 16b: `bigcode/astraios-lora` is the largest. The adapters
were uploaded as `adapter_model.bin`, the fully tuned models as `pytorch_model.bin`; of those, three
have a copy as safetensors on a branch, which is the revision named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from astraios.errors import UnknownNameError

__all__ = ["METHODS", "MODELS", "SIZES", "PublishedModel", "find", "published"]

FFT = "fft"
METHODS = ("lora", "ptuning", "ia3", "adapterh", "adapterp", "parallel", FFT)
"""How they were tuned; each but the last is an adapter."""


@dataclass(frozen=True)
class Size:
    """One base model."""

    name: str
    base_model: str
    """Hub id."""
    n_parameters: int
    hidden: int
    n_layers: int
    n_heads: int
    """Of queries; GPTBigCode has one head of keys and values."""


SIZES = (
    Size("1b", "bigcode/starcoderbase-1b", 1_137_207_296, 2_048, 24, 16),
    Size("3b", "bigcode/starcoderbase-3b", 3_043_311_104, 2_816, 36, 22),
    Size("7b", "bigcode/starcoderbase-7b", 7_327_263_232, 4_096, 42, 32),
    Size("16b", "bigcode/starcoderbase", 15_517_456_384, 6_144, 40, 48),
)
"""Smallest first; the last is called 15b in some of the authors' files."""

N_POSITIONS, VOCABULARY = 8_192, 49_152
"""Of every size."""

_SAFETENSORS = MappingProxyType({"1b": "refs/pr/3", "3b": "refs/pr/4", "7b": "refs/pr/3"})
"""Size -> branch of the fully tuned model that has its weights as safetensors."""


@dataclass(frozen=True)
class PublishedModel:
    """One tuned model of the paper."""

    name: str
    """Short name, such as `astraios-1b-lora`."""
    base_model: str
    """Hub id of the base it was tuned from."""
    hub_id: str
    """Hub id of the adapter, or of the whole model where it was fully tuned."""
    method: str
    size: str
    """`1b`, `3b`, `7b` or `16b`."""
    n_base_parameters: int
    revision: str | None = None
    """Of `hub_id`, where the main branch cannot be read."""

    @property
    def is_adapter(self) -> bool:
        """Whether the hub has an adapter, to be put on the base, and not a whole model."""
        return self.method != FFT

    @property
    def where(self) -> str:
        """The hub id, with the revision behind an `@` if there is one."""
        return f"{self.hub_id}@{self.revision}" if self.revision else self.hub_id


def _model(size: Size, method: str) -> PublishedModel:
    stem = "astraios" if size is SIZES[-1] else f"astraios-{size.name}"
    return PublishedModel(
        name=f"astraios-{size.name}-{method}",
        base_model=size.base_model,
        hub_id=f"bigcode/{stem}-{method}",
        method=method,
        size=size.name,
        n_base_parameters=size.n_parameters,
        revision=_SAFETENSORS.get(size.name) if method == FFT else None,
    )


MODELS = MappingProxyType(
    {model.name: model for model in (_model(size, method) for size in SIZES for method in METHODS)}
)
"""Short name -> model."""


def published(name: str) -> PublishedModel:
    """The model with that short name.

    Raises:
        UnknownNameError: if there is none; names the nearest one.
    """
    if name not in MODELS:
        raise UnknownNameError("published model", name, MODELS)
    return MODELS[name]


def find(name: str) -> PublishedModel | None:
    """The model with that short name or hub id, if it is one of them.

    Raises:
        UnknownNameError: for a name that is written like theirs and is none of them.
    """
    for model in MODELS.values():
        if name in (model.name, model.hub_id):
            return model
    if name.startswith("astraios-"):
        return published(name)
    return None
