"""Run folders as frames: what is read, what counts, what is a hole."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from astraios.analysis import studyfile
from astraios.analysis.frames import TRAINED_HERE, read_frames
from astraios.config import Config
from astraios.errors import DataError, MissingDataError
from astraios.files import write_text
from astraios.metrics.paired import detectable_difference
from astraios.records import (
    ArmFacts,
    ChosenRate,
    Cost,
    Outcome,
    RunKind,
    Step,
    Trial,
    Verdict,
)
from astraios.runs import MANIFEST, Run, find_runs

MakeStudy = Callable[..., Path]


class SearchedConfig(Config):
    base_model: str
    method: str
    seed: int
    learning_rate: float = 0.0


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


def test_many_cells_without_a_result_are_counted_by_task() -> None:
    wide = studyfile.StudyFile(
        models=("s", "m"), methods=("base", "fft", "lora"), tasks=("fix", "explain@full", "done")
    )
    judged = [(m, a, "done") for m in wide.models for a in wide.methods] + [("s", "fft", "fix")]
    assert studyfile.holes(wide, judged) == [
        "11 of 18 cells have no result yet: 5 of 6 on fix, 6 of 6 on explain@full."
    ]
    judged += [(m, a, "explain") for m in wide.models for a in wide.methods]
    judged += [("s", "base", "fix"), ("s", "lora", "fix"), ("m", "fft", "fix")]
    assert studyfile.holes(wide, judged) == [
        "2 of 18 cells have no result yet: Base (untuned) on fix (m), LoRA on fix (m)."
    ]


def test_a_long_list_ends_in_how_many_more_there_are() -> None:
    assert studyfile.clip(["one", "two", "three"], limit=12) == "one, two and 1 more"
    assert studyfile.clip(["one", "two"], limit=2) == "one and 1 more"
    assert studyfile.clip(["one", "two"]) == "one, two"


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


# --- what is derived --------------------------------------------------------------------------


def test_trainable_parameters_come_from_trainings_then_from_what_is_told(
    make_study: MakeStudy,
) -> None:
    root = make_study(methods=("lora",), judged=False)
    facts = [
        ArmFacts(
            model="tiny", method="lora", trainable_parameters=1, total_parameters=2, source="x"
        ),
        ArmFacts(
            model="big", method="ia3", trainable_parameters=7, total_parameters=9, source="card"
        ),
    ]
    write_text(root / "arms.jsonl", "".join(f"{one.model_dump_json()}\n" for one in facts))
    frames = read_frames(root)
    assert frames.trainable.set_index(["model", "method"]).to_dict("index") == {
        ("tiny", "lora"): {"trainable_parameters": 29_184, "source": TRAINED_HERE},
        ("big", "ia3"): {"trainable_parameters": 7, "source": "card"},
    }
    assert frames.sizes["tiny"] == 651_840  # measured here, whatever is told
    assert frames.sizes["big"] == 9


def test_ledger_has_hours_by_stage(large_study: Path) -> None:
    frames = read_frames(large_study)
    row = frames.cost_ledger.set_index(["model", "method"]).loc["small", "lora"]
    wall = frames.tunings.query("model == 'small' and method == 'lora'")["wall_s"].mean()
    assert (row["n_seeds"], row["trainable_parameters"]) == (2, 29_184)
    assert row["train_wall_h"] == pytest.approx(wall / 3600)
    assert row["generate_wall_h"] == pytest.approx(3 * 3 / 3600)  # three tasks of three seconds
    assert math.isnan(row["search_wall_h"])
    assert 0 <= row["judge_wall_h"] < 0.1
    base = frames.cost_ledger.set_index(["model", "method"]).loc["small", "base"]
    assert math.isnan(base["train_wall_h"])


def test_ledger_takes_no_mean_over_what_was_not_measured(large_study: Path) -> None:
    frames = read_frames(large_study)
    costs = frames.costs
    unread = (costs["seed"] == 1) & costs["kind"].isin(["train", "generate"])
    zeros = {name: costs[name].mask(unread, 0) for name in ("wall_s", "tokens_per_s", "peak_mib")}
    half = replace(frames, costs=costs.assign(**zeros)).cost_ledger
    first = replace(frames, costs=costs[~unread]).cost_ledger
    for name in ("train_wall_h", "generate_wall_h", "tokens_per_s", "peak_mib"):
        assert half[name].tolist() == pytest.approx(first[name].tolist(), nan_ok=True)


def test_detectable_difference_is_that_of_the_median_pair(study: Path) -> None:
    frames = read_frames(study)
    row = frames.detectable.set_index("task").loc["minipack-fix"]
    spreads = frames.quality_pairs.query("task == 'minipack-fix'")["spread"]
    assert row["detectable"] == pytest.approx(detectable_difference(spreads.median(), 40))
    assert row["detectable_adjusted"] > row["detectable"]
    assert (row["n"], row["n_pairs"], row["metric"]) == (40, 28, "pass@1")


def test_loss_and_score_are_correlated_over_all_and_within_models(large_study: Path) -> None:
    found = read_frames(large_study).loss_correlations.query("task == 'minipack-synthesize'")
    assert set(found["model"]) == {"all", "small", "large"}
    within = found[(found["model"] == "small") & (found["kind"] == "pearson")].iloc[0]
    assert within["n"] == 7
    assert -1 <= within["low"] <= within["value"] <= within["high"] < 0  # better loss, better score


def test_trials_of_a_search_are_no_seeds_of_the_method(make_study: MakeStudy) -> None:
    root = make_study(methods=("lora",), judged=False)
    tried = []
    for rate, loss in ((0.001, 0.4), (0.01, None)):
        config = SearchedConfig(base_model="tiny", method="lora", seed=1000, learning_rate=rate)
        folder = root / "search" / f"rate{rate}"
        with Run.open(folder, kind=RunKind.TRAIN, config=config) as run:
            run.append("metrics", Step(step=10, validation_loss=loss))
            cost = Cost(wall_s=36, cpu_s=36, n_tokens=1, tokens_per_s=1, peak_mib=1)
            run.write_json("cost", cost)
            run.seal()
        where = folder.relative_to(root).as_posix()
        tried.append(Trial(rung=0, learning_rate=rate, n_steps=10, validation_loss=loss, run=where))
    config = SearchedConfig(base_model="tiny", method="lora", seed=1000)
    with Run.open(root / "search" / "chosen", kind=RunKind.SEARCH, config=config) as run:
        run.append("trials", *tried)
        chosen = ChosenRate(
            base_model="tiny", method="lora", learning_rate=0.001, validation_loss=0.4,
            on="validation_loss", how="grid", rates=(0.001, 0.01), ranking=(0.001, 0.01),
            n_trials=2, n_diverged=1,
        )  # fmt: skip
        run.write_json("chosen", chosen)
        run.seal()
    frames = read_frames(root)
    assert frames.searches["chosen"].tolist() == [True, False]
    assert frames.searches["validation_loss"].isna().tolist() == [False, True]
    assert set(frames.losses["seed"]) == {0}
    assert set(frames.tunings["seed"]) == {0}
    assert frames.cost_ledger["search_wall_h"].tolist() == [pytest.approx(72 / 3600)]
