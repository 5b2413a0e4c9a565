"""The studies of docs/studies.md are sound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from astraios.config import parse_yaml
from astraios.studies.checks import check
from astraios.studies.plan import plan
from astraios.studies.study import Study, search_of

PAGE = (Path(__file__).parents[2] / "docs" / "studies.md").read_text()
FILE, SEARCH = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_study_of_the_page_is_sound() -> None:
    pytest.importorskip("peft", reason="needs peft: pip install 'astraios[train]'")
    read = parse_yaml(FILE, Study, source="studies.md")
    check(read)
    assert read.method_names == ("fft", "lora", "lora~wide", "peft-loha")
    assert len([job for job in plan(read, lacking={}) if job.is_trial]) == 4 * 5


def test_the_search_of_the_page_is_sound() -> None:
    grid = """
name: page
base_models: [a/one]
methods: [fft, lora, ia3]
tasks: [minipack-synthesize]
training: {optimization: {n_steps: 90, batch_size: 4}}
"""
    read = parse_yaml(grid + SEARCH, Study, source="studies.md")
    check(read)
    assert search_of(read, "a/one", "fft") is None
    ia3, lora = (search_of(read, "a/one", method) for method in ("ia3", "lora"))
    assert ia3 is not None and lora is not None
    assert (ia3.rates[0], ia3.rates[-1], lora.rates) == (0.01, 1.0, (0.0001, 0.0003, 0.001))
    halved = lora.model_copy(update={"how": "halving", "learning_rate": tuple(range(1, 10))})
    assert [(r.n_trials, r.n_steps) for r in halved.rungs(90)] == [(9, 30), (3, 90)]
