"""The example of bottleneck adapters in TRL's trainer runs, and its adapter acts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")
pytest.importorskip("trl", reason="needs trl: pip install trl")

pytestmark = pytest.mark.train

EXAMPLE = Path(__file__).parents[2] / "examples" / "trl_bottleneck.py"


def run(*arguments: str) -> dict[str, float]:
    """The losses that the example tells."""
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return {name: float(loss) for name, loss in re.findall(r"(\w+): +loss ([\d.]+)", ran.stdout)}


@pytest.mark.slow
def test_the_adapter_learns_and_acts_once_loaded_and_not_when_switched_off() -> None:
    losses = run()
    assert losses["loaded"] == losses["trained"] < losses["base"] - 0.3


def test_it_takes_a_model_and_data_and_leaves_an_adapter(tmp_path: Path) -> None:
    sys.path.insert(0, str(EXAMPLE.parent))
    try:
        from trl_bottleneck import tiny
    finally:
        sys.path.remove(str(EXAMPLE.parent))
    for part in tiny():
        part.save_pretrained(tmp_path / "model")
    rows = [{"prompt": f"Question: {k}\n\nAnswer:", "completion": f" {k * k}"} for k in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    losses = run(
        *("--model", str(tmp_path / "model"), "--data", str(tmp_path / "rows.jsonl")),
        *("--to", str(tmp_path / "adapter"), "--steps", "8", "--rate", "0.02"),
    )
    assert losses["loaded"] == losses["trained"] < losses["base"]
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert saved["peft_type"] == "BOTTLENECK" and saved["placement"] == "adapterh"
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size > 0
