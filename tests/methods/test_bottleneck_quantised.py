"""Bottleneck adapters on quantised base layers, loaded as a user loads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training  # noqa: E402

from astraios.peft import BottleneckConfig, BottleneckLayer  # noqa: E402

pytestmark = [
    pytest.mark.train,
    # The libraries' own, about kernels that this machine has none of and calls of theirs.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

Tiny = Callable[..., Any]
SIZES = {"hidden_size": 64, "intermediate_size": 128}
LIBRARIES = {"8-bit": "bitsandbytes", "4-bit": "bitsandbytes", "int8": "torchao"}


def settings(kind: str) -> Any:
    from transformers import BitsAndBytesConfig, TorchAoConfig

    pytest.importorskip(LIBRARIES[kind], reason=f"{LIBRARIES[kind]} is not installed")
    if kind == "8-bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    if kind == "4-bit":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


@pytest.fixture(params=LIBRARIES)
def load(request: pytest.FixtureRequest, tiny_model: Tiny, tmp_path: Path) -> Callable[[], Any]:
    """Loads the quantised base again and again."""
    from transformers import AutoModelForCausalLM

    quantised = settings(request.param)
    folder = tmp_path / "base"
    tiny_model("llama", use_cache=False, **SIZES).save_pretrained(folder)
    return lambda: AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=quantised, device_map={"": "cpu"}
    )


def config(**fields: Any) -> BottleneckConfig:
    return BottleneckConfig(
        **{"bottleneck_size": 6, "init_weights": False, "task_type": "CAUSAL_LM", **fields}
    )


def logits(model: Any, ids_BT: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=ids_BT).logits


@pytest.mark.parametrize("placement", ["adapterh", "parallel", "parallel_mlp"])
def test_quantised_base_is_tuned(load: Any, batch: Any, placement: str) -> None:
    model = get_peft_model(
        prepare_model_for_kbit_training(load()), config(placement=placement)
    ).train()
    model(input_ids=batch[0], labels=batch[0]).loss.backward()
    trained = {name: w for name, w in model.named_parameters() if w.requires_grad}
    assert trained
    assert all(".adapter_" in name for name in trained)
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    for name, weight in trained.items():
        assert weight.grad.any(), name


def test_saved_from_a_quantised_base_and_loaded_on_one(
    load: Any, batch: Any, tmp_path: Path
) -> None:
    plain = logits(load(), batch[0])
    model = get_peft_model(load(), config()).eval()
    tuned = logits(model, batch[0])
    assert not torch.equal(tuned, plain)
    with model.disable_adapter():
        assert torch.equal(logits(model, batch[0]), plain)
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(load(), tmp_path / "adapter").eval()
    assert torch.equal(logits(loaded, batch[0]), tuned)


def test_widths_are_those_of_the_unpacked_layer(load: Any) -> None:
    model = get_peft_model(load(), config())
    widths = {
        (plan.inputs, plan.outputs)
        for layer in model.modules()
        if isinstance(layer, BottleneckLayer)
        for plan in layer.plans.values()
    }
    assert widths == {(64, 64)}  # each adapter of `adapterh` reads and joins the residual width
