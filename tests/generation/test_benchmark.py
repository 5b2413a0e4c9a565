"""The benchmark of generation runs: every part, with few prompts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("peft", reason="needs peft: pip install 'astraios[train]'")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "generation.py"


@pytest.mark.slow
@pytest.mark.train
def test_every_part_tells_what_it_measures():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--smoke", "--json"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["greedy lengths that differ"] == []
    assert {row["way"] for row in found["speed"]} == {
        "one at a time",
        "20 of a prompt",
        "ours, greedy",
        "ours, 20 each",
    }
    assert [row["samples"] for row in found["linear"]] == [40, 80, 160]
    assert all(row["peak MiB"] <= row["budget MiB"] for row in found["memory"])
    assert [row["devices"] for row in found["workers"]] == ["cpu", "cpu,cpu"]
    assert all(row["differing"] == 0 for row in found["mixed"])
    assert len(found["compile"]) == 2
    assert 0 < found["limit"][0]["fraction"] < 1
