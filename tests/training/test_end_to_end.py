"""From instruction files to seven tuned models, by the commands a user types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")
pytest.importorskip("rensa", reason="needs rensa: pip install 'astraios[data]'")

import torch
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM, Qwen2Config, Qwen2ForCausalLM
from typer.testing import CliRunner

from astraios import methods
from astraios.cli import app
from astraios.data.rowfiles import file_rows
from astraios.files import read_records
from astraios.records import Step
from astraios.training.base import load_base
from astraios.training.pretrain import make_tokenizer

pytestmark = pytest.mark.train

METHODS = ("adapterh", "adapterp", "fft", "ia3", "lora", "parallel", "ptuning")
N_POSITIONS = 320
BLOCK = 256

BUILD = """
name: instructions
sources:
  - kind: instructions
    data: {file}
validation: 40
"""
RECIPE = """
base_model: {base}
method: {method}
corpus: {corpus}
template: question_answer
block_length: {block}
too_long: split
n_validation: 12
optimization: {{n_steps: 4, batch_size: 4, rows_per_device: 2, learning_rate: 1.0e-3, log_every: 1,
  validate_every: 2, save_every: 2}}
"""


def command(*words: Any) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def corpus(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `astraios data build` makes of the shared instructions."""
    root = tmp_path_factory.mktemp("corpus")
    config = root / "build.yaml"
    config.write_text(BUILD.format(file=shared / "data/instructions/train.jsonl.gz"))
    out = ("--out", root / "runs", "--data-dir", shared / "data")
    return Path(command("data", "build", config, *out)["run"])


@pytest.fixture(scope="module", params=["gpt_bigcode", "qwen2"])
def base(
    request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tiny model with random weights and a tokenizer made from the instructions."""
    rows = (row for _, row in file_rows(shared / "data/instructions/train.jsonl.gz").read())
    tokenizer = make_tokenizer((row["prompt"] + row["completion"] for row in rows), 1_000)
    torch.manual_seed(0)
    shape = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    if request.param == "gpt_bigcode":
        model: Any = GPTBigCodeForCausalLM(
            GPTBigCodeConfig(n_positions=N_POSITIONS, n_embd=32, n_layer=2, n_head=4, **shape)
        )
    else:
        model = Qwen2ForCausalLM(
            Qwen2Config(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=N_POSITIONS,
                **shape,
            )
        )
    folder = tmp_path_factory.mktemp("base") / str(request.param)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_every_method_trains_on_built_data(base: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    for method in METHODS:
        recipe = tmp_path / f"{method}.yaml"
        recipe.write_text(RECIPE.format(base=base, method=method, corpus=corpus, block=BLOCK))
        run = Path(command("train", recipe, "--out", out)["run"])
        steps = list(read_records(run / "metrics.jsonl", Step))
        validated = [s.validation_loss for s in steps if s.validation_loss is not None]
        assert [s.step for s in steps if s.loss is not None] == [1, 2, 3, 4]
        assert len(validated) == 3 and validated[-1] < validated[0]
        model, _ = load_base(base)
        methods.method(method).load(model, run / "adapter")
        assert str(tmp_path) not in (run / "adapter" / "README.md").read_text()
    packed = [folder for folder in out.iterdir() if folder.name.startswith("data-")]
    assert len(packed) == 1, "all methods share one packed corpus"
