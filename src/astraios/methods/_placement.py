"""Where bottleneck adapters sit: kinds, and the layouts that have a name.

    before     y = W(x + s * delta(x))         delta: in -> M -> in
    after      y = W(x) + s * delta(W(x))      delta: out -> M -> out
    parallel   y = W(x) + s * delta(x)         delta: in -> M -> out

`W` is the adapted layer with its bias, or the whole MLP for `parallel_mlp`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from astraios.errors import MethodError
from astraios.methods._architectures import ARCHITECTURES, Architecture, architecture, ends_with

__all__ = ["KINDS", "PLACEMENTS", "Kind", "Placement", "kind_of", "placed"]

Kind = Literal["before", "after", "parallel"]
KINDS: tuple[Kind, ...] = ("before", "after", "parallel")


@dataclass(frozen=True)
class Placement:
    """A layout: which layers of a block get an adapter of which kind."""

    paper: str
    layers: Callable[[Architecture], Mapping[str, Kind]]
    """Path in the block -> kind; empty where the architecture has no place for this layout."""
    whole_mlp: bool = False
    """Whether the adapted module is the MLP itself and not a linear layer."""


def _adapterh(block: Architecture) -> dict[str, Kind]:
    return {**dict.fromkeys(block.mlp_in, "before"), block.mlp_out: "after"}


def _after_mlp(block: Architecture) -> dict[str, Kind]:
    return {block.mlp_out: "after"}


def _houlsby(block: Architecture) -> dict[str, Kind]:
    return {block.attention_out: "after", block.mlp_out: "after"}


def _parallel(block: Architecture) -> dict[str, Kind]:
    return dict.fromkeys(block.attention_in, "parallel")


def _parallel_mlp(block: Architecture) -> dict[str, Kind]:
    return {} if block.mlp is None else {block.mlp: "parallel"}


_ASTRAIOS = "Zhuo et al. 2024, arXiv:2401.00788"

PLACEMENTS: Mapping[str, Placement] = MappingProxyType(
    {
        "adapterh": Placement(_ASTRAIOS, _adapterh),
        "adapterp": Placement(_ASTRAIOS, _after_mlp),
        "parallel": Placement(_ASTRAIOS, _parallel),
        "houlsby": Placement("Houlsby et al. 2019, arXiv:1902.00751", _houlsby),
        # The study's AdapterP has the same layout; this name promises the paper's, whatever
        # becomes of the study's.
        "pfeiffer": Placement("Pfeiffer et al. 2021, arXiv:2005.00247", _after_mlp),
        "parallel_mlp": Placement(
            "He et al. 2022, arXiv:2110.04366", _parallel_mlp, whole_mlp=True
        ),
    }
)


def placed(
    name: str, model_type: str | None, linear_names: Iterable[str] = ()
) -> Mapping[str, Kind]:
    """Target name -> kind of layout `name` in an architecture.

    Raises:
        MethodError: if the architecture is unknown, or has no place for the layout.
    """
    block = architecture(model_type, f"placement {name!r}", linear_names)
    layers = PLACEMENTS[name].layers(block)
    if not layers:
        raise MethodError(
            f"placement {name!r} needs a module that holds the whole MLP, and {model_type} has "
            "none: its MLP layers lie in the block itself. Use placement 'adapterp' or 'parallel'"
        )
    return {block.short(path): kind for path, kind in layers.items()}


def kind_of(
    path: str,
    *,
    model_type: str | None,
    placement: str | None = None,
    parallel: bool = False,
    positions: Mapping[str, str] | None = None,
) -> Kind:
    """Which kind of adapter the module at `path` gets.

    In this order: an entry of `positions`, the layout's own, `parallel` for all, `before` for the
    layers that read the MLP's input in a known architecture, and `after` for everything else.
    """
    for name, kind in (positions or {}).items():
        if ends_with(path, name):
            return next(each for each in KINDS if each == kind)
    if parallel:
        return "parallel"
    if placement in ("houlsby", "pfeiffer"):
        return "after"
    block = ARCHITECTURES.get(model_type or "")
    # By the last component alone, as the original decides, so that broad targets agree with it.
    last = path.rpartition(".")[2]
    reads_mlp_input = block is not None and last in {
        name.rpartition(".")[2] for name in block.mlp_in
    }
    return "before" if reads_mlp_input else "after"
