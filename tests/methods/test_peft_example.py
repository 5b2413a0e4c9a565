"""The example for PEFT users runs, is short, and learns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

pytestmark = pytest.mark.train

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "peft_adapterh.py"


def test_example_is_under_forty_lines_and_learns() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 40
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=True)
    tuned, base = (float(loss) for loss in re.findall(r"loss ([\d.]+)", done.stdout))
    assert tuned < base - 1.0
