"""Every layout on every variant of every architecture: in each block, at the right module, trained.

The variants are those in which a block of one architecture is built differently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from peft import get_peft_model  # noqa: E402

from astraios.errors import MethodError  # noqa: E402
from astraios.methods._architectures import ARCHITECTURES  # noqa: E402
from astraios.methods._placement import PLACEMENTS  # noqa: E402
from astraios.peft import BottleneckConfig, BottleneckLayer  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

Tiny = Callable[..., Any]
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ARCHITECTURES if name != "chatglm"},  # that is remote code
    "gpt_bigcode multi-head": ("gpt_bigcode", {"multi_query": False}),
    "gpt_neox parallel": ("gpt_neox", {"use_parallel_residual": True}),
    "gpt_neox sequential": ("gpt_neox", {"use_parallel_residual": False}),
    "opt-350m": ("opt", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "falcon multi-head": ("falcon", {"multi_query": False}),
    "falcon sequential": ("falcon", {"parallel_attn": False, "alibi": True}),
    "falcon-40b": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "bloom post-norm": ("bloom", {"apply_residual_connection_post_layernorm": True}),
    "mpt multi-query": ("mpt", {"no_bias": False}),
    "llama multi-head": ("llama", {"num_key_value_heads": 4, "attention_bias": True}),
    "llama one key head": ("llama", {"num_key_value_heads": 1}),
    "starcoder2 without biases": ("starcoder2", {"use_bias": False}),
    "phi normed": ("phi", {"qk_layernorm": True}),
    "qwen2 sliding": ("qwen2", {"use_sliding_window": True, "sliding_window": 4}),
}
# Role in a block -> kind, by layout; the paths of the roles are the table's.
ROLES = {
    "adapterh": {"mlp_in": "before", "mlp_out": "after"},
    "adapterp": {"mlp_out": "after"},
    "parallel": {"attention_in": "parallel"},
    "houlsby": {"attention_out": "after", "mlp_out": "after"},
    "pfeiffer": {"mlp_out": "after"},
    "parallel_mlp": {"mlp": "parallel"},
}


def test_every_layout_is_described_here() -> None:
    assert set(ROLES) == set(PLACEMENTS)
    assert all("arXiv:" in placement.paper for placement in PLACEMENTS.values())


@pytest.mark.parametrize("placement", ROLES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_adapters_sit_in_every_block_and_are_trained(
    variant: str, placement: str, tiny_model: Tiny, batch: Any
) -> None:
    model_type, changes = VARIANTS[variant]
    block = ARCHITECTURES[model_type]
    config = BottleneckConfig(
        placement=placement, bottleneck_size=4, init_weights=False, task_type="CAUSAL_LM"
    )
    base = tiny_model(model_type, **changes)
    if placement == "parallel_mlp" and block.mlp is None:
        with pytest.raises(MethodError, match="'adapterp' or 'parallel'"):
            get_peft_model(base, config)
        return
    tuned = get_peft_model(base, config).train()

    expected = {}
    for role, kind in ROLES[placement].items():
        paths = getattr(block, role)
        for path in [paths] if isinstance(paths, str) else paths:
            expected[path] = kind
    found: dict[str, list[str]] = {path: [] for path in expected}
    for name, layer in tuned.base_model.model.named_modules():
        if isinstance(layer, BottleneckLayer):
            (path,) = (path for path in expected if name.endswith(f".{path}"))
            found[path].append(layer.plans["default"].kind)
    assert found == {path: [kind] * 2 for path, kind in expected.items()}  # there are two blocks

    tuned(input_ids=batch[0], labels=batch[0]).loss.backward()
    for name, weight in tuned.named_parameters():
        assert weight.requires_grad == (".adapter_" in name)
        assert not weight.requires_grad or weight.grad.any(), name
