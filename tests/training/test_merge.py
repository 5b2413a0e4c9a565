"""Adapters folded into their base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")

import torch

from astraios import methods
from astraios.errors import MethodError, MissingDataError, RunError
from astraios.training.base import load_base
from astraios.training.config import Optimization, PretrainingConfig, TrainingConfig
from astraios.training.merge import merge
from astraios.training.pretrain import MODEL, pretrain
from astraios.training.tune import ADAPTER, tune

pytestmark = pytest.mark.train
OPTIMIZATION = Optimization(n_steps=6, batch_size=4, learning_rate=2e-2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    config = PretrainingConfig(
        name="tiny",
        hidden=32,
        n_layers=2,
        n_heads=2,
        vocabulary=400,
        n_tokenizer_documents=400,
        optimization=OPTIMIZATION,
    )
    pretrain(config, folder)
    return folder / MODEL


@pytest.fixture
def adapter(request: Any, base: Path, tmp_path: Path) -> Path:
    config = TrainingConfig(
        base_model="tiny",
        method=request.param,
        layout="bucketed",
        n_examples=40,
        n_validation=8,
        optimization=OPTIMIZATION,
    )
    tune(config, tmp_path / "run", base=base)
    return tmp_path / "run" / ADAPTER


@pytest.mark.parametrize(
    "adapter", ["lora", "ia3", "dora", "pissa", "bitfit", "peft-lokr"], indirect=True
)
def test_the_merged_model_is_a_checkpoint_of_the_tuned_one(
    adapter: Path, base: Path, tmp_path: Path
) -> None:
    told = merge(adapter, base, tmp_path / "merged")
    assert told.largest_difference < 1e-4
    ids_1T = torch.arange(40)[None]
    tuned = methods.method_of(adapter).load(load_base(base)[0], adapter)
    merged, tokenizer = load_base(tmp_path / "merged")
    with torch.no_grad():
        expected, found = tuned(input_ids=ids_1T).logits, merged(input_ids=ids_1T).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert tokenizer.eos_token_id is not None


@pytest.mark.parametrize("adapter", ["adapterp", "ptuning"], indirect=True)
def test_what_cannot_be_merged_is_refused_and_nothing_is_written(
    adapter: Path, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(MethodError, match="cannot be merged"):
        merge(adapter, base, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("adapter", ["lora"], indirect=True)
def test_a_full_folder_and_a_missing_adapter_are_told(
    adapter: Path, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="is not empty"):
        merge(adapter, base, tmp_path)
    with pytest.raises(MissingDataError, match="does not exist"):
        merge(tmp_path / "nowhere", base, tmp_path / "merged")


def test_a_whole_model_is_not_merged(base: Path, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="a whole model already"):
        merge(base, base, tmp_path / "merged")
