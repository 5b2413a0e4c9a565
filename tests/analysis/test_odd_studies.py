"""Studies that are not what a report hopes for: an honest page, never a stack trace."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.analysis.conftest import write_other_kinds

from astraios.analysis.answer import answer
from astraios.analysis.frames import read_frames
from astraios.analysis.report import ReportPaths, terminal_table, write_report

MakeStudy = Callable[..., Path]


def bare(root: Path) -> ReportPaths:
    """The report without files of figures, which take most of its time."""
    return write_report(root, formats=())


def keep_only(root: Path, task: str) -> None:
    for folder in root.glob("eval/*/*/*/*"):
        if not folder.name.startswith(task):
            shutil.rmtree(folder)


def of_other_kind(make_study: MakeStudy, task: str) -> Path:
    root = make_study(methods=("fft", "lora"), judged=False)
    write_other_kinds(root, ("base", "fft", "lora"))
    keep_only(root, task)
    return root


def test_classification_alone_states_metric_and_chance(make_study: MakeStudy) -> None:
    root = of_other_kind(make_study, "miniature-detect")
    frames = read_frames(root)
    assert frames.headline_task == "miniature-detect"
    said = answer(frames)
    assert " % accuracy on miniature-detect" in said.headline
    assert "always saying the same gets 66.7 %" in said.headline
    assert "nothing is certain" in said.headline
    page = bare(root).index.read_text(encoding="utf-8")
    assert "accuracy %" in page and "pass@1 %" not in page


def test_classification_below_chance_says_so(make_study: MakeStudy) -> None:
    root = of_other_kind(make_study, "miniature-detect")
    for path in root.glob("eval/**/verdicts.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for number, line in enumerate(lines):
            right = number % 3 == 0
            wrong = {"yes": "no", "no": "yes"}[line["expected"]]
            line["answer"] = line["expected"] if right else wrong
            line["outcome"] = "passed" if right else "failed"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    frames = read_frames(root)
    assert (frames.quality["value"] < frames.quality["chance"]).all()
    assert "33.3 % accuracy" in answer(frames).headline
    assert "always saying the same gets 66.7 %" in answer(frames).headline


def test_security_alone_is_compared_by_its_own_metric(make_study: MakeStudy) -> None:
    root = of_other_kind(make_study, "miniature-secure")
    assert " % secure-rate on miniature-secure" in terminal_table(root).answer


def test_model_on_which_methods_compare_leads(make_study: MakeStudy) -> None:
    root = make_study(models=("small", "large"), methods=("fft", "lora"), n_problems=6)
    for method in ("base", "lora"):
        shutil.rmtree(root / "eval/large" / method)
    frames = read_frames(root)
    assert frames.models[-1] == "large"
    assert frames.headline_model == "small"
    assert "with small" in answer(frames).headline


def test_one_cell_claims_no_interval(make_study: MakeStudy) -> None:
    root = make_study(methods=("lora",), n_problems=1)
    keep_only(root, "minipack-fix")
    shutil.rmtree(root / "eval/tiny/base")
    said = bare(root).results.answer
    assert said.startswith("No model solved any problem: LoRA, judged alone, has 0.0 %")
    assert "all problems alike, so no interval" in said


def test_judging_of_no_samples_is_a_hole(make_study: MakeStudy) -> None:
    root = make_study(methods=("fft", "lora"), n_problems=3)
    for name in ("samples", "verdicts"):
        for path in root.glob(f"eval/tiny/lora/**/{name}.jsonl"):
            path.write_text("")
    rows = {row["method"]: row for row in terminal_table(root).rows}
    assert rows["lora"]["pass"] is None
    assert rows["fft"]["pass"] is not None
    assert any("LoRA on minipack-synthesize" in note for note in read_frames(root).notes)


def test_study_of_no_samples_names_no_winner(make_study: MakeStudy) -> None:
    root = make_study(methods=("lora",), n_problems=2)
    for path in (*root.glob("eval/**/samples.jsonl"), *root.glob("eval/**/verdicts.jsonl")):
        path.write_text("")
    assert terminal_table(root).answer.startswith("No generations have been judged yet")


def test_losses_that_are_not_numbers_are_holes(make_study: MakeStudy) -> None:
    root = make_study(methods=("fft", "lora"), n_problems=3)
    for path in root.glob("train/tiny/lora/**/metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        text = "".join(f"{json.dumps({**line, 'validation_loss': math.nan})}\n" for line in lines)
        path.write_text(text)
    rows = {row["method"]: row for row in terminal_table(root).rows}
    assert rows["lora"]["validation_loss"] is None
    assert rows["fft"]["validation_loss"] > 0


@pytest.mark.slow
def test_names_of_any_length_and_signs_leave_the_report_whole(make_study: MakeStudy) -> None:
    long, signs = "m" * 120, "x_$|<u>&{}*`%#~^" + "y" * 80
    root = make_study(models=("a_$%&~^#{}|*`<u>", long), methods=("fft", signs), n_problems=3)
    written = bare(root)
    assert "<u>" not in written.index.read_text(encoding="utf-8")
    latex = (written.folder / "tables/sizes.tex").read_text(encoding="utf-8")
    assert r"x\_\$|\textless{}u\textgreater{}\&\{\}*" in latex
    markdown = (written.folder / "tables/sizes.md").read_text(encoding="utf-8")
    assert r"x\_$\|&lt;u>&{}\*\`" in markdown
