"""Samples of a labelled set: the paper's draw, and a stratified one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from astraios import tasks
from astraios.tasks._draws import Draw, stratified

LABELS = st.lists(st.booleans(), max_size=200)


def test_sample_is_the_one_of_the_paper(shared: Path) -> None:
    with gzip.open(shared / "data/devign/devign_test.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    ranked = {row["eval_sample_rank"]: row["id"] for row in rows}
    ranked.pop(None)
    drawn = Draw(1081, 919).positions([bool(row["label"]) for row in rows])
    assert drawn == [ranked[rank] for rank in range(2000)]
    problems = tasks.task("devign").problems(shared / "data")
    assert [problem.rank for problem in problems] == [row["eval_sample_rank"] for row in rows]


@given(LABELS, st.integers(0, 60), st.integers(0, 60))
def test_draw_has_the_classes_asked_for_or_is_refused(
    labels: list[bool], n_negative: int, n_positive: int
) -> None:
    drawn = Draw(n_negative, n_positive).positions(labels)
    if labels.count(False) < n_negative or labels.count(True) < n_positive:
        assert drawn is None
        return
    assert drawn is not None
    assert len(drawn) == len(set(drawn)) == n_negative + n_positive
    assert sum(labels[at] for at in drawn) == n_positive
    assert drawn == Draw(n_negative, n_positive).positions(labels)


@given(LABELS, st.integers(1, 100))
def test_stratified_sample_keeps_the_shares(labels: list[bool], n: int) -> None:
    chosen = stratified(labels, n)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(n, len(labels))
    if chosen:
        share = sum(labels) / len(labels)
        assert abs(sum(labels[at] for at in chosen) - share * len(chosen)) <= 0.5


def test_harness_draws_2726_pairs_and_the_notebook_2000_of_them() -> None:
    task = tasks.task("bigclonebench")
    labels = [at % 7 == 0 for at in range(20_000)]
    asked = task.choose(labels)
    assert len(asked) == 2726
    assert sum(labels[at] for at in asked) == 1000
    scored = task.notebook.positions([labels[at] for at in asked])
    assert scored is not None and len(scored) == 2000
    assert sum(labels[asked[at]] for at in scored) == 274
    clean = task.edition("clean").choose(labels)
    assert len(clean) == 4000
    assert sum(labels[at] for at in clean) == round(4000 * sum(labels) / 20_000)
