"""What a training will be is told before it begins, and holds."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

from astraios.files import read_json
from astraios.records import Cost
from astraios.training.config import Optimization, PretrainingConfig, TrainingConfig
from astraios.training.outlook import outlook
from astraios.training.pretrain import MODEL, pretrain
from astraios.training.tune import tune

pytestmark = pytest.mark.train
OPTIMIZATION = Optimization(n_steps=8, batch_size=8, rows_per_device=4, learning_rate=1e-3)


@pytest.mark.parametrize("method", ["fft", "lora", "adapterh", "ptuning", "adalora"])
def test_sizes_are_those_of_the_training(method: str, tmp_path: Path) -> None:
    base = PretrainingConfig(
        name="tiny",
        hidden=32,
        n_layers=2,
        n_heads=2,
        vocabulary=400,
        n_tokenizer_documents=400,
        optimization=OPTIMIZATION,
    )
    pretrain(base, tmp_path / "base")
    config = TrainingConfig(
        base_model="tiny",
        method=method,
        n_examples=40,
        n_validation=8,
        optimization=OPTIMIZATION,
    )
    found = outlook(config, tmp_path / "base" / MODEL)
    assert (found.rows_per_device, found.accumulation, found.n_steps) == (4, 2, 8)
    assert found.estimate_mib == pytest.approx(
        found.weights_mib + found.gradients_mib + found.optimizer_mib + found.activations_mib
    )
    assert found.seconds > 0
    assert found.activations_mib > 0
    tune(config, tmp_path / "run", base=tmp_path / "base" / MODEL)
    cost = read_json(tmp_path / "run" / "cost.json", Cost)
    assert found.n_tokens == cost.n_tokens
    assert found.trainable_parameters == cost.trainable_parameters
    assert found.total_parameters == cost.total_parameters
    assert found.gradients_mib == pytest.approx(cost.gradient_mib)
    assert found.optimizer_mib == pytest.approx(cost.optimizer_mib, rel=0.01, abs=0.01)
