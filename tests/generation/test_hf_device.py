"""Where a model runs if nothing is said."""

from __future__ import annotations

import pytest

from astraios.errors import ConfigError
from astraios.generation.engines.hf import HFEngine

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.train


def test_auto_is_a_gpu_only_where_there_is_one(model, tokenizer, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert HFEngine(model, tokenizer, device="auto").environment()["device"] == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if not torch.cuda.device_count():
        with pytest.raises(ConfigError, match="device 'cuda' cannot be used"):
            HFEngine(model, tokenizer, device="auto")
