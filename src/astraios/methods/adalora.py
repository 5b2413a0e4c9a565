"""AdaLoRA: LoRA that moves its rank to where it helps (Zhang et al. 2023, arXiv:2303.10512).

    y = W x + (alpha / rank) * P diag(lambda) Q drop(x)     P, Q near orthogonal by a penalty

It starts at `init_r` directions a layer; between steps `tinit` and the last `tfinal` those with the
smallest influence are set to zero, until `target_r` a layer are left on average. The penalty is in
the training loss that is recorded, and not in the validation loss. Evaluated as it was left: the
directions that were taken out are zeros.

Placed as LoRA is in the study. Parameters: `init_r * (in + out) + init_r` of each adapted layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from astraios.methods import lora
from astraios.methods._options import adapted, only_counted
from astraios.methods._peft import PeftMethod
from astraios.methods._shape import Shape

if TYPE_CHECKING:
    from torch import Tensor


def n_trainable(shape: Shape, settings: Mapping[str, Any]) -> int:
    """`init_r * (in + out + 1)` of every adapted layer."""
    only_counted("adalora", settings, {"bias": "none", "modules_to_save": None})
    n_blocks, paths = adapted("adalora", shape, settings, lora.layers)
    return n_blocks * sum(int(settings["init_r"]) * (sum(shape.widths(path)) + 1) for path in paths)


def is_identity(weights: Mapping[str, Tensor]) -> bool:
    """Whether every lambda is zero."""
    return all(not w.any() for name, w in weights.items() if name.endswith("lora_E"))


def remembered(model: Any) -> dict[str, dict[str, Tensor]]:
    """The running averages of how much each direction matters."""
    found = getattr(model, "_orig_mod", model).base_model.rankallocator
    return {name: getattr(found, name) for name in ("ipt", "exp_avg_ipt", "exp_avg_unc")}


def each_step(model: Any, step: int) -> None:
    """Move the ranks; PEFT leaves it to the training loop."""
    tuned = getattr(model, "_orig_mod", model)
    tuned.base_model.update_and_allocate(step)


def put_back(model: Any) -> None:
    """Take out the directions that are zero in these weights, and no others.

    PEFT saves what its config says is left, which is what the last step left.
    """
    tuned = getattr(model, "_orig_mod", model)
    left = {
        name: weight.detach().ne(0).flatten().tolist()
        for name, weight in tuned.base_model.model.named_parameters()
        if ".lora_E." in name
    }
    config = tuned.active_peft_config
    config.rank_pattern = None if all(map(all, left.values())) else left


method = PeftMethod(
    name="adalora",
    title="AdaLoRA",
    paper="Zhang et al. 2023, arXiv:2303.10512",
    peft_type="ADALORA",
    mergeable=True,
    defaults={"init_r": 12, "target_r": 8, "lora_alpha": 32, "lora_dropout": 0.0, "bias": "none"},
    more_options=(
        *lora.OPTIONS,
        "tinit",
        "tfinal",
        "deltaT",
        "beta1",
        "beta2",
        "orth_reg_weight",
        "total_step",
        "init_lora_weights",
    ),
    targets=lora.targets,
    formula=n_trainable,
    is_identity=is_identity,
    length="total_step",
    each_step=each_step,
    remembered=remembered,
    put_back=put_back,
)
