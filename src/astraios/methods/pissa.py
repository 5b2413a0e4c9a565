"""PiSSA: LoRA on the largest singular directions of a weight (Meng et al. 2024, arXiv:2404.02948).

    W = U S V        B = U_r S_r^(1/2)    A = S_r^(1/2) V_r    and W - (alpha / r) B A stays frozen

Tuning begins as the base model, with the directions that matter most free. The frozen rest takes
the base's place in memory, so the model with its adapter switched off is that rest and not the
base; an adapter loaded on the base makes the same rest again.

Placed as LoRA is in the study. Parameters: those of LoRA, `r * (in + out)` of each adapted layer.
"""

from __future__ import annotations

from functools import partial

from astraios.methods import lora
from astraios.methods._peft import PeftMethod

method = PeftMethod(
    name="pissa",
    title="PiSSA",
    paper="Meng et al. 2024, arXiv:2404.02948",
    peft_type="LORA",
    mergeable=True,
    alters_base=True,
    defaults={
        "r": 16,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "bias": "none",
        "init_lora_weights": "pissa",
    },
    more_options=lora.OPTIONS,
    targets=lora.targets,
    formula=partial(lora.count, "pissa"),
)
