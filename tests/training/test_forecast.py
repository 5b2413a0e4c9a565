"""Memory, sizes and operations by shape, beside what the real model takes."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM  # noqa: E402

from astraios import methods, published  # noqa: E402
from astraios.data import Row  # noqa: E402
from astraios.studies.shapes import shape_of  # noqa: E402
from astraios.training.config import TrainingConfig  # noqa: E402
from astraios.training.forecast import forecast  # noqa: E402
from astraios.training.memory import estimate  # noqa: E402

T, VOCABULARY = 192, 512


def shape() -> GPTBigCodeConfig:
    return GPTBigCodeConfig(
        n_embd=96, n_layer=4, n_head=4, n_inner=384, n_positions=256, vocab_size=VOCABULARY,
        multi_query=True, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip


def config(method: str, **more: Any) -> TrainingConfig:
    plan = {"n_steps": 10, "batch_size": 4, "rows_per_device": 4, "learning_rate": 1e-3}
    options = {"bottleneck_size": 32} if method == "adapterh" else {}
    return TrainingConfig.model_validate(
        {
            "base_model": "x",
            "method": method,
            "method_options": options,
            "optimization": plan,
            "block_length": T,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("method", "checkpointing"), [("fft", False), ("lora", False), ("adapterh", True)]
)
def test_a_forecast_is_near_what_the_real_model_is_counted_to_take(
    method: str, checkpointing: bool
) -> None:
    wanted = config(method, gradient_checkpointing=checkpointing)
    tuned = methods.method(method).apply(GPTBigCodeForCausalLM(shape()), wanted.method_options)
    ids = [[(place * 7 + row) % VOCABULARY for place in range(T)] for row in range(4)]
    rows = [Row(one, one, list(range(T))) for one in ids]
    counted = estimate(tuned, rows, wanted, n_parts=1)
    found = forecast(wanted, shape(), row_tokens=T, gpu=False)
    parameters = list(tuned.parameters())
    assert found.total_parameters == sum(p.numel() for p in parameters)
    assert found.trainable_parameters == sum(p.numel() for p in parameters if p.requires_grad)
    assert found.weights_mib == pytest.approx(counted.weights_mib)
    assert found.gradients_mib == pytest.approx(counted.gradients_mib)
    assert found.optimizer_mib == pytest.approx(counted.optimizer_mib)
    assert 0.75 < found.estimate_mib / counted.estimate_mib < 1.35  # +29 % with checkpointing


def test_sizes_of_the_paper_are_known_without_the_hub() -> None:
    for size in published.SIZES:
        found = shape_of(size.base_model)
        assert found is not None
        assert methods.Shape.from_config(found[0]).n_parameters == size.n_parameters


def test_precision_and_size_of_weights_go_together() -> None:
    def weights(method: str, precision: str) -> float:
        wanted = config(method, base_precision=precision, compute_precision="bf16")
        return forecast(wanted, shape(), row_tokens=T, gpu=True).weights_mib

    full = weights("lora", "fp32")
    assert weights("fft", "bf16") == pytest.approx(weights("fft", "fp32"))  # masters in fp32
    assert full > weights("lora", "bf16") > weights("lora", "int8") > weights("lora", "nf4")


def test_operations_are_six_a_parameter_and_more_where_activations_are_computed_again() -> None:
    n = methods.Shape.from_config(shape()).n_parameters - 256 * 96  # positions multiply nothing
    plain = forecast(config("fft"), shape(), row_tokens=8, gpu=True).flops_per_token
    again = forecast(config("fft", gradient_checkpointing=True), shape(), row_tokens=8, gpu=True)
    assert plain == pytest.approx(6 * n, rel=0.05)
    assert 1.15 * plain < again.flops_per_token < 8 * n  # the head is not computed again
