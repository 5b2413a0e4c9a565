"""What single presets promise beyond the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from astraios import methods  # noqa: E402
from astraios.errors import MethodError  # noqa: E402
from astraios.methods import Shape  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

Tiny = Callable[..., Any]


def logits(model: Any, ids_BT: Any) -> Any:
    with torch.no_grad():
        return model.eval()(input_ids=ids_BT).logits[:, -ids_BT.shape[1] :]


def steps(name: str, model: Any, ids_BT: Any, n: int, rate: float = 1e-2) -> list[float]:
    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    losses = []
    for step in range(n):
        loss = model(input_ids=ids_BT, labels=ids_BT).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        methods.method(name).after_step(model, step + 1)
    return losses


def test_pissa_starts_as_the_base_and_keeps_the_sum(tiny_model: Tiny, batch: Any) -> None:
    ids_BT = batch[0][:, 4:]
    base = tiny_model()
    weight = base.transformer.h[0].mlp.c_proj.weight.detach().clone()
    tuned = methods.method("pissa").apply(base, {"r": 8, "lora_alpha": 8})
    torch.testing.assert_close(
        logits(tuned, ids_BT), logits(tiny_model(), ids_BT), atol=1e-5, rtol=0
    )
    layer = tuned.get_base_model().transformer.h[0].mlp.c_proj
    rest, part = layer.base_layer.weight, layer.get_delta_weight("default")
    torch.testing.assert_close(rest + part, weight, atol=1e-6, rtol=0)
    assert part.norm() > rest.norm() / 2  # the largest directions


def test_rslora_scales_by_the_root_of_the_rank(tiny_model: Tiny) -> None:
    tuned = methods.method("rslora").apply(tiny_model(), {"r": 16, "lora_alpha": 8})
    layer = tuned.get_base_model().transformer.h[0].mlp.c_proj
    assert layer.scaling["default"] == pytest.approx(8 / 16**0.5)


def test_dora_starts_as_the_base(tiny_model: Tiny, batch: Any) -> None:
    ids_BT = batch[0][:, 4:]
    tuned = methods.method("dora").apply(tiny_model(), {"lora_dropout": 0.0})
    torch.testing.assert_close(
        logits(tuned, ids_BT), logits(tiny_model(), ids_BT), atol=1e-5, rtol=0
    )


def test_adalora_needs_the_length_of_the_training_and_takes_ranks_away(
    tiny_model: Tiny, batch: Any, tmp_path: Path
) -> None:
    method, ids_BT = methods.method("adalora"), batch[0][:, 4:]
    with pytest.raises(MethodError, match="total_step"):
        method.apply(tiny_model())
    options = {"init_r": 6, "target_r": 1, "tinit": 2, "tfinal": 2, "deltaT": 1}
    assert method.options_for(options, 12) == {"total_step": 12, **options}
    tuned = method.apply(tiny_model(), method.options_for(options, 12))
    steps("adalora", tuned, ids_BT, 12)
    layers = [m for m in tuned.modules() if hasattr(m, "lora_E") and len(m.lora_E)]
    left = sum(int((layer.lora_E["default"] != 0).sum()) for layer in layers)
    assert left == len(layers)
    method.save(tuned, tmp_path / "adapter")
    loaded = method.load(tiny_model(), tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded, ids_BT), logits(tuned, ids_BT), atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ["gpt_bigcode", "llama", "starcoder2", "opt"])
def test_prefix_follows_the_width_of_the_keys(
    architecture: str, tiny_model: Tiny, batch: Any
) -> None:
    method, ids_BT = methods.method("prefix"), batch[0][:, 4:]
    base = tiny_model(architecture)
    shape = Shape.from_model(base)
    tuned = method.apply(base)
    assert sum(w.numel() for w in tuned.parameters() if w.requires_grad) == method.n_trainable(
        shape
    )
    losses = steps("prefix", tuned, ids_BT, 10, 0.3)
    assert losses[-1] < losses[0]


def test_bitfit_trains_and_saves_the_biases_alone(
    tiny_model: Tiny, batch: Any, tmp_path: Path
) -> None:
    method, ids_BT = methods.method("bitfit"), batch[0][:, 4:]
    tuned = method.apply(tiny_model())
    assert all(name.endswith(".bias") == w.requires_grad for name, w in tuned.named_parameters())
    steps("bitfit", tuned, ids_BT, 5)
    method.save(tuned, tmp_path / "tuned")
    assert {path.name for path in (tmp_path / "tuned").iterdir()} == {
        "biases.safetensors",
        "astraios.json",
    }
    with pytest.raises(MethodError, match="for a base model"):
        method.load(tiny_model("opt"), tmp_path / "tuned")
    other = tiny_model()
    torch.nn.init.normal_(other.get_input_embeddings().weight)
    with pytest.raises(MethodError, match="other weights"):
        method.load(other, tmp_path / "tuned")


# --- QLoRA ------------------------------------------------------------------------------------


@pytest.fixture
def four_bits(tiny_model: Tiny, tmp_path: Path) -> Callable[[], Any]:
    """Makes the same base in four bits again and again."""
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install 'astraios[quant]'")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    folder = tmp_path / "base"
    tiny_model("llama", hidden_size=64, intermediate_size=128).save_pretrained(folder)
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")

    def load() -> Any:
        model = AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=settings, device_map={"": "cpu"}
        )
        for module in model.modules():  # its layout for inference cannot be trained with
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        return model

    return load


def test_qlora_refuses_a_base_in_full_precision(tiny_model: Tiny) -> None:
    with pytest.raises(MethodError, match="set base_precision: nf4"):
        methods.method("qlora").apply(tiny_model())


def test_qlora_keeps_the_contract(
    four_bits: Callable[[], Any], tiny_model: Tiny, batch: Any, tmp_path: Path
) -> None:
    method, ids_BT = methods.method("qlora"), batch[0][:, 4:]
    options = {"r": 4, "lora_dropout": 0.0}
    plain = tiny_model("llama", hidden_size=64, intermediate_size=128)
    tuned = method.apply(four_bits(), options)
    trained = {name: w for name, w in tuned.named_parameters() if w.requires_grad}
    assert all(".lora_" in name for name in trained)
    count = sum(weight.numel() for weight in trained.values())
    assert count == method.n_trainable(Shape.from_model(plain), options)
    losses = steps("qlora", tuned, ids_BT, 20)
    assert losses[-1] < losses[0] - 0.05
    assert all(weight.grad is not None and weight.grad.any() for weight in trained.values())
    method.save(tuned, tmp_path / "adapter")
    loaded = method.load(four_bits(), tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded, ids_BT), logits(tuned, ids_BT), atol=1e-5, rtol=0)
    with tuned.disable_adapter():
        torch.testing.assert_close(
            logits(tuned, ids_BT), logits(four_bits(), ids_BT), atol=1e-6, rtol=0
        )
    method.load(plain, tmp_path / "adapter")  # what was tuned goes on the whole base, too
