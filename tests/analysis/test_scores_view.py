"""Scores never stand in a report without their chance level, or without their caveat."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from astraios import registry
from astraios.analysis import views
from astraios.analysis.frames import read_frames
from astraios.analysis.report import write_report
from astraios.analysis.tables import Range, Table
from astraios.analysis.views import View
from astraios.records import Score

MakeStudy = Callable[..., Path]
TASK = "minipack-fix"
HINT = "indicative only: recall 0.67"
MARKS = {
    "indistinguishable": "not distinguishable",
    "above": "above",
    "below": "BELOW",
}


def score(metric: str, **more: object) -> dict[str, object]:
    counts = {"n_problems": 40, "n_samples": 40, "value": 0.5, "low": 0.4, "high": 0.6}
    return Score(task=TASK, metric=metric, **(counts | more)).model_dump(mode="json")


@pytest.fixture
def study(make_study: MakeStudy) -> Path:
    """A study in which one task is a classification, with a score of every kind."""
    root = make_study(methods=("lora",), n_problems=6)
    scores = [
        *(score(mark, chance=0.55, against_chance=mark) for mark in MARKS),
        score("valid-rate"),
        score("insecure", caveat=HINT),
        score("empty", chance=0.5, value=None, low=None, high=None),
    ]
    for path in root.glob("eval/**/scores.json"):
        if json.loads(path.read_bytes())[0]["task"] == TASK:
            path.write_text(json.dumps(scores))
    return root


def test_table_shows_chance_mark_and_caveat(study: Path) -> None:
    frames = read_frames(study)
    view: View = registry.load(views, "view", "scores")
    table = view.render(frames)
    assert isinstance(table, Table)
    rows = {row["metric"]: row for row in table.rows if row["method"] == "lora"}
    assert set(rows) == {*MARKS, "insecure", "empty"}
    for metric, mark in MARKS.items():
        assert (rows[metric]["mark"], rows[metric]["chance"]) == (mark, 0.55)
        assert rows[metric]["value"] == Range(0.5, 0.4, 0.6)
    assert (rows["insecure"]["caveat"], rows["insecure"]["chance"]) == (HINT, None)
    assert rows["empty"]["value"] is None
    for word in ("n = 40", "95 % bootstrap", "fault", "sandbox"):
        assert word in table.caption


def test_classification_is_not_among_the_pass_rates(study: Path) -> None:
    frames = read_frames(study)
    assert TASK not in frames.pass_tasks
    assert "minipack-synthesize" in frames.pass_tasks


def test_report_holds_the_table(study: Path, tmp_path: Path) -> None:
    paths = write_report(study, tmp_path / "report", formats=())
    page = next(paths.folder.glob("*.html")).read_text(encoding="utf-8")
    for text in (*MARKS.values(), HINT, "Chance %"):
        assert text in page
    made = (paths.folder / "tables/scores.csv").read_text(encoding="utf-8")
    assert HINT in made and "not distinguishable" in made


def test_study_without_such_scores_has_no_such_table(make_study: MakeStudy) -> None:
    view: View = registry.load(views, "view", "scores")
    assert view.lacks(read_frames(make_study(methods=("lora",)))) == (
        "scores with a chance level or a caveat",
    )
