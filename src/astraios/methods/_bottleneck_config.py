"""The config of a bottleneck adapter: what is saved as `adapter_config.json`.

The first block of fields is that of the original fork of PEFT, so that its folders load and ours
load there; the second block is ours. Every wrong value is refused when the config is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from peft import PeftConfig, PeftType
from transformers.activations import ACT2CLS

from astraios.errors import MethodError, did_you_mean
from astraios.methods._placement import KINDS, PLACEMENTS

__all__ = ["BottleneckConfig"]

BIASES = ("none", "all", "adapter_only")
INITS: tuple[str | bool, ...] = ("bert", "mam_adapter", "zero", True, False)
DTYPES = ("float32", "bfloat16", "float16")
# These carry weights of their own, which an adapter file has no place for.
PARAMETRIC = frozenset({"prelu", "xielu"})
ACTIVATIONS = tuple(sorted(set(ACT2CLS) - PARAMETRIC))
_PARALLEL: Mapping[str, bool] = MappingProxyType({"parallel": True, "parallel_mlp": True})


@dataclass
class BottleneckConfig(PeftConfig):  # type: ignore[misc]
    """A bottleneck adapter: `delta(z) = s * W_up f(W_down z)` before, after or beside a layer.

    Say where it goes by `placement`, or by `target_modules` and, where needed, `positions`.

    Raises:
        MethodError: on construction, if a value is not one of those accepted.
    """

    bottleneck_size: int = field(
        default=256, metadata={"help": "Width M between the two matrices of an adapter."}
    )
    non_linearity: str = field(
        default="tanh", metadata={"help": "Activation between them, by its transformers name."}
    )
    adapter_dropout: float = field(
        default=0.0, metadata={"help": "Dropout on the adapter's input, in [0, 1)."}
    )
    target_modules: list[str] | set[str] | str | None = field(
        default=None,
        metadata={
            "help": "Names that end the paths of the layers to adapt, a regular expression that "
            "matches whole paths, or 'all-linear'. None: those of `placement` for the architecture."
        },
    )
    use_parallel_adapter: bool = field(
        default=False, metadata={"help": "Put every adapter beside its layer."}
    )
    use_adapterp: bool = field(
        default=False,
        metadata={"help": "Kept from the original's files; nothing reads it there or here."},
    )
    scaling: float | str = field(
        default=1.0, metadata={"help": "Factor s of the adapter's output, or 'learned'."}
    )
    bias: str = field(
        default="none", metadata={"help": "Biases to train too: 'none', 'all' or 'adapter_only'."}
    )
    init_weights: bool | str = field(
        default="bert",
        metadata={
            "help": "'bert': both matrices N(0, 0.02), as the original. 'mam_adapter': down "
            "Kaiming-uniform, up zero. 'zero' or True: down N(0, 0.02), up zero, so that the model "
            "starts as it was. False: both Kaiming-uniform, far from the identity (for tests)."
        },
    )
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules to train and save whole, besides the adapters."}
    )

    placement: str | None = field(
        default=None,
        metadata={
            "help": f"A named layout: {', '.join(PLACEMENTS)}. None: as in the fork's files."
        },
    )
    positions: dict[str, str] | None = field(
        default=None,
        metadata={
            "help": "Where the adapter of a target sits, by the end of its path: "
            "{'mlp.c_proj': 'after'}. One of 'before', 'after', 'parallel'."
        },
    )
    reduction_factor: float | None = field(
        default=None,
        metadata={"help": "Sets the bottleneck to the layer's adapter width divided by this."},
    )
    bottleneck_pattern: dict[str, int] = field(
        default_factory=dict,
        metadata={"help": "Bottleneck size by the end of a path, as a regular expression."},
    )
    scaling_pattern: dict[str, float] = field(
        default_factory=dict,
        metadata={"help": "Constant scaling by the end of a path, as a regular expression."},
    )
    adapter_dtype: str = field(
        default="float32",
        metadata={"help": "Type of the adapter's weights over a half-precision base."},
    )
    exclude_modules: list[str] | set[str] | str | None = field(
        default=None, metadata={"help": "Layers to leave alone, written like `target_modules`."}
    )
    layers_to_transform: list[int] | int | None = field(
        default=None, metadata={"help": "Indices of the blocks to adapt; None: all."}
    )
    layers_pattern: list[str] | str | None = field(
        default=None, metadata={"help": "Name of the list of blocks, if it is not the usual."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType("BOTTLENECK")  # there since registration
        self.target_modules = _as_set(self.target_modules)
        self.exclude_modules = _as_set(self.exclude_modules)
        self._check_sizes()
        self._check_choices()
        self._check_placement()
        self._check_layers()

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values; sets as sorted lists, so that equal configs save equally."""
        values: dict[str, Any] = super().to_dict()
        return {k: sorted(v) if isinstance(v, set) else v for k, v in values.items()}

    # --- checks -------------------------------------------------------------------------------

    def _check_sizes(self) -> None:
        _whole("bottleneck_size", self.bottleneck_size)
        for name, size in self.bottleneck_pattern.items():
            _whole(f"bottleneck_pattern[{name!r}]", size)
        if self.reduction_factor is not None and not _number(self.reduction_factor, above=0.0):
            raise _wrong("reduction_factor", self.reduction_factor, "a number above 0, or None")
        dropout = self.adapter_dropout
        if not _number(dropout) or not 0.0 <= dropout < 1.0:
            raise _wrong("adapter_dropout", dropout, "a number in [0, 1)")
        if self.scaling != "learned":
            if not _number(self.scaling):
                raise _wrong("scaling", self.scaling, "a finite number or 'learned'")
            self.scaling = float(self.scaling)
        for name, scaling in self.scaling_pattern.items():
            if not _number(scaling):
                raise _wrong(f"scaling_pattern[{name!r}]", scaling, "a finite number")

    def _check_choices(self) -> None:
        _choice("non_linearity", self.non_linearity, ACTIVATIONS)
        _choice("bias", self.bias, BIASES)
        _choice("adapter_dtype", self.adapter_dtype, DTYPES)
        if not any(self.init_weights is each or self.init_weights == each for each in INITS) or (
            isinstance(self.init_weights, int | float) and not isinstance(self.init_weights, bool)
        ):
            accepted = ", ".join(repr(each) for each in INITS)
            near = did_you_mean(str(self.init_weights), [i for i in INITS if isinstance(i, str)])
            raise _wrong("init_weights", self.init_weights, f"one of {accepted}", near)
        for name in ("use_parallel_adapter", "use_adapterp"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "True or False")

    def _check_placement(self) -> None:
        for name, kind in (self.positions or {}).items():
            _choice(f"positions[{name!r}]", kind, KINDS)
        if self.placement is None:
            return
        _choice("placement", self.placement, tuple(PLACEMENTS))
        parallel = self.placement in _PARALLEL
        if self.use_parallel_adapter and not parallel:
            raise MethodError(
                f"placement {self.placement!r} is sequential but use_parallel_adapter is True; "
                "leave one of them out"
            )
        self.use_parallel_adapter = parallel
        self.use_adapterp = self.use_adapterp or self.placement == "adapterp"

    def _check_layers(self) -> None:
        if self.layers_pattern and self.layers_to_transform is None:
            raise MethodError(
                "layers_pattern is given without layers_to_transform; add the indices"
            )
        if isinstance(self.target_modules, str) and self.layers_to_transform is not None:
            raise MethodError(
                "layers_to_transform does not go with a regular expression in target_modules; "
                "write the layer numbers into the expression, or list names"
            )


def _as_set(names: Any) -> Any:
    """A list of names as a set; text and None as they are."""
    if names is None or isinstance(names, str):
        return names
    if not isinstance(names, Iterable) or not all(isinstance(name, str) for name in names):
        raise _wrong("target_modules or exclude_modules", names, "a list of names or one text")
    return set(names)


def _number(value: Any, above: float = -math.inf) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value) and value > above


def _whole(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong(name, value, "a whole number of at least 1")


def _choice(name: str, value: Any, accepted: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in accepted:
        listed = ", ".join(map(repr, accepted))
        raise _wrong(name, value, f"one of {listed}", did_you_mean(str(value), accepted))


def _wrong(name: str, value: Any, expected: str, hint: str = "") -> MethodError:
    return MethodError(f"{name} is {value!r}; expected {expected}.{hint}")
