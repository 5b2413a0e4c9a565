"""rsLoRA: LoRA whose scale falls with the root of the rank (Kalajdzievski 2023, arXiv:2312.03732).

    y = W x + (alpha / sqrt(r)) * B A drop(x)

With LoRA's alpha / r the steps become too small at high ranks; with this, a higher rank is used.
Placed as LoRA is in the study. Parameters: those of LoRA, `r * (in + out)` of each adapted layer.
"""

from __future__ import annotations

from functools import partial

from astraios.methods import lora
from astraios.methods._peft import PeftMethod

method = PeftMethod(
    name="rslora",
    title="rsLoRA",
    paper="Kalajdzievski 2023, arXiv:2312.03732",
    peft_type="LORA",
    mergeable=True,
    defaults={"r": 64, "lora_alpha": 16, "lora_dropout": 0.05, "bias": "none", "use_rslora": True},
    more_options=(*lora.OPTIONS, "init_lora_weights"),
    targets=lora.targets,
    formula=partial(lora.count, "rslora"),
    is_identity=lora.is_identity,
)
