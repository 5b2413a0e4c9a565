"""Bottleneck adapters for PEFT users: `import astraios.peft`, then plain `peft` calls.

Importing registers the method under PEFT's type `BOTTLENECK`, the one in the configs of the
published Astraios checkpoints. After it `get_peft_model`, `PeftModel.from_pretrained`,
`AutoPeftModelForCausalLM`, `add_adapter`, `load_adapter` and the rest take it like any other:

    import astraios.peft
    from peft import get_peft_model

    model = get_peft_model(base, astraios.peft.BottleneckConfig(placement="adapterh"))

It also makes prompt learning (P-Tuning, prompt tuning) right on left-padded batches of causal
language models, in `forward` and in `generate`; see `methods/_prompt.py`.
"""

from __future__ import annotations

from astraios.methods._prompt import repair_left_padding
from astraios.methods._register import register

register()
repair_left_padding()

from astraios.methods._bottleneck_config import BottleneckConfig  # noqa: E402
from astraios.methods._bottleneck_layer import BottleneckLayer  # noqa: E402
from astraios.methods._bottleneck_model import BottleneckModel  # noqa: E402

__all__ = ["BottleneckConfig", "BottleneckLayer", "BottleneckModel"]
