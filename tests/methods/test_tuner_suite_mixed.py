"""Bottleneck adapters and LoRA in one model, through PEFT's `PeftMixedModel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from peft import LoraConfig, PeftMixedModel, get_peft_model  # noqa: E402

from astraios.errors import MethodError  # noqa: E402
from astraios.peft import BottleneckConfig, BottleneckLayer  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

Tiny = Callable[..., Any]
ARCHITECTURES = {"gpt_bigcode": "c_fc", "llama": "up_proj", "opt": "fc1", "starcoder2": "c_fc"}


def bottleneck(**fields: Any) -> BottleneckConfig:
    return BottleneckConfig(**{"bottleneck_size": 4, "init_weights": False, **fields})


def lora(target: str) -> LoraConfig:
    return LoraConfig(r=4, target_modules=[target], init_lora_weights=False)


def logits(model: Any, ids_BT: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=ids_BT).logits


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["bottleneck", "low_rank"])
def model(request: pytest.FixtureRequest, architecture: str, tiny_model: Tiny) -> Any:
    """Both kinds on one layer; the parameter says which came first."""
    configs = {"bottleneck": bottleneck(), "low_rank": lora(ARCHITECTURES[architecture])}
    first = str(request.param)
    torch.manual_seed(1)
    mixed = get_peft_model(tiny_model(architecture), configs.pop(first), first, mixed=True)
    for name, config in configs.items():
        mixed.add_adapter(name, config)
    return mixed.eval()


def test_each_alone_is_what_it_is_in_a_model_of_its_own(
    model: Any, architecture: str, tiny_model: Tiny, batch: Any
) -> None:
    configs = {"bottleneck": bottleneck(), "low_rank": lora(ARCHITECTURES[architecture])}
    assert isinstance(model, PeftMixedModel)
    for name, config in configs.items():
        model.set_adapter(name)
        alone = get_peft_model(tiny_model(architecture), config, name).eval()
        weights = {
            key.replace(".base_layer", ""): value
            for key, value in model.named_parameters()
            if f".{name}" in key
        }
        with torch.no_grad():
            for key, weight in alone.named_parameters():
                if f".{name}" in key:
                    weight.copy_(weights[key])
        torch.testing.assert_close(logits(model, batch[0]), logits(alone, batch[0]))


def test_both_together_differ_and_off_is_the_base(
    model: Any, architecture: str, tiny_model: Tiny, batch: Any
) -> None:
    outputs = []
    for active in (["bottleneck", "low_rank"], ["bottleneck"], ["low_rank"]):
        model.set_adapter(active)
        outputs.append(logits(model, batch[0]))
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    base = logits(tiny_model(architecture), batch[0])
    with model.disable_adapter():
        assert torch.equal(logits(model, batch[0]), base)
    assert torch.equal(logits(model.unload(), batch[0]), base)


def test_both_are_trained(model: Any, batch: Any) -> None:
    model.set_adapter(["bottleneck", "low_rank"])
    model.train()(input_ids=batch[0], labels=batch[0]).loss.backward()
    found = {name: w.grad for name, w in model.named_parameters() if w.requires_grad}
    assert any("lora_A" in name for name in found)
    assert any("adapter_up" in name for name in found)
    assert all(gradient.any() for gradient in found.values())


def test_one_is_deleted_the_other_stays(model: Any, batch: Any) -> None:
    model.set_adapter("low_rank")
    expected = logits(model, batch[0])
    model.set_adapter(["bottleneck", "low_rank"])
    model.delete_adapter("bottleneck")
    assert model.active_adapters == ["low_rank"]
    torch.testing.assert_close(logits(model, batch[0]), expected)


@pytest.mark.parametrize("call", ["merge_adapter", "merge_and_unload"])
def test_merging_is_refused_before_any_layer_is_merged(model: Any, batch: Any, call: str) -> None:
    model.set_adapter(["bottleneck", "low_rank"])
    before = logits(model, batch[0])
    with pytest.raises(MethodError, match="not linear"):
        getattr(model, call)()
    assert torch.equal(logits(model, batch[0]), before)


@pytest.mark.parametrize("first", ["bottleneck", "low_rank"])
def test_the_later_adapter_is_the_outer_one(first: str, tiny_model: Tiny) -> None:
    configs = {"bottleneck": bottleneck(placement="adapterh"), "low_rank": lora("c_fc")}
    mixed = get_peft_model(tiny_model(), configs.pop(first), first, mixed=True)
    (second, config), *_ = configs.items()
    mixed.add_adapter(second, config)
    outer = mixed.base_model.model.transformer.h[0].mlp.c_fc
    assert isinstance(outer, BottleneckLayer) == (second == "bottleneck")
    mixed.eval().set_adapter(["bottleneck", "low_rank"])
    adapter, low_rank = (
        (outer, outer.base_layer) if second == "bottleneck" else (outer.base_layer, outer)
    )
    x = torch.randn(2, 3, 32)
    down, up = adapter.adapter_down["bottleneck"], adapter.adapter_up["bottleneck"]
    moved = x + up(torch.tanh(down(x)))  # c_fc has the adapter before it
    seen = moved if second == "bottleneck" else x  # by LoRA
    part = (
        low_rank.lora_B["low_rank"](low_rank.lora_A["low_rank"](seen))
        * low_rank.scaling["low_rank"]
    )
    plain = adapter.get_base_layer() if first == "bottleneck" else low_rank.get_base_layer()
    torch.testing.assert_close(outer(x), plain(moved) + part)


def test_target_that_is_not_linear_leaves_the_mixed_model_as_it_was(
    tiny_model: Tiny, batch: Any
) -> None:
    mixed = get_peft_model(tiny_model(), lora("c_fc"), mixed=True).eval()
    before = logits(mixed, batch[0])
    with pytest.raises(MethodError, match="linear layers only"):
        mixed.add_adapter("other", bottleneck(target_modules=["c_fc", "ln_1"]))
    assert not any(isinstance(module, BottleneckLayer) for module in mixed.modules())
    assert torch.equal(logits(mixed, batch[0]), before)


def test_half_precision_adapter_in_a_mixed_model(tiny_model: Tiny, batch: Any) -> None:
    base = tiny_model().to(torch.bfloat16)
    mixed = get_peft_model(base, lora("c_attn"), mixed=True)
    mixed.add_adapter("other", bottleneck(adapter_dtype="bfloat16"))
    mixed.add_adapter("master", bottleneck())
    found = {
        name.rsplit(".", 2)[1]: weight.dtype
        for name, weight in mixed.named_parameters()
        if ".adapter_" in name
    }
    assert found == {"other": torch.bfloat16, "master": torch.float32}
