"""LoRA in fewer passes: what PEFT computes, and only where it is that."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from astraios.training._lora import _Fused, fused_lora

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def tuned(dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 100}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    base = LlamaForCausalLM(LlamaConfig(**sizes, **heads, use_cache=False, attention_bias=True))
    targets = ["q_proj", "v_proj", "down_proj"]
    values = {"target_modules": targets, "lora_alpha": 12, "init_lora_weights": False, **options}
    config = LoraConfig(r=4, task_type="CAUSAL_LM", **values)
    return get_peft_model(base.to(dtype), config).train()


def passed(model: Any) -> dict[str, Any]:
    """Loss and gradients of one pass, and how many layers were fused in it."""
    model.zero_grad()
    torch.manual_seed(3)  # of dropout
    ids = torch.arange(3 * 14).reshape(3, 14) * 7 % 100
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **grads}


def equal(model: Any, **bounds: float) -> None:
    expected = passed(model)
    with fused_lora(model) as n:
        assert n == 6
        found = passed(model)
    assert found.keys() == expected.keys() and len(found) == 13
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], **(bounds or {"rtol": 1e-4, "atol": 1e-6})
        )


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("rslora", [True, False])
def test_loss_and_gradients_are_pefts(dropout: float, rslora: bool) -> None:
    equal(tuned(lora_dropout=dropout, use_rslora=rslora))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_they_are_pefts_but_for_rounding(dtype: torch.dtype) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        equal(tuned(dtype), rtol=2e-2, atol=4e-3)


def test_activations_that_are_computed_again_fit() -> None:
    model = tuned(lora_dropout=0.2)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    equal(model)


def test_evaluation_is_pefts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("fused")

    monkeypatch.setattr(_Fused, "apply", never)
    model, ids = tuned(), torch.arange(10)[None]
    expected = model.eval()(input_ids=ids).logits
    with fused_lora(model):
        assert torch.equal(model(input_ids=ids).logits, expected)
        with model.disable_adapter():
            model.train()(input_ids=ids)
        with pytest.raises(AssertionError, match="fused"):
            model(input_ids=ids)
    model(input_ids=ids)


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"lora_bias": True, "init_lora_weights": True, "target_modules": ["q_proj"]},
        {"target_modules": ["embed_tokens"]},
    ],
)
def test_layers_that_are_more_are_left_to_peft(options: dict[str, Any]) -> None:
    with fused_lora(tuned(**options)) as n:
        assert n == 0


def test_layers_whose_base_is_trained_or_watched_are_left_to_peft() -> None:
    model = tuned()
    layers = [m for m in model.modules() if type(m).__name__ == "Linear" and hasattr(m, "lora_A")]
    layers[0].base_layer.weight.requires_grad_(True)
    layers[1].base_layer.register_forward_hook(lambda *_: None)
    with fused_lora(model) as n:
        assert n == 4
        nn.Module.zero_grad(model)
        assert layers[0].base_layer.weight.grad is None
        passed(model)
    assert layers[0].base_layer.weight.grad is not None
