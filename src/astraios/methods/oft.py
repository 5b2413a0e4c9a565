"""OFT: rotate the inputs of a weight, block by block (Qiu et al. 2023, arXiv:2306.07280).

    y = W (R x)        R = diag(R_1 ... R_n) orthogonal, R_i = (I + Q_i)(I - Q_i)^-1, Q_i = -Q_i^T

Angles between neurons are kept. It starts at R = I. Placed as LoRA is in the study.

Parameters: per adapted layer `in / s` blocks of `s (s - 1) / 2` for blocks of width s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from astraios.errors import MethodError
from astraios.methods import lora
from astraios.methods._options import adapted, only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape

if TYPE_CHECKING:
    from torch import Tensor


def n_trainable(shape: Shape, settings: Mapping[str, Any]) -> int:
    """The free numbers of every layer's skew-symmetric blocks."""
    plain = {"bias": "none", "modules_to_save": None, "block_share": False, "r": 0}
    only_counted("oft", settings, plain)
    n_blocks, paths = adapted("oft", shape, settings, lora.layers)
    size, total = int(settings["oft_block_size"]), 0
    for path in paths:
        inputs, _ = shape.widths(path)
        if inputs % size:
            raise MethodError(
                f"the parameter formula of 'oft' needs blocks that divide the {inputs} inputs of "
                f"{path!r}, and oft_block_size is {size}; PEFT would take the nearest that does"
            )
        total += inputs // size * (size * (size - 1) // 2)
    return n_blocks * total


def is_identity(weights: Mapping[str, Tensor]) -> bool:
    """Whether every Q is zero."""
    return all(not w.any() for name, w in weights.items() if ".oft_R." in name)


method = PeftMethod(
    name="oft",
    title="OFT",
    paper="Qiu et al. 2023, arXiv:2306.07280",
    peft_type="OFT",
    mergeable=True,
    defaults={"oft_block_size": 32, "module_dropout": 0.0, "bias": "none"},
    more_options=(
        *lora.OPTIONS,
        "r",
        "init_weights",
        "coft",
        "eps",
        "block_share",
        "use_cayley_neumann",
        "num_cayley_neumann_terms",
    ),
    targets=lora.targets,
    formula=n_trainable,
    is_identity=is_identity,
)
