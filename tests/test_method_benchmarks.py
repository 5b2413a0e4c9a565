"""The benchmark of methods runs: its arms, its counts and its verdict, on a row of few tokens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("peft", reason="needs peft: pip install 'astraios[train]'")

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "methods.py"


@pytest.mark.slow
@pytest.mark.train
def test_formulas_count_what_pytorch_counts() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--rounds", "2", "--tokens", "64"],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    named = {cells[0].strip(): cells for cells in rows[2:]}
    assert {"base", "fft", "lora", "ptuning", "ia3", "adapterh", "adapterp", "parallel"} <= set(
        named
    )
    for name, cells in named.items():
        assert float(cells[5]) == pytest.approx(1.0, abs=0.01), name
    assert "of lora r=" in named["adapterh"][7]
