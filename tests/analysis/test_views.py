"""Every view on finished, half-done and empty studies; golden tables."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from astraios import registry
from astraios.analysis import style, views
from astraios.analysis.comparison import LEVEL, difference
from astraios.analysis.figures import FORMATS, Figure, drawn, inline
from astraios.analysis.frames import Frames, read_frames
from astraios.analysis.report import ReportPaths
from astraios.analysis.tables import Table
from astraios.analysis.views import NEEDS, Need, View
from astraios.records import RunKind
from astraios.runs import find_runs

CWES = ("CWE-79", "CWE-89")
MakeStudy = Callable[..., Path]
GOLDEN = Path(__file__).parent / "golden"
NAMES = registry.names(views)


def render(name: str, frames: Frames) -> Table | Figure | None:
    view: View = registry.load(views, "view", name)
    return None if view.lacks(frames) else view.render(frames)


def svg(figure: Figure, name: str) -> str:
    return drawn(figure, name)["svg"].decode()


@pytest.fixture(scope="module")
def finished(study: Path) -> Frames:
    return read_frames(study)


@pytest.fixture(scope="module")
def large(large_study: Path) -> Frames:
    return read_frames(large_study)


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.csv")))
def test_table_equals_the_golden_one(report: ReportPaths, name: str) -> None:
    made = (report.folder / "tables" / f"{name}.csv").read_text(encoding="utf-8")
    assert made == (GOLDEN / f"{name}.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_view_says_in_words_what_it_needs(name: str) -> None:
    view: View = registry.load(views, "view", name)
    assert view.title
    for need in view.needs:
        assert need.words if isinstance(need, Need) else need in NEEDS


# Tests of these are elsewhere: they need scores with a chance level or a caveat
# (test_scores_view.py), or the paper's tasks (test_published_views.py).
# These need tasks of the paper by name; tests of their own have some.
ELSEWHERE = {
    "comprehension",
    "comprehension_scores",
    "humanevalpack",
    "published_numbers",
    "recode",
}


@pytest.fixture(scope="module")
def varied(varied_study: Path) -> Frames:
    return read_frames(varied_study)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ELSEWHERE])
def test_view_renders_and_its_caption_states_n_interval_and_faults(
    large: Frames, varied: Frames, name: str
) -> None:
    rendered = render(name, large) or render(name, varied)
    assert rendered is not None
    for word in ("n = ", "interval", "fault"):
        assert word in rendered.caption, word
    if isinstance(rendered, Figure):
        assert len(rendered.data)
        assert rendered.summary
        assert svg(rendered, name).startswith("<?xml")
    else:
        assert rendered.rows


def test_sizes_show_every_kind_of_task_and_chance_beside_classification(varied: Frames) -> None:
    table = render("sizes", varied)
    assert isinstance(table, Table)
    rows = {(row["task"], row["method"]): row for row in table.rows}
    metrics = {row["task"]: row["metric"] for row in table.rows}
    assert metrics == {
        "minipack-synthesize": "pass@1",
        "minipack-fix": "pass@1",
        "minipack-robust": "robust-pass@1",
        "miniature-secure": "secure-rate",
        "miniature-detect": "accuracy",
    }
    assert len(rows) == 15
    assert rows["miniature-detect", "lora"]["chance"] == pytest.approx(2 / 3)
    assert rows["minipack-fix", "lora"]["chance"] is None


def test_sizes_mark_who_is_behind_the_best_and_who_differs_from_full_tuning(
    finished: Frames,
) -> None:
    table = render("sizes", finished)
    assert isinstance(table, Table)
    assert "tiny_marks" in table.csv().splitlines()[0]
    for task in finished.tasks:
        own = {row["method"]: row["tiny"] for row in table.rows if row["task"] == task}
        best = max(own, key=lambda method: own[method].value)
        for method, found in own.items():
            marks = ""
            for other, sign in ((best, "†"), ("fft", "‡")):
                row = difference(finished.quality_pairs, "tiny", task, method, other)
                marks += sign * bool(row is not None and row["p_holm"] < LEVEL)
            assert found.marks == marks, (task, method)
    assert any(row["tiny"].marks for row in table.rows)


def test_security_puts_valid_beside_insecure_and_keeps_the_caveat(varied: Frames) -> None:
    table = render("security", varied)
    assert isinstance(table, Table)
    rows = {(row["method"], row["slice"]): row for row in table.rows}
    assert set(rows) == {(m, s) for m in ("base", "fft", "lora") for s in ("all", *CWES)}
    scores = varied.scores.query("metric == 'valid-rate' and slice == 'all'").set_index("method")
    for method in ("base", "fft", "lora"):
        assert rows[method, "all"]["valid"].value == scores.loc[method, "value"]
        assert rows[method, CWES[0]]["caveat"] == "indicative only: recall 0.67"
        assert rows[method, CWES[1]]["caveat"] is None


def test_ledger_names_what_this_machine_could_not_measure(finished: Frames) -> None:
    table = render("ledger", finished)
    assert isinstance(table, Table)
    assert "Not measured on this machine: Optimizer MiB, Gradients MiB" in table.caption
    row = next(row for row in table.rows if row["method"] == "lora")
    assert row["trainable"] == 29_184
    assert row["saved_kib"] == 4 * 29_184 / 1024
    assert "energy_wh" not in {column.key for column in table.columns}


def test_outcome_shares_of_a_method_and_task_add_up(large: Frames) -> None:
    figure = render("outcome_shares", large)
    assert isinstance(figure, Figure)
    sums = figure.data.groupby(["task", "method"])["share"].sum()
    assert sums.round(9).eq(1).all()
    assert set(figure.data["outcome"]) == {"passed", "failed", "timed_out", "fault"}


def test_results_hold_the_numbers_of_the_frames(finished: Frames) -> None:
    table = render("results", finished)
    assert isinstance(table, Table)
    rates = finished.pass_rates.query("task == 'minipack-synthesize'").set_index("method")
    for row in table.rows:
        assert row["pass"].value == rates.loc[row["method"], "value"]
    by_method = {row["method"]: row for row in table.rows}
    assert by_method["lora"]["trainable"] == 29_184
    assert by_method["lora"]["share"] == pytest.approx(29_184 / (651_840 + 29_184))
    assert by_method["base"]["validation_loss"] == 0.516
    assert by_method["base"]["over_base"] is None
    assert by_method["base"]["over_fft"].value == -by_method["fft"]["over_base"].value


def test_results_keep_a_row_for_a_method_that_is_missing(make_study: MakeStudy) -> None:
    root = make_study(methods=("fft", "lora"))
    shutil.rmtree(root / "eval/tiny/lora")
    table = render("results", read_frames(root))
    assert isinstance(table, Table)
    lora = next(row for row in table.rows if row["method"] == "lora")
    assert lora["pass"] is None
    assert lora["trainable"] == 29_184


def test_pareto_front_holds_what_no_other_dominates(finished: Frames) -> None:
    equal = finished.quality.assign(value=finished.quality["value"].round(1))
    for quality in (finished.quality, equal):
        figure = render("quality", with_quality(finished, quality))
        assert isinstance(figure, Figure)
        data = figure.data.query("method != 'base'")
        for _, row in data.iterrows():
            cheaper = data[data["trainable_parameters"] < row["trainable_parameters"]]
            best = cheaper["value"].max() if len(cheaper) else -1.0
            assert row["on_front"] == (row["value"] > best)
        assert data["on_front"].any()


def test_of_equal_scores_only_the_cheapest_is_on_the_front(finished: Frames) -> None:
    figure = render("quality", with_quality(finished, finished.quality.assign(value=0.5)))
    assert isinstance(figure, Figure)
    assert list(figure.data[figure.data["on_front"]]["method"]) == ["ia3"]


def with_quality(frames: Frames, quality: pd.DataFrame) -> Frames:
    """A study with other scores."""
    other = replace(frames)
    vars(other)["quality"] = quality
    return other


def test_method_looks_the_same_in_every_figure(large: Frames) -> None:
    looks = style.looks(large.methods)
    assert len({look.colour for look in looks.values()}) == len(looks)
    assert len({look.marker for look in looks.values()}) == len(looks)
    for name in ("quality", "losses", "scaling"):
        figure = render(name, large)
        assert isinstance(figure, Figure)
        document = svg(figure, name)
        for method in ("fft", "lora", "ia3"):
            assert looks[method].colour in document, (name, method)


def test_foreign_methods_come_last_with_looks_of_their_own() -> None:
    found = style.looks(["zeta", "lora", "base", "alpha"])
    assert tuple(found) == ("base", "lora", "alpha", "zeta")
    assert len({look.marker for look in found.values()}) == 4


def test_equal_data_give_equal_bytes(varied: Frames) -> None:
    figures = [render("quality", varied) for _ in range(2)]
    first, second = (drawn(figure, "quality", FORMATS) for figure in figures if figure)  # type: ignore[arg-type]
    assert set(first) == {"svg", "png", "pdf"}
    assert first == second


def test_inline_figure_has_no_address_and_no_foreign_id(finished: Frames) -> None:
    figure = render("quality", finished)
    assert isinstance(figure, Figure)
    element = inline(svg(figure, "quality"), figure, "quality", style.looks(finished.methods))
    assert "http" not in element
    assert 'id="quality-' in element
    assert element.count('id="') == element.count('id="quality-')


def test_single_method_study_renders(make_study: MakeStudy) -> None:
    frames = read_frames(make_study(methods=("lora",), n_problems=3))
    assert sum(render(name, frames) is not None for name in NAMES) > 5


def test_all_fault_study_renders(make_study: MakeStudy) -> None:
    frames = read_frames(make_study(methods=("fft", "lora"), n_problems=3, n_faults=99))
    table = render("results", frames)
    assert isinstance(table, Table)
    assert all(row["pass"] is None for row in table.rows)
    for name in NAMES:
        rendered = render(name, frames)
        if isinstance(rendered, Figure):
            svg(rendered, name)


@pytest.mark.parametrize(
    "seed", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(2, marks=pytest.mark.slow)]
)
def test_study_with_any_runs_missing_renders(make_study: MakeStudy, seed: int) -> None:
    root = make_study(models=("a", "b"), methods=("fft", "mine"), n_problems=4)
    draw = random.Random(seed)
    for run in find_runs(root):
        if run.folder.exists() and draw.random() < 0.2 * (seed + 1):
            (run.folder / "manifest.json").unlink()
    if not find_runs(root):
        pytest.skip("nothing is left")
    frames = read_frames(root)
    for name in NAMES:
        rendered = render(name, frames)
        if isinstance(rendered, Figure):
            svg(rendered, name)


def test_rows_without_a_drop_are_counted(finished: Frames) -> None:
    frames = replace(finished)
    found = finished.robustness
    vars(frames)["robustness"] = found.assign(drop=found["drop"].where(found["method"] != "fft"))
    n = (found["method"] == "fft").sum()
    assert f"{n} of {len(found)} rows have no drop" in render("robustness", frames).caption
    assert "no drop" not in render("robustness", finished).caption


def test_view_without_a_study_says_what_it_lacks(make_study: MakeStudy) -> None:
    frames = read_frames(make_study(judged=False))
    view: View = registry.load(views, "view", "robustness")
    assert view.lacks(frames) == ("a judged task of perturbed prompts",)
    assert set(frames.runs["kind"]) == {RunKind.PRETRAIN, RunKind.TRAIN}
