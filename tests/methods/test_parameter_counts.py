"""All 28 models of the study, counted on the meta device: by formula and in the real model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from peft import get_peft_model_state_dict  # noqa: E402
from transformers import AutoModelForCausalLM, GPTBigCodeConfig  # noqa: E402

from astraios import methods, registry  # noqa: E402
from astraios.methods import Shape  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

SIZES = ("starcoderbase-1b", "starcoderbase-3b", "starcoderbase-7b", "starcoderbase")
METHODS = ("fft", "lora", "ia3", "ptuning", "adapterh", "adapterp", "parallel")


@pytest.fixture(scope="module")
def counts(shared: Path) -> Any:
    return json.loads((shared / "oracle" / "parameter_counts.json").read_text())["models"]


@pytest.mark.parametrize("size", SIZES)
def test_formula_gives_the_recorded_counts(counts: Any, size: str) -> None:
    shape = Shape.from_config(GPTBigCodeConfig(**counts[size]["config"]))
    assert shape.n_parameters == counts[size]["base_parameters"]
    for name, expected in counts[size]["methods"].items():
        method = registry.load(methods, "method", name)
        assert method.n_trainable(shape) == expected["trainable"], name


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", METHODS)
def test_real_model_has_the_recorded_counts(counts: Any, size: str, name: str) -> None:
    expected = counts[size]["methods"][name]
    method = registry.load(methods, "method", name)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(GPTBigCodeConfig(**counts[size]["config"]))
        tuned = method.apply(base)
    weights = list(tuned.parameters())
    assert sum(w.numel() for w in weights if w.requires_grad) == expected["trainable"]
    assert sum(w.numel() for w in weights) == expected["all"]
    if name != "fft" and name != "ptuning":  # a prompt cannot be computed without weights
        saved = get_peft_model_state_dict(tuned, save_embedding_layers=False)
        assert sum(w.numel() for w in saved.values()) == expected["saved_in_adapter_file"]
