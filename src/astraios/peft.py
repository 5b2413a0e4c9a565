"""Bottleneck adapters for PEFT users: `import astraios.peft`, then plain `peft` calls.

Importing registers the method under PEFT's type `BOTTLENECK`, the one in the configs of the
published Astraios checkpoints. After it `get_peft_model`, `PeftModel.from_pretrained`,
`AutoPeftModelForCausalLM`, `add_adapter`, `load_adapter` and the rest take it like any other:

    import astraios.peft
    from peft import get_peft_model

    model = get_peft_model(base, astraios.peft.BottleneckConfig(placement="adapterh"))
"""

from __future__ import annotations

from astraios.methods._register import register

register()

from astraios.methods._bottleneck_config import BottleneckConfig  # noqa: E402
from astraios.methods._bottleneck_layer import BottleneckLayer  # noqa: E402
from astraios.methods._bottleneck_model import BottleneckModel  # noqa: E402

__all__ = ["BottleneckConfig", "BottleneckLayer", "BottleneckModel"]
