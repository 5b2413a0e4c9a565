"""What every test of training may count on."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

MakeBase = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def libraries_set_aside() -> None:
    """Every start of a training collects garbage; what the libraries hold is none, and is much."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> MakeBase:
    """Makes a tiny GPTBigCode with its tokenizer, hardly pretrained, in a folder of its own."""
    from astraios.training.config import Optimization, PretrainingConfig
    from astraios.training.pretrain import MODEL, pretrain

    def make(hidden: int = 16, folder: str = "base") -> Path:
        root = tmp_path_factory.mktemp(folder)
        config = PretrainingConfig(
            name="tiny",
            hidden=hidden,
            n_layers=2,
            n_heads=2,
            vocabulary=400,
            n_tokenizer_documents=400,
            optimization=Optimization(n_steps=6, batch_size=4, learning_rate=5e-3),
        )
        pretrain(config, root / "run")
        return root / "run" / MODEL

    return make


@pytest.fixture(scope="session")
def base(make_base: MakeBase) -> Path:
    """One such base, which no test changes."""
    return make_base()
