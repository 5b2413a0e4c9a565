"""Metrics as parts: the built-in ones, and the example of the page on adding one, installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.analysis.examples import install_example

from astraios import registry
from astraios.analysis import metrics, views
from astraios.analysis.frames import Frames, read_frames
from astraios.analysis.metrics import Judged, Metric
from astraios.analysis.tables import Table
from astraios.analysis.tallies import Kind
from astraios.analysis.views import View
from astraios.cli import parts
from astraios.records import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-metric.md"
NAMES = registry.names(metrics)


@pytest.mark.parametrize("name", NAMES)
def test_metric_suits_some_kind_of_task_and_takes_any_counts_of_it(name: str) -> None:
    metric: Metric = registry.load(metrics, "metric", name)
    assert metric.title
    assert any(metric.applies_to(kind) for kind in Kind)
    nothing = Judged((), {}, np.zeros((0, 2)))
    faults = Judged(("p",), {(Outcome.FAULT, None): np.ones(1)}, np.zeros((1, 2)))
    for judged in (nothing, faults):
        for measure in metric.measures(judged):
            assert measure.parts.shape[0] == len(judged.problems)
            assert np.isnan(measure.value(np.nansum(measure.parts, axis=0)))


def test_metrics_are_listed() -> None:
    rows = {row["name"]: row["what"] for row in parts.rows("metrics")}
    assert set(rows) == set(NAMES)
    assert rows["pass_at_k"].startswith("pass@k for k = 1, 10 and 100")


def test_every_kind_of_task_has_its_primary_metric(study: Path) -> None:
    frames = read_frames(study)
    for task in frames.tasks:
        own = frames.metrics[frames.metrics["task"] == task]
        primary = frames.quality[frames.quality["task"] == task].set_index("method")
        same = own[own["metric"] == frames.primary_metric(task)].set_index("method")
        for column in ("value", "low", "high"):
            assert same[column].to_dict() == pytest.approx(primary[column].to_dict())


def test_seeds_are_pooled_problem_by_problem(large_study: Path) -> None:
    frames = read_frames(large_study)
    own = frames.metrics.query("metric == 'pass@1'").set_index(["model", "method", "task"])
    rates = frames.pass_rates.set_index(["model", "method", "task"])
    assert own["value"].to_dict() == pytest.approx(rates["value"].to_dict())
    assert set(own["n_seeds"]) == {1, 2}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_example(PAGE, "solved", tmp_path / "site", monkeypatch)


def rows(frames: Frames, metric: str) -> dict[tuple[str, str], float]:
    own = frames.metrics[frames.metrics["metric"] == metric]
    return {(row["method"], row["task"]): row["value"] for _, row in own.iterrows()}


@pytest.mark.usefixtures("installed")
def test_example_of_the_page_is_part_of_frames_and_report(study: Path) -> None:
    frames = read_frames(study)
    solved = rows(frames, "solved")
    for _, row in frames.pass_rates.iterrows():  # one sample a problem: solved is pass@1
        assert solved[row["method"], row["task"]] == pytest.approx(row["value"])
    late = frames.outcomes.query("method == 'lora' and task == 'minipack-fix'")
    n_late = late[late["outcome"] == "timed_out"]["n"].sum()
    assert rows(frames, "timed-out")["lora", "minipack-fix"] == pytest.approx(n_late / 40)
    view: View = registry.load(views, "view", "metrics")
    table = view.render(frames)
    assert isinstance(table, Table)
    assert "solved" in {row["metric"] for row in table.rows}
