"""A base model of a few thousand weights, and the command that runs the study beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from astraios.training.config import Optimization, PretrainingConfig
from astraios.training.pretrain import pretrain


def pretrained(folder: Path, **optimization: object) -> None:
    """Leave the run of a tiny base model in `folder`; its model lies in `folder`/model."""
    plan = {"batch_size": 4, "learning_rate": 5e-3, **optimization}
    config = PretrainingConfig(
        name="tiny",
        hidden=16,
        n_layers=2,
        n_heads=2,
        vocabulary=400,
        n_tokenizer_documents=400,
        optimization=Optimization(**plan),
    )
    pretrain(config, folder)


def command(out: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "astraios", "study", "run", "study.yaml", "--out", out, *more]


def run(place: Path, out: str, *more: str, **how: object) -> subprocess.CompletedProcess[str]:
    made = command(out, *more)
    return subprocess.run(made, cwd=place, capture_output=True, text=True, timeout=600, **how)
