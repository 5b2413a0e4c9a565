"""The published Devign generations, graded whole: the original's numbers, and honest ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from astraios.errors import GenerationsError
from astraios.evaluation.grade import GradeResult, grade

TASKS = {"defect_detection": "devign", "defect_detection_oneshot": "devign-oneshot"}
FILES = [
    ("defect_detection", "1b-lora"),
    ("defect_detection", "7b-lora"),
    ("defect_detection", "15b-fft"),
    ("defect_detection_oneshot", "1b-lora"),
    ("defect_detection_oneshot", "7b-lora"),
]
SLICES = {"paper-sample": "sampled", "paper-all": "full"}
METRICS = {
    "accuracy": "accuracy",
    "f1-macro": "f1_macro",
    "f1-macro-two-class": "f1_macro_labels01",
    "valid-rate": "valid_rate",
    "accuracy-on-valid": "valid_accuracy",
    "f1-on-valid": "valid_f1",
}


def graded(shared: Path, folder: Path, category: str, model: str, task: str = "") -> GradeResult:
    path = shared / "data/published_generations" / category / f"{model}.json.gz"
    return grade(path, task or TASKS[category], data_dir=shared / "data", out=folder / "run")


@pytest.mark.parametrize(("category", "model"), FILES)
def test_published_file_has_the_numbers_of_the_original(
    shared: Path, tmp_path: Path, category: str, model: str
) -> None:
    result = graded(shared, tmp_path, category, model)
    oracle = json.loads((shared / "oracle/comprehension_scores.json").read_bytes())
    scores = json.loads(json.dumps(result.as_json()))["scores"]
    found = {(score["slice"], score["metric"]): score for score in scores}
    for slice_, part in SLICES.items():
        expected = oracle[category][model][part]
        for metric, name in METRICS.items():
            score = found[slice_, metric]
            assert 100 * score["value"] == pytest.approx(expected[name], abs=1e-6), metric
            assert score["low"] <= score["value"] <= score["high"]
        assert found[slice_, "accuracy"]["n_problems"] == expected["n"]
    assert result.n_faults == 0
    assert sum(result.outcomes.values()) == 2732


def test_scores_below_a_constant_guess_are_marked(shared: Path, tmp_path: Path) -> None:
    result = graded(shared, tmp_path, "defect_detection", "7b-lora")
    found = {(score.slice, score.metric): score for score in result.scores}
    accuracy = found["paper-sample", "accuracy"]
    assert accuracy.chance == found["paper-sample", "majority-baseline"].value == 0.5405
    assert accuracy.against_chance == "below"
    for metric in ("balanced-accuracy", "mcc"):
        assert found["paper-sample", metric].against_chance == "indistinguishable"


@pytest.mark.parametrize("name", ["devign", pytest.param("devign-oneshot", marks=pytest.mark.slow)])
def test_file_of_the_other_prompt_is_refused_by_name(
    shared: Path, tmp_path: Path, name: str
) -> None:
    category, other = next((c, t) for c, t in TASKS.items() if t != name)
    with pytest.raises(GenerationsError, match=f"prompts of {other}; did you mean that task"):
        graded(shared, tmp_path, category, "1b-lora", name)
    assert not (tmp_path / "run").exists()


def test_cut_file_is_refused(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/published_generations/defect_detection/1b-lora.json.gz"
    records = json.loads(gzip.decompress(path.read_bytes()))
    short = tmp_path / "short.json"
    short.write_text(json.dumps(records[:-1]))
    with pytest.raises(GenerationsError, match="2731 lists, but devign expects 2732"):
        grade(short, "devign", data_dir=shared / "data", out=tmp_path / "run")
