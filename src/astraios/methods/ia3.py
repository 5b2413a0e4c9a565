"""(IA)^3: scale keys, values and inner activations (Liu et al. 2022, arXiv:2205.05638).

    k -> l_k * k        v -> l_v * v        W_2 f(W_1 x) -> W_2 (l_ff * f(W_1 x))

Every vector starts at one, so the tuned model starts equal to the base model. Where one layer gives
q, k and v, as in GPTBigCode, all of its output is scaled, the query too: that is what the study
trained.

Parameters: per block one number for each scaled output and for each input of the MLP's output
projection; for GPTBigCode `(d + 2k) + f`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from astraios.errors import MethodError
from astraios.methods._architectures import ARCHITECTURES, Architecture, ends_with
from astraios.methods._options import adapted, only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape

if TYPE_CHECKING:
    from torch import Tensor


def layers(block: Architecture) -> tuple[str, ...]:
    """Scaled layers inside one block."""
    keys_and_values = block.attention_in if block.fused else block.attention_in[1:]
    return (*keys_and_values, block.mlp_out)


def targets(block: Architecture) -> dict[str, Any]:
    """Config fields for an architecture."""
    return {
        "target_modules": list(block.shorts(layers(block))),
        "feedforward_modules": [block.short(block.mlp_out)],  # scaled on the input side
    }


def n_trainable(shape: Shape, settings: Mapping[str, Any]) -> int:
    """Entries of all vectors."""
    only_counted("ia3", settings, {"modules_to_save": None})
    n_blocks, paths = adapted("ia3", shape, settings, layers)
    inner = settings.get("feedforward_modules")
    if inner is None and settings.get("target_modules") is None:
        inner = [ARCHITECTURES[shape.architecture].mlp_out]
    if isinstance(inner, str):
        raise MethodError(
            f"the parameter formula of 'ia3' does not read regular expressions "
            f"(feedforward_modules={inner!r}); list names"
        )
    n_entries = 0
    for path in paths:
        n_inputs, n_outputs = shape.widths(path)
        n_entries += n_inputs if any(ends_with(path, name) for name in inner or ()) else n_outputs
    return n_blocks * n_entries


def is_identity(weights: Mapping[str, Tensor]) -> bool:
    """Whether every factor is one."""
    return all(bool((w == 1).all()) for name, w in weights.items() if name.endswith("ia3_l"))


method = PeftMethod(
    name="ia3",
    title="(IA)^3",
    paper="Liu et al. 2022, arXiv:2205.05638",
    peft_type="IA3",
    mergeable=True,
    defaults={"init_ia3_weights": True},
    more_options=(
        "target_modules",
        "feedforward_modules",
        "exclude_modules",
        "modules_to_save",
        "fan_in_fan_out",
    ),
    targets=targets,
    formula=n_trainable,
    is_identity=is_identity,
)
