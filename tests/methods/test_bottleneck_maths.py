"""The bottleneck layer against the equations, written out by hooks on the plain base model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from peft import get_peft_model  # noqa: E402
from transformers.activations import ACT2FN  # noqa: E402

from astraios.errors import MethodError  # noqa: E402
from astraios.methods._architectures import ARCHITECTURES, ends_with  # noqa: E402
from astraios.methods._linear import linear_widths  # noqa: E402
from astraios.methods._placement import PLACEMENTS  # noqa: E402
from astraios.peft import BottleneckConfig  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

Tiny = Callable[..., Any]
HERE = tuple(name for name in ARCHITECTURES if name != "chatglm")  # that one is remote code
# Which layers of a block get which adapter, spelled out for the study's architecture and another.
EXPECTED = {
    ("gpt_bigcode", "adapterh"): {"mlp.c_fc": "before", "mlp.c_proj": "after"},
    ("gpt_bigcode", "adapterp"): {"mlp.c_proj": "after"},
    ("gpt_bigcode", "parallel"): {"attn.c_attn": "parallel"},
    ("gpt_bigcode", "houlsby"): {"attn.c_proj": "after", "mlp.c_proj": "after"},
    ("gpt_bigcode", "pfeiffer"): {"mlp.c_proj": "after"},
    ("gpt_bigcode", "parallel_mlp"): {"mlp": "parallel"},
    ("llama", "adapterh"): {
        "mlp.gate_proj": "before",
        "mlp.up_proj": "before",
        "mlp.down_proj": "after",
    },
    ("llama", "parallel"): {f"self_attn.{letter}_proj": "parallel" for letter in "qkv"},
    ("opt", "adapterh"): {"fc1": "before", "fc2": "after"},
    ("gpt_neo", "adapterh"): {"mlp.c_fc": "before", "mlp.c_proj": "after"},
    ("bloom", "parallel"): {"self_attention.query_key_value": "parallel"},
}


def with_hooks(base: Any, tuned: Any, act: str, scaling: float) -> None:
    """Put the adapters of `tuned` on `base` by the equations, with hooks."""
    for path, layer in tuned.base_model.model.named_modules():
        if not hasattr(layer, "plans"):
            continue
        down, up = (part["default"].weight for part in (layer.adapter_down, layer.adapter_up))

        def delta(z: Any, down: Any = down, up: Any = up) -> Any:
            return scaling * (ACT2FN[act](z @ down.T) @ up.T)

        def before(_: Any, args: Any, delta: Any = delta) -> Any:
            return (args[0] + delta(args[0]), *args[1:])

        def after(_: Any, args: Any, y: Any, delta: Any = delta) -> Any:
            return y + delta(y)

        def beside(_: Any, args: Any, y: Any, delta: Any = delta) -> Any:
            return y + delta(args[0])

        module = base.get_submodule(path)
        match layer.plans["default"].kind:
            case "before":
                module.register_forward_pre_hook(before)
            case "after":
                module.register_forward_hook(after)
            case "parallel":
                module.register_forward_hook(beside)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("architecture", HERE)
def test_output_is_that_of_the_equations(
    architecture: str, placement: str, tiny_model: Tiny, batch: Any
) -> None:
    config = BottleneckConfig(
        placement=placement,
        bottleneck_size=6,
        init_weights=False,
        scaling=0.5,
        non_linearity="gelu_new",
        task_type="CAUSAL_LM",
    )
    if (architecture, placement) == ("opt", "parallel_mlp"):
        with pytest.raises(MethodError, match="needs a module that holds the whole MLP"):
            get_peft_model(tiny_model(architecture), config)
        return
    tuned, base = get_peft_model(tiny_model(architecture), config).eval(), tiny_model(architecture)
    plain = base(input_ids=batch[0]).logits
    with_hooks(base, tuned, "gelu_new", 0.5)
    with torch.no_grad():
        found, expected = tuned(input_ids=batch[0]).logits, base(input_ids=batch[0]).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (found - plain).abs().max() > 1e-3


@pytest.mark.parametrize(("architecture", "placement"), EXPECTED)
def test_placement_adapts_the_layers_it_names(
    architecture: str, placement: str, tiny_model: Tiny
) -> None:
    config = BottleneckConfig(placement=placement, bottleneck_size=4, task_type="CAUSAL_LM")
    tuned = get_peft_model(tiny_model(architecture), config)
    found = {
        path: layer.plans["default"].kind
        for path, layer in tuned.base_model.model.named_modules()
        if hasattr(layer, "plans")
    }
    expected = EXPECTED[architecture, placement]
    assert len(found) == 2 * len(expected)
    for path, kind in found.items():
        assert any(ends_with(path, name) and kind == its for name, its in expected.items()), path


@pytest.mark.parametrize("architecture", HERE)
def test_every_path_of_the_table_is_a_linear_layer(architecture: str, tiny_model: Tiny) -> None:
    modules = dict(tiny_model(architecture).named_modules())
    for path in ARCHITECTURES[architecture].paths:
        found = [name for name in modules if ends_with(name, path)]
        assert len(found) == 2, path
        assert all(linear_widths(modules[name]) is not None for name in found)


@pytest.mark.parametrize("architecture", HERE)
def test_short_names_mean_one_layer_a_block(architecture: str, tiny_model: Tiny) -> None:
    block = ARCHITECTURES[architecture]
    names = [name for name, _ in tiny_model(architecture).named_modules()]
    for path in block.paths:
        short = block.short(path)
        assert [n for n in names if ends_with(n, short)] == [n for n in names if ends_with(n, path)]


@pytest.mark.parametrize("multi_query", [True, False])
def test_multi_head_and_multi_query_widths(multi_query: bool, tiny_model: Tiny, batch: Any) -> None:
    config = BottleneckConfig(placement="parallel", bottleneck_size=4, task_type="CAUSAL_LM")
    tuned = get_peft_model(tiny_model(multi_query=multi_query), config)
    layer = tuned.base_model.model.transformer.h[0].attn.c_attn
    assert layer.adapter_up["default"].weight.shape == (48 if multi_query else 96, 4)
    assert tuned(input_ids=batch[0]).logits.isfinite().all()


def test_broad_target_puts_an_output_adapter_on_both_projections(tiny_model: Tiny) -> None:
    config = BottleneckConfig(target_modules=["c_proj"], task_type="CAUSAL_LM")
    tuned = get_peft_model(tiny_model(), config)
    block = tuned.base_model.model.transformer.h[0]
    assert block.attn.c_proj.plans["default"].kind == "after"
    assert block.mlp.c_proj.plans["default"].kind == "after"


def test_regular_expression_matches_whole_paths(tiny_model: Tiny) -> None:
    config = BottleneckConfig(target_modules=r".*\.h\.1\.mlp\.c_fc", task_type="CAUSAL_LM")
    tuned = get_peft_model(tiny_model(), config)
    assert tuned.targeted_module_names == ["transformer.h.1.mlp.c_fc"]


def test_layers_to_transform_limits_the_blocks(tiny_model: Tiny) -> None:
    config = BottleneckConfig(placement="adapterp", layers_to_transform=[1], task_type="CAUSAL_LM")
    tuned = get_peft_model(tiny_model(), config)
    assert tuned.targeted_module_names == ["transformer.h.1.mlp.c_proj"]


def test_positions_win_over_the_table(tiny_model: Tiny) -> None:
    config = BottleneckConfig(
        target_modules=["c_fc", "c_attn"], positions={"c_fc": "after"}, task_type="CAUSAL_LM"
    )
    tuned = get_peft_model(tiny_model(), config)
    assert tuned.base_model.model.transformer.h[0].mlp.c_fc.plans["default"].kind == "after"


def test_reduction_factor_and_patterns_set_the_size(tiny_model: Tiny) -> None:
    config = BottleneckConfig(
        placement="adapterh",
        reduction_factor=4,
        bottleneck_pattern={"h.1.mlp.c_fc": 3},
        scaling_pattern={"c_proj": 2},
        task_type="CAUSAL_LM",
    )
    blocks = get_peft_model(tiny_model(), config).base_model.model.transformer.h
    assert blocks[0].mlp.c_fc.plans["default"].bottleneck == 8
    assert blocks[1].mlp.c_fc.plans["default"].bottleneck == 3
    assert blocks[1].mlp.c_proj.plans["default"].scaling == 2.0
    assert blocks[1].mlp.c_fc.plans["default"].scaling == 1.0


@pytest.mark.parametrize("init", ["zero", "mam_adapter", True])
def test_zero_start_is_the_base_model(init: Any, tiny_model: Tiny, batch: Any) -> None:
    config = BottleneckConfig(placement="adapterh", init_weights=init, task_type="CAUSAL_LM")
    tuned = get_peft_model(tiny_model(), config).eval()
    base = tiny_model()
    assert torch.equal(tuned(input_ids=batch[0]).logits, base(input_ids=batch[0]).logits)


def test_learned_scaling_starts_at_one_and_is_trained(tiny_model: Tiny, batch: Any) -> None:
    torch.manual_seed(0)
    constant = get_peft_model(
        tiny_model(), BottleneckConfig(placement="adapterh", task_type="CAUSAL_LM")
    ).eval()
    torch.manual_seed(0)
    learned = get_peft_model(
        tiny_model(),
        BottleneckConfig(placement="adapterh", scaling="learned", task_type="CAUSAL_LM"),
    ).eval()
    out = learned(input_ids=batch[0], labels=batch[0])
    assert torch.equal(out.logits, constant(input_ids=batch[0]).logits)
    out.loss.backward()
    scalings = [w for name, w in learned.named_parameters() if "adapter_scaling" in name]
    assert len(scalings) == 4
    assert all(weight.shape == (1,) and weight.grad.any() for weight in scalings)


@pytest.mark.parametrize("scaling", [0.7, "learned"])
def test_half_precision_base_keeps_its_stream(scaling: Any, tiny_model: Tiny, batch: Any) -> None:
    config = BottleneckConfig(placement="adapterh", scaling=scaling, task_type="CAUSAL_LM")
    tuned = get_peft_model(tiny_model().to(torch.bfloat16), config).eval()
    layer = tuned.base_model.model.transformer.h[0].mlp.c_fc
    assert {w.dtype for name, w in layer.named_parameters() if "adapter" in name} == {torch.float32}
    x = torch.randn(2, 3, 32, dtype=torch.bfloat16)
    down, up = layer.adapter_down["default"].weight, layer.adapter_up["default"].weight
    with torch.no_grad():
        delta = torch.tanh(x.float() @ down.T) @ up.T
        added = delta.to(torch.bfloat16) * 0.7 if scaling == 0.7 else delta.to(torch.bfloat16)
        expected = layer.base_layer(x + added)
        assert torch.equal(layer(x), expected)
    assert tuned(input_ids=batch[0]).logits.dtype == torch.bfloat16


def test_dropout_is_on_the_adapters_input_in_training_only(tiny_model: Tiny) -> None:
    config = BottleneckConfig(placement="adapterp", adapter_dropout=0.5, task_type="CAUSAL_LM")
    tuned = get_peft_model(tiny_model(), config)
    layer = tuned.base_model.model.transformer.h[0].mlp.c_proj
    x = torch.randn(2, 3, 48)
    assert torch.equal(layer.eval()(x), layer(x))
    assert not torch.equal(layer.train()(x), layer(x))


def test_chatglm_layout_is_that_of_the_original_tables() -> None:
    block = ARCHITECTURES["chatglm"]
    found = {name: dict(PLACEMENTS[name].layers(block)) for name in ("adapterh", "parallel")}
    assert found == {
        "adapterh": {"mlp.dense_h_to_4h": "before", "mlp.dense_4h_to_h": "after"},
        "parallel": {"self_attention.query_key_value": "parallel"},
    }
