"""Verdict files into counts: equal to the strict reader, and clear about what is odd."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astraios.analysis import reading
from astraios.analysis.frames import Frames, read_frames
from astraios.analysis.report import write_report
from astraios.config import Config
from astraios.errors import DataError
from astraios.files import write_text
from astraios.records import Outcome, RunKind, Verdict
from astraios.runs import MANIFEST, Run, read_run
from astraios.tasks._aatk_scores import scores as security_scores
from astraios.tasks._classification import THREE_CLASS, Reading, answer_scores
from astraios.tasks._pass_rates import pass_rates
from astraios.tasks._robustness import robust_scores


class MadeConfig(Config):
    base_model: str = ""
    method: str | None = None
    seed: int = 0
    task: str = ""
    task_version: str = "1"


def judge(
    root: Path,
    verdicts: Iterable[Verdict],
    *,
    method: str = "lora",
    task: str = "t",
    version: str = "1",
    seed: int = 0,
) -> Path:
    """A sealed judging of one arm; returns its folder."""
    config = MadeConfig(base_model="tiny", method=method, task=task, seed=seed)
    folder = root / method / f"{task}-{version}-{seed}"
    with Run.open(folder, kind=RunKind.GENERATE, config=config) as run:
        run.seal()
    judging = MadeConfig(task=task, task_version=version)
    with Run.open(folder / "judged", kind=RunKind.JUDGE, config=judging) as run:
        run.append("verdicts", *verdicts)
        run.seal()
    return folder / "judged"


def verdict(problem: str, outcome: str = "passed", index: int = 0, **fields: object) -> Verdict:
    values = {"problem_id": problem, "group": problem, "index": index, "outcome": outcome, **fields}
    return Verdict.model_validate(values)


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
verdicts = st.builds(
    Verdict,
    problem_id=texts,
    index=st.integers(0, 30),
    group=texts,
    slice=texts,
    outcome=st.sampled_from(Outcome),
    answer=st.none() | texts,
    expected=st.none() | texts,
    readings=st.none() | st.dictionaries(texts, st.none() | texts, max_size=2),
    log_odds=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    cwe=st.none() | texts,
    detail=texts,
    cpu_s=st.floats(0, 1e9),
    wall_s=st.floats(0, 1e-9),
    peak_mib=st.floats(0, 1e300),
)


def by_hand(records: Iterable[Verdict]) -> Counter[tuple[object, ...]]:
    return Counter(tuple(getattr(record, name) for name in reading.KINDS) for record in records)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(records=st.lists(verdicts, max_size=8, unique_by=lambda v: (v.problem_id, v.index)))
def test_counts_equal_those_of_the_records_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, records: list[Verdict]
) -> None:
    folder = judge(tmp_path_factory.mktemp("run"), records)
    found = reading.count_verdicts(read_run(folder)).kinds
    counted = {row[:-1]: row[-1] for row in found.select(*reading.KINDS, "n").iter_rows()}
    assert counted == dict(by_hand(records))


@settings(deadline=None, max_examples=40)
@given(records=st.lists(verdicts, min_size=1, max_size=5))
def test_records_as_they_are_written_need_no_strict_reader(records: list[Verdict]) -> None:
    lines = "".join(record.model_dump_json() + "\n" for record in records)
    assert reading.parsed(lines.encode()) is not None


def test_pieces_end_at_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [verdict(f"p{number}", detail="x" * (number % 7)) for number in range(50)]
    folder = judge(tmp_path, records)
    whole = reading.count_verdicts(read_run(folder)).kinds
    monkeypatch.setattr(reading, "PIECE", 300)
    assert reading.count_verdicts(read_run(folder)).kinds.equals(whole)


def test_odd_line_behind_many_pieces_has_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = judge(tmp_path, [verdict(f"p{number}") for number in range(50)])
    path = folder / "verdicts.jsonl"
    path.write_bytes(path.read_bytes() + b'{"problem_id": 3}\n')
    monkeypatch.setattr(reading, "PIECE", 300)
    with pytest.raises(DataError, match=r"verdicts\.jsonl:51: not a Verdict"):
        read_frames(tmp_path)


def test_record_in_other_layout_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = judge(tmp_path, [verdict(f"p{number}") for number in range(20)])
    path = folder / "verdicts.jsonl"
    line = json.dumps(verdict("other").model_dump(mode="json"), indent=None)  # with blanks
    path.write_bytes(path.read_bytes() + line.encode() + b"\n")
    monkeypatch.setattr(reading, "PIECE", 900)
    assert reading.count_verdicts(read_run(folder)).kinds["n"].sum() == 21


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"problem_id":"a","index":0,"group":"a","outcome":"passed","mood":1}', "mood"),
        ('{"problem_id":1,"index":0,"group":"a","outcome":"passed"}', "problem_id"),
        ('{"problem_id":"a","index":0,"group":"a","outcome":"won"}', "outcome"),
        ('{"problem_id":"a","index":0,"outcome":"passed"}', "group"),
        ("[]", "not a Verdict"),
    ],
)
def test_line_of_another_version_names_the_field(tmp_path: Path, line: str, named: str) -> None:
    folder = judge(tmp_path, [verdict("p0")])
    path = folder / "verdicts.jsonl"
    path.write_bytes(path.read_bytes() + line.encode() + b"\n")
    with pytest.raises(DataError, match=rf"verdicts\.jsonl:2: .*{named}"):
        read_frames(tmp_path)


def test_two_verdicts_about_one_sample_are_refused(tmp_path: Path) -> None:
    judge(tmp_path, [verdict("p0"), verdict("p1"), verdict("p0", "failed")])
    with pytest.raises(DataError, match=r"verdicts\.jsonl:3: sample 0 of problem 'p0'"):
        read_frames(tmp_path)


def test_parts_of_workers_are_read_and_compared(tmp_path: Path) -> None:
    folder = judge(tmp_path, [verdict("p0")])
    part = folder / "verdicts-1.jsonl"
    write_text(part, verdict("p1").model_dump_json() + "\n")
    assert read_frames(tmp_path).outcomes["n"].sum() == 2
    write_text(part, verdict("p0").model_dump_json() + "\n")
    with pytest.raises(DataError, match=r"verdicts-1\.jsonl:1: sample 0 .*in verdicts\.jsonl"):
        read_frames(tmp_path)


def test_run_of_a_newer_version_asks_for_an_upgrade(tmp_path: Path) -> None:
    folder = judge(tmp_path, [verdict("p0")])
    path = folder / MANIFEST
    write_text(path, path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(DataError, match="run format 9 is newer than this version reads"):
        read_frames(tmp_path)


# --- honest numbers of little -----------------------------------------------------------------


def test_task_without_samples_is_a_hole(tmp_path: Path) -> None:
    judge(tmp_path, [])
    frames = read_frames(tmp_path)
    assert (len(frames.quality), len(frames.metrics), frames.tasks) == (0, 0, ())
    assert write_report(tmp_path, tmp_path / "report", formats=()).index.exists()


def test_task_of_faults_has_no_value(tmp_path: Path) -> None:
    judge(tmp_path, [verdict(f"p{n}", "fault") for n in range(3)])
    judge(tmp_path, [verdict(f"p{n}", "fault") for n in range(3)], method="fft")
    frames = read_frames(tmp_path)
    row = frames.quality.iloc[0]
    assert (row["n"], row["n_faults"], row["value"]) == (
        0,
        3,
        pytest.approx(float("nan"), nan_ok=True),
    )
    assert frames.quality_pairs["value"].isna().all()
    assert frames.detectable["detectable"].isna().all()
    assert write_report(tmp_path, tmp_path / "report", formats=()).index.exists()


def test_study_of_one_cell_has_its_rate_and_no_pairs(tmp_path: Path) -> None:
    judge(tmp_path, [verdict("p0")])
    frames = read_frames(tmp_path)
    row = frames.quality.iloc[0]
    assert (row["value"], row["low"], row["high"], row["n"]) == (1, 1, 1, 1)
    assert (len(frames.quality_pairs), len(frames.detectable)) == (0, 0)
    assert write_report(tmp_path, tmp_path / "report", formats=()).index.exists()


def test_only_the_newest_version_of_a_task_counts(tmp_path: Path) -> None:
    judge(tmp_path, [verdict("p0", "failed")], version="9")
    judge(tmp_path, [verdict("p0")], version="10")
    judge(tmp_path, [verdict("p0", "failed")], version="9", method="fft")
    frames = read_frames(tmp_path)
    assert frames.quality[["method", "value"]].to_numpy().tolist() == [["lora", 1.0]]
    (note,) = [note for note in frames.notes if "versions" in note]
    assert "t was judged at several versions (9, 10)" in note
    assert "only 10 counts, and FFT (tiny, seed 0) are left out" in note


def test_editions_of_a_task_are_tasks_of_their_own(tmp_path: Path) -> None:
    judge(tmp_path, [verdict("p0")], version="original-2")
    judge(tmp_path, [verdict("p0", "failed")], version="clean-2")
    frames = read_frames(tmp_path)
    assert dict(zip(frames.quality["task"], frames.quality["value"], strict=True)) == {
        "t@clean": 0.0,
        "t@original": 1.0,
    }


# --- equal to what the tasks say of themselves ------------------------------------------------


def metric(frames: Frames, name: str) -> dict[str, float]:
    row = frames.metrics[frames.metrics["metric"] == name].iloc[0]
    return {key: float(row[key]) for key in ("value", "low", "high", "n", "chance")}


def test_pass_rates_equal_the_scores_of_the_task(tmp_path: Path) -> None:
    records = [
        verdict(f"p{p}", "passed" if (p * i) % 3 == 0 else "failed", i)
        for p in range(12)
        for i in range(10 + p % 2)
    ]
    judge(tmp_path, records)
    frames = read_frames(tmp_path)
    for score in pass_rates("t", records):
        found = metric(frames, score.metric)
        assert (found["value"], found["low"], found["high"]) == pytest.approx(
            (score.value, score.low, score.high)
        )
    assert set(frames.metrics["metric"]) == {"pass@1", "pass@10"}


def answers() -> list[Verdict]:
    said = "110?1001?11010101110"
    records = []
    for place, answer in enumerate(said):
        expected = str(int(place % 3 == 0))
        outcome = "unparsed" if answer == "?" else "passed" if answer == expected else "failed"
        records.append(verdict(f"q{place}", outcome, expected=expected))
    return [*records, verdict("q99", "fault", expected="1")]


def test_scores_of_answers_equal_those_of_the_task(tmp_path: Path) -> None:
    judge(tmp_path, answers())
    frames = read_frames(tmp_path)
    readings = [
        Reading(
            v.problem_id,
            v.expected == "1",
            None if v.outcome == "unparsed" else (v.expected == "1") == (v.outcome == "passed"),
        )
        for v in answers()
        if v.outcome != "fault"
    ]
    told = {s.metric: s for s in answer_scores("t", "all", readings, three_class=THREE_CLASS)}
    shared = set(told) & set(frames.metrics["metric"])
    assert {"accuracy", "balanced-accuracy", "mcc", "valid-rate", "majority-baseline"} <= shared
    for name in shared:
        found = metric(frames, name)
        assert found["value"] == pytest.approx(told[name].value)
        assert (found["low"], found["high"]) == pytest.approx(
            (told[name].low, told[name].high), abs=0.06
        )
        assert math.isnan(found["chance"]) == (told[name].chance is None)
        if told[name].chance is not None:
            assert found["chance"] == pytest.approx(told[name].chance)
    row = frames.quality.iloc[0]
    assert (row["metric"], row["n"], row["n_faults"]) == ("accuracy", 20, 1)
    assert row["value"] == pytest.approx(told["accuracy"].value)
    assert row["chance"] == pytest.approx(told["majority-baseline"].value)


def fate(problem: int, index: int, seed: int) -> str:
    if (problem, index, seed) == (3, 2, 1):
        return "fault"
    return "failed" if (problem + index * seed) % 4 == 1 else "passed"


def test_robust_rate_equals_the_worst_case_of_the_task(tmp_path: Path) -> None:
    """With several samples a problem: the i-th completions of all variants belong together."""
    records = [verdict(f"p{p}", slice="nominal", index=i) for p in range(9) for i in range(4)]
    records += [
        verdict(
            f"p{p}/{change}/{seed}",
            "fault"
            if (p, i, seed) == (3, 2, 1)
            else "failed"
            if (p + i * seed) % 4 == 1
            else "passed",
            i,
            group=f"p{p}",
            slice=change,
        )
        for p in range(9)
        for i in range(4)
        for change in ("typos", "tabs")
        for seed in range(2)
    ]
    judge(tmp_path, records)
    frames = read_frames(tmp_path)
    told = {(s.metric, s.slice): s.value for s in robust_scores("t", records)}
    assert frames.task_kind("t") == "robust"
    assert frames.quality["value"].iloc[0] == pytest.approx(told["robust-pass@1", "worst-case"])
    rows = frames.robustness.set_index("slice")
    assert rows.loc["all", "value"] == pytest.approx(told["robust-pass@1", "worst-case"])
    assert rows.loc["typos", "value"] == pytest.approx(told["robust-pass@1", "typos"])
    assert rows.loc["typos", "clean"] == pytest.approx(told["pass@1", "nominal"])
    assert rows.loc["typos", "relative"] == pytest.approx(told["robust-drop@1", "typos"])


def test_security_rates_equal_the_scores_of_the_task(tmp_path: Path) -> None:
    outcomes = ("safe", "vulnerable", "compile_error", "safe", "fault")
    records = [
        verdict(f"s{p}", outcomes[(p * i) % 5], i, cwe=f"CWE-{p % 3}", slice="py")
        for p in range(10)
        for i in range(6)
    ]
    records += [verdict("hand", "passed", i, slice="without-query") for i in range(6)]
    judge(tmp_path, records)
    frames = read_frames(tmp_path)
    told = {s.metric: s for s in security_scores("t", "", records) if s.slice == "all"}
    assert metric(frames, "secure-rate")["value"] == pytest.approx(told["secure@1"].value)
    for name in ("insecure-rate", "valid-rate"):
        found = metric(frames, name)
        assert (found["value"], found["low"], found["high"]) == pytest.approx(
            (told[name].value, told[name].low, told[name].high), abs=1e-9
        )
    assert frames.quality["value"].iloc[0] == pytest.approx(told["secure@1"].value)
