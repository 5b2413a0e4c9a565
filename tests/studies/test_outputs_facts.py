"""Parameters of the paper's models, which nobody trained here, by formula."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from astraios import published
from astraios.studies.outputs.facts import arm_facts

TABLE = {
    "lora": (3_588_096, 7_372_800, 12_472_320, 17_776_640),
    "ia3": (251_904, 516_096, 870_912, 1_239_040),
    "ptuning": (12_650_496, 23_882_496, 50_466_816, 113_448_960),
    "adapterh": (50_331_648, 103_809_024, 176_160_768, 251_658_240),
    "adapterp": (25_165_824, 51_904_512, 88_080_384, 125_829_120),
    "parallel": (26_738_688, 54_263_808, 90_832_896, 128_450_560),
    "fft": (1_137_207_296, 3_043_311_104, 7_327_263_232, 15_517_456_384),
}
"""Trained parameters of the study's models, counted in the models themselves."""


def test_formulas_give_the_counts_of_all_28_models() -> None:
    facts = {(f.model, f.method): f for f in arm_facts(published.MODELS.values())}
    assert len(facts) == 28
    names = [size.base_model.rpartition("/")[2] for size in published.SIZES]
    for method, counts in TABLE.items():
        for name, size, count in zip(names, published.SIZES, counts, strict=True):
            fact = facts[name, method]
            assert fact.trainable_parameters == count, (name, method)
            assert fact.total_parameters == size.n_parameters


@pytest.mark.parametrize("size", ["starcoderbase-1b", "starcoderbase"])
def test_counts_are_those_of_the_oracle(shared: Path, size: str) -> None:
    models = json.loads((shared / "oracle/parameter_counts.json").read_bytes())["models"]
    counted = {name: entry["trainable"] for name, entry in models[size]["methods"].items()}
    facts = {f.method: f for f in arm_facts(published.MODELS.values()) if f.model == size}
    assert {name: facts[name].trainable_parameters for name in counted} == counted
