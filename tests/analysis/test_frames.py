"""Run folders as frames: what is read, what counts, what is a hole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from astraios.analysis.frames import read_frames
from astraios.errors import DataError, MissingDataError
from astraios.files import write_text
from astraios.records import Outcome, RunKind, Verdict
from astraios.runs import MANIFEST, Run, find_runs

MakeStudy = Callable[..., Path]


def judged(root: Path, method: str, task: str) -> Path:
    (folder,) = root.glob(f"eval/*/{method}/seed*/{task}-*/judged-*")
    return folder


def unseal(folder: Path) -> None:
    path = folder / MANIFEST
    write_text(path, path.read_text().replace('"status": "done"', '"status": "running"'))


def test_every_verdict_is_read_once(study: Path) -> None:
    frames = read_frames(study)
    on_disk = sum(
        len(list(run.read("verdicts", Verdict)))
        for run in find_runs(study)
        if run.manifest.kind == RunKind.JUDGE
    )
    assert frames.outcomes["n"].sum() == on_disk == 8 * (40 + 40 + 48)


def test_rates_equal_a_direct_count(study: Path) -> None:
    frames = read_frames(study)
    verdicts = list(Run(judged(study, "lora", "minipack-fix"), None).read("verdicts", Verdict))  # type: ignore[arg-type]
    passed = sum(verdict.outcome == Outcome.PASSED for verdict in verdicts)
    row = frames.pass_rates.query("method == 'lora' and task == 'minipack-fix'").iloc[0]
    assert row["value"] == pytest.approx(passed / len(verdicts))


def test_untuned_base_is_the_generation_without_a_method(study: Path) -> None:
    assert "base" in read_frames(study).methods


def test_judge_runs_take_their_arm_from_the_generation_they_judge(study: Path) -> None:
    runs = read_frames(study).runs.query("kind == 'judge'")
    assert set(runs["model"]) == {"tiny"}
    assert "lora" in set(runs["method"])


def test_robust_task_is_told_by_its_groups(study: Path) -> None:
    frames = read_frames(study)
    assert frames.robust_tasks == ("minipack-robust",)
    assert frames.pass_tasks == ("minipack-synthesize", "minipack-fix")
    assert frames.headline_task == "minipack-synthesize"


def test_models_go_from_small_to_large(large_study: Path) -> None:
    frames = read_frames(large_study)
    assert frames.models == ("small", "large")
    assert frames.sizes == {"small": 651_840, "large": 1_303_680}


def test_finished_study_has_no_notes(study: Path) -> None:
    assert read_frames(study).notes == ()


def test_unfinished_run_is_left_out_and_named(make_study: MakeStudy) -> None:
    root = make_study()
    unseal(judged(root, "lora", "minipack-synthesize"))
    frames = read_frames(root)
    assert not len(frames.pass_rates.query("method == 'lora' and task == 'minipack-synthesize'"))
    assert any("1 of 56 runs are not finished" in note for note in frames.notes)
    assert any("LoRA on minipack-synthesize (tiny)" in note for note in frames.notes)


def test_promised_cells_without_a_run_are_named(make_study: MakeStudy) -> None:
    root = make_study(judged=False)
    (note,) = read_frames(root).notes
    assert note.startswith("21 of 21 cells have no result yet")


def test_latest_judging_counts(make_study: MakeStudy) -> None:
    root = make_study()
    old = judged(root, "lora", "minipack-fix")
    new = old.with_name("judged-ffffffffffff")
    manifest = json.loads((old / MANIFEST).read_text())
    new.mkdir()
    verdicts = (old / "verdicts.jsonl").read_text()
    write_text(new / "verdicts.jsonl", re.sub(r'"outcome":"\w+"', '"outcome":"passed"', verdicts))
    manifest |= {"fingerprint": "f" * 12, "finished": "2999-01-01T00:00:00Z"}
    write_text(new / MANIFEST, json.dumps(manifest))
    frames = read_frames(root)
    row = frames.pass_rates.query("method == 'lora' and task == 'minipack-fix'").iloc[0]
    assert row["value"] == 1.0
    assert any("1 older judging" in note for note in frames.notes)


def test_mixed_task_versions_are_told(make_study: MakeStudy) -> None:
    root = make_study()
    path = judged(root, "lora", "minipack-fix") / MANIFEST
    write_text(path, path.read_text().replace('"task_version": "1"', '"task_version": "2"'))
    assert any("minipack-fix was judged at several versions (1, 2)" in note
               for note in read_frames(root).notes)  # fmt: skip


def test_torn_last_line_is_no_record(make_study: MakeStudy) -> None:
    root = make_study()
    path = judged(root, "lora", "minipack-fix") / "verdicts.jsonl"
    path.write_bytes(path.read_bytes() + b'{"problem_id": "mini')
    assert read_frames(root).outcomes["n"].sum() == 8 * 128


@pytest.mark.parametrize(
    "line",
    [
        b'{"problem_id": 3}\n',
        b"not json\n",
        b"{} , {}\n",
        b'{"problem_id":"a","index":0,"group":"a","outcome":"won"}\n',
    ],
)
def test_bad_record_names_file_and_line(make_study: MakeStudy, line: bytes) -> None:
    root = make_study()
    path = judged(root, "lora", "minipack-fix") / "verdicts.jsonl"
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(DataError, match=r"verdicts\.jsonl:41: not a Verdict record"):
        read_frames(root)


def test_record_without_optional_fields_is_read(make_study: MakeStudy) -> None:
    root = make_study()
    path = judged(root, "lora", "minipack-fix") / "verdicts.jsonl"
    path.write_bytes(
        b'{"problem_id":"minipack/0","index":0,"group":"minipack/0","outcome":"passed"}\n'
    )
    row = read_frames(root).pass_rates.query("method == 'lora' and task == 'minipack-fix'").iloc[0]
    assert (row["value"], row["n"]) == (1.0, 1)


def test_folder_without_runs_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="holds no runs"):
        read_frames(tmp_path)


def test_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="is not a folder"):
        read_frames(tmp_path / "nowhere")


def test_malformed_study_file_is_a_clear_error(make_study: MakeStudy) -> None:
    root = make_study(methods=("lora",))
    write_text(root / "study.yaml", "methods: [lora\n")
    with pytest.raises(DataError, match=r"study\.yaml: malformed YAML"):
        read_frames(root)


def test_study_folder_can_be_moved(make_study: MakeStudy, tmp_path: Path) -> None:
    root = make_study(methods=("lora",))
    before = read_frames(root).pass_rates
    moved = root.rename(tmp_path / "elsewhere")
    assert read_frames(moved).pass_rates.equals(before)
