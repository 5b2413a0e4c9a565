"""The published outputs, imported: all numbers as others found them in the same files."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from astraios.errors import MissingToolError
from astraios.evaluation.judge import judge_config
from astraios.records import Outcome, Score, Verdict
from astraios.runs import read_run
from astraios.studies.outputs import Request, Result, carry_out, check, plan, wanted
from astraios.tasks import task as task_named

PLAIN = {
    "synthesize-python": "humanevalsynthesize-python",
    "fix-python": "humanevalfixtests-python",
    "explain-python": "humanevalexplainsynthesize-python",
    "defect-zero-shot": "devign",
    "defect-one-shot": "devign-oneshot",
    "recode-format": "recode-format",
}
METRICS = {
    "pass@1": ("pass@1", "all"),
    "accuracy": ("accuracy", "paper-sample"),
    "macro-f1-incl-invalid": ("f1-macro", "paper-sample"),
    "valid-rate": ("valid-rate", "paper-sample"),
    "accuracy-on-valid": ("accuracy-on-valid", "paper-sample"),
    "robust-pass-mean-of-transformations": ("robust-pass@1", "mean"),
    "robust-pass-worst-of-all": ("robust-pass@1", "worst-case"),
}
EXACT = ("devign", "devign-oneshot")
ROUNDED = 0.005
"""The numbers have two decimals."""


@contextmanager
def silent(label: str, unit: str) -> Iterator[Any]:
    yield lambda done, total, note: None


def request(shared: Path, out: Path, **settings: Any) -> Request:
    names = settings.pop("tasks", ())
    models = settings.pop("models", ())
    return Request(
        outputs=shared / "data/published_generations",
        out=out,
        wanted=wanted(names, models),
        data_dir=shared / "data",
        sandbox="best",
        **settings,
    )


def found(results: list[Result]) -> dict[tuple[str, str, str], dict[tuple[str, str], Score]]:
    return {
        (result.cell.plain, result.cell.model.size, result.cell.model.method): {
            (score.metric, score.slice): score for score in result.graded.scores
        }
        for result in results
        if result.graded is not None
    }


def test_every_shared_file_belongs_to_a_cell(shared: Path, tmp_path: Path) -> None:
    tree = plan(request(shared, tmp_path)).tree
    files = sorted((shared / "data/published_generations").rglob("*.json.gz"))
    assert sorted(path for cell in tree.cells for path in cell.files) == files
    assert not tree.unrecognised


def test_first_problems_of_real_files(shared: Path, tmp_path: Path) -> None:
    planned = plan(
        request(
            shared,
            tmp_path,
            tasks=(*EXACT, "recode-syntax", PLAIN["fix-python"]),
            models=("astraios-1b-lora",),
            limit_problems=2,
            limit_samples=2,
        )
    )
    results = list(carry_out(planned, bars=silent))
    assert [(r.cell.plain, r.state) for r in results] == [
        ("devign", "judged"),
        ("devign-oneshot", "judged"),
        ("humanevalfixtests-python", "judged"),
        ("recode-syntax", "judged"),
    ]
    versions = {
        read_run(r.graded.run).manifest.config["task_version"].split("-")[0]
        for r in results
        if r.graded
    }
    assert versions == {"original", "seeds"}
    [fix] = [r for r in results if r.cell.plain == PLAIN["fix-python"]]
    assert fix.graded is not None
    assert sum(fix.graded.outcomes.values()) == 4


def test_swapped_file_is_noticed(shared: Path, tmp_path: Path) -> None:
    """A file of ReCode under the name of another of its tasks."""
    source = shared / "data/published_generations/recode_natgen/1b-lora.json.gz"
    swapped = tmp_path / "outputs/recode_format/1b-lora.json.gz"
    swapped.parent.mkdir(parents=True)
    swapped.write_bytes(source.read_bytes())
    planned = plan(
        Request(tmp_path / "outputs", tmp_path / "out", wanted(), data_dir=shared / "data")
    )
    [result] = check(planned, bars=silent)
    assert result.state == "failed"
    assert "2460 lists" in result.error


@pytest.fixture(scope="module")
def judged(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """All files but those of Java, judged whole."""
    names = [*PLAIN.values(), "recode-function", "recode-syntax"]
    try:
        judge_config(task_named("aatk"))
        names.append("aatk")
    except MissingToolError:
        pass
    out = tmp_path_factory.mktemp("published")
    results = list(carry_out(plan(request(shared, out, tasks=names)), bars=silent))
    assert {result.state for result in results} == {"judged"}, [r.error for r in results]
    return results


@pytest.mark.slow
def test_all_files_have_the_published_numbers(shared: Path, judged: list[Result]) -> None:
    scores = found(judged)
    n = 0
    with (shared / "reference/published_numbers.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            size = "16b" if row["size"] == "15b" else row["size"]
            cell = scores.get((PLAIN.get(row["task"], ""), size, row["method"]))
            metric = row["metric"]
            key = METRICS.get(metric, ("robust-pass@1", metric.partition(":")[2]))
            if cell is None or key[1] == "" or row["note"]:
                continue
            value = cell[key].value
            assert value is not None
            exact = ROUNDED if PLAIN[row["task"]] in EXACT else 0.3
            assert 100 * value == pytest.approx(float(row["value"]), abs=exact + 1e-9), row
            n += 1
    assert n > 50


@pytest.mark.slow
def test_all_files_have_the_oracles_counts(shared: Path, judged: list[Result]) -> None:
    oracle = {
        name: json.loads((shared / f"oracle/{name}_scores.json").read_bytes())
        for name in ("execution", "comprehension", "recode", "aatk")
    }
    runs = [(r.cell, r.graded) for r in judged if r.graded is not None]
    for cell, graded in runs:
        size = "15b" if cell.model.size == "16b" else cell.model.size
        arm = f"{size}-{cell.model.method}"
        values = {(score.metric, score.slice): score.value for score in graded.scores}
        if cell.plain.startswith("humaneval"):
            [entry] = [
                e
                for e in oracle["execution"]["entries"]
                if (e["task"], e["model"], e["method"]) == (cell.plain, size, cell.model.method)
            ]
            passed = Counter(
                v.problem_id
                for v in read_run(graded.run).read("verdicts", Verdict)
                if v.outcome is Outcome.PASSED
            )
            assert [passed[f"Python/{n}"] for n in range(164)] == entry["correct"], cell.label
        elif cell.plain in EXACT:
            folder = "defect_detection" + "_oneshot" * (cell.plain == EXACT[1])
            expected = oracle["comprehension"][folder][arm]["sampled"]
            assert values["accuracy", "paper-sample"] == pytest.approx(expected["accuracy"] / 100)
            assert values["f1-macro", "paper-sample"] == pytest.approx(expected["f1_macro"] / 100)
        elif cell.plain.startswith("recode-"):
            names = {"format": "format", "function": "func_name", "syntax": "natgen"}
            part = oracle["recode"][arm][names[cell.plain.removeprefix("recode-")]]
            assert values["robust-pass@1", "mean"] == pytest.approx(part["mean_robust_pass_at_1"])
            for name, expected in part["per_transformation"].items():
                assert values["robust-pass@1", name] == pytest.approx(expected["robust_pass_at_1"])
        else:
            total = oracle["aatk"]["mechanically_truncated"][arm]["total"]
            valid = total["valid"] / total["total"]
            assert values["valid-rate", "all"] == pytest.approx(valid)
