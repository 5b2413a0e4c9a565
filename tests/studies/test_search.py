"""Learning-rate searches: what is tried, what is chosen, and the training that takes it up."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.config import parse_yaml
from astraios.errors import ConfigError, DivergedError, MissingDataError, TrainingError
from astraios.files import read_json
from astraios.progress import silent
from astraios.records import ChosenRate, RunKind, Step, Trial
from astraios.runs import Run, is_done, read_run
from astraios.studies.checks import check, warnings
from astraios.studies.plan import Job, plan
from astraios.studies.search import Range, Search
from astraios.studies.study import Study
from astraios.studies.work import work
from astraios.training.config import TrainingConfig

YAML = """
name: searched
base_models: [a/one]
methods: [lora, ia3]
tasks: [minipack-synthesize]
seeds: [0, 1]
training:
  optimization: {n_steps: 90, batch_size: 4, n_warmup_steps: 9}
search: {learning_rate: [0.001, 0.01, 0.1]}
overrides:
- where: {method: ia3}
  set: {search.learning_rate: {low: 0.0001, high: 1.0, n: 9}, search.how: halving}
"""


def study(*overrides: str) -> Study:
    return parse_yaml(YAML, Study, overrides, source="study.yaml")


def trainings(jobs: list[Job], method: str) -> list[Job]:
    return [job for job in jobs if job.kind is RunKind.TRAIN and config(job).method == method]


def config(job: Job) -> TrainingConfig:
    assert isinstance(job.config, TrainingConfig)
    return job.config


def test_a_grid_tries_every_rate_at_full_length_with_a_seed_of_its_own() -> None:
    trials = [job for job in trainings(plan(study()), "lora") if job.is_trial]
    assert [config(t).optimization.learning_rate for t in trials] == [0.001, 0.01, 0.1]
    assert {(config(t).optimization.n_steps, config(t).seed) for t in trials} == {(90, 1000)}


def test_halving_lets_a_third_go_on_for_three_times_as_long() -> None:
    trials = [job for job in trainings(plan(study()), "ia3") if job.is_trial]
    steps = [config(t).optimization.n_steps for t in trials]
    assert steps == [30] * 9 + [90] * 3
    assert [config(t).optimization.n_warmup_steps for t in trials] == [3] * 9 + [9] * 3
    assert [t.place.rank for t in trials if t.place] == [0, 1, 2]


def test_trainings_of_all_seeds_come_after_the_search_and_take_its_best() -> None:
    jobs = plan(study())
    found = {job.id: job for job in jobs}
    for method in ("lora", "ia3"):
        own = [job for job in trainings(jobs, method) if not job.is_trial]
        assert [config(job).seed for job in own] == [0, 1]
        (search,) = {job.place.search for job in own if job.place}
        assert found[search].kind is RunKind.SEARCH
        assert all(search in job.after and job.inputs["search"] == search for job in own)


def test_no_trial_is_asked_a_task() -> None:
    jobs = plan(study())
    trials = {job.id for job in jobs if job.is_trial}
    asked = [job for job in jobs if job.kind in (RunKind.GENERATE, RunKind.JUDGE)]
    assert trials and not any(trials & set(job.after) for job in asked)


def test_other_rates_are_another_training_and_a_rate_that_is_not_used_is_none() -> None:
    def arms(*overrides: str) -> list[str]:
        jobs = trainings(plan(study(*overrides)), "lora")
        return [job.id for job in jobs if not job.is_trial]

    assert arms() == arms("training.optimization.learning_rate=0.5")
    assert arms() != arms("search.learning_rate=[0.001, 0.01]")


def test_a_study_that_searches_nothing_says_nothing_of_it() -> None:
    plain = study("search=null", "overrides=[]", "training.optimization.learning_rate=0.1")
    assert "search" not in plain.model_dump(mode="json")
    assert not [job for job in plan(plain) if job.kind is RunKind.SEARCH or job.is_trial]


def test_a_method_keeps_its_own_rate_where_it_is_told_to() -> None:
    jobs = plan(study("overrides=[{where: {method: ia3}, set: {search.how: none, "
                      "training.optimization.learning_rate: 0.3}}]"))  # fmt: skip
    own = trainings(jobs, "ia3")
    assert [job.place for job in own] == [None, None]
    assert {config(job).optimization.learning_rate for job in own} == {0.3}


@given(
    st.floats(1e-6, 1e-2),
    st.floats(1.5, 1e4),
    st.integers(2, 12),
)
def test_a_range_has_equal_ratios_and_both_ends(low: float, times: float, n: int) -> None:
    rates = Range(low=low, high=low * times, n=n).rates
    assert len(rates) == n
    assert rates[0] == pytest.approx(low, rel=1e-2)
    assert rates[-1] == pytest.approx(low * times, rel=1e-2)
    ratios = [b / a for a, b in itertools.pairwise(rates)]
    assert all(ratio == pytest.approx(ratios[0], rel=0.02) for ratio in ratios)


@given(st.integers(2, 60), st.integers(2, 5), st.integers(1, 500))
def test_rungs_shrink_and_the_last_is_as_long_as_the_training(
    n: int, factor: int, n_steps: int
) -> None:
    rates = tuple(1e-5 * 2**k for k in range(n))
    rungs = Search(learning_rate=rates, how="halving", factor=factor).rungs(n_steps)
    sizes, steps = [r.n_trials for r in rungs], [r.n_steps for r in rungs]
    assert sizes[0] == n and sizes[-1] <= factor
    assert all(b < a for a, b in itertools.pairwise(sizes))
    assert steps == sorted(steps) and steps[-1] == n_steps and steps[0] >= 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.learning_rate=[0.1]", "two different rates"),
        ("search.learning_rate=[0.1, 0.2, 0.1]", "0.1 is there twice"),
        ("search.learning_rate=[0.1, -1]", "above 0"),
        ("search.learning_rate={low: 1, high: 0.1, n: 3}", "below high"),
        ("search.hwo=grid", "unknown field 'search.hwo'.*Did you mean 'how'"),
        ("search.on=test", "validation_loss"),
        ("overrides=[{where: {seed: 0}, set: {search.how: none}}]", "one for all seeds"),
    ],
)
def test_a_mistake_in_a_search_is_told(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(study(override))


def test_a_seed_of_the_study_is_none_for_trials() -> None:
    with pytest.raises(ConfigError, match=r"search\.seed 1 is one of the study's seeds"):
        check(study("search.seed=1"))


def test_a_rate_that_is_set_and_searched_is_told() -> None:
    read = study("overrides=[{where: {method: lora}, set: "
                 "{training.optimization.learning_rate: 0.5}}]")  # fmt: skip
    (line,) = warnings(read)
    assert "a/one lora" in line and "overrides.0 is not used" in line


# --- at work ----------------------------------------------------------------------------------


def losses(monkeypatch: pytest.MonkeyPatch, loss_of: Mapping[float, float | None]) -> list[float]:
    """Trainings that end with a given validation loss, or diverge; gives the rates in order."""
    seen: list[float] = []

    def tune(config: TrainingConfig, folder: Path, **how: Any) -> None:
        rate = config.optimization.learning_rate
        seen.append(rate)
        with Run.open(folder, kind=RunKind.TRAIN, config=config, inputs=how["inputs"]) as run:
            loss = loss_of[rate]
            if loss is None:
                raise DivergedError("the training diverges")
            (folder / "adapter").mkdir()
            (folder / "adapter" / "weights").write_text("w")
            steps = config.optimization.n_steps
            run.append("metrics", Step(step=0, validation_loss=9.0))
            run.append("metrics", Step(step=steps, validation_loss=loss + 30 / steps))
            run.seal()

    monkeypatch.setattr("astraios.training.tune.tune", tune)
    return seen


def do(jobs: list[Job], root: Path) -> None:
    for job in jobs:
        if job.kind in (RunKind.TRAIN, RunKind.SEARCH):
            work(job, root, sandbox="best", data_dir=None, progress=silent)


def of(method: str, jobs: list[Job]) -> list[Job]:
    return [job for job in jobs if job.id.split("/")[2] == method and "eval" not in job.id]


@pytest.fixture(autouse=True)
def _torch() -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'astraios[train]'")


def test_the_best_rate_is_recorded_and_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = losses(monkeypatch, {0.001: 2.0, 0.01: 1.5, 0.1: None})
    jobs = of("lora", plan(study()))
    do(jobs, tmp_path)
    (search,) = (job for job in jobs if job.kind is RunKind.SEARCH)
    chosen = read_json(tmp_path / search.id / "chosen.json", ChosenRate)
    assert (chosen.learning_rate, chosen.at_edge, chosen.n_diverged) == (0.01, "", 1)
    assert chosen.ranking == (0.01, 0.001, 0.1)
    trials = list(read_run(tmp_path / search.id).read("trials", Trial))
    assert [t.validation_loss is None for t in trials] == [False, False, True]
    assert trials[-1].diverged == "the training diverges"
    assert seen == [0.001, 0.01, 0.1, 0.01, 0.01]
    arm = next(job for job in jobs if job.kind is RunKind.TRAIN and not job.is_trial)
    told = read_run(tmp_path / arm.id).manifest
    assert told.config["optimization"]["learning_rate"] == 0.01
    assert told.inputs["search"] == search.id


def test_trials_keep_losses_and_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses(monkeypatch, {0.001: 2.0, 0.01: 1.5, 0.1: None})
    jobs = of("lora", plan(study()))
    do(jobs, tmp_path)
    for job in jobs:
        if job.kind is RunKind.TRAIN:
            assert is_done(tmp_path / job.id)
            assert (tmp_path / job.id / "adapter").exists() != job.is_trial


def test_halving_carries_the_best_rates_on_and_warns_at_the_edge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = Range(low=0.0001, high=1.0, n=9).rates
    seen = losses(monkeypatch, {rate: float(-place) for place, rate in enumerate(rates)})
    jobs = of("ia3", plan(study()))
    do(jobs, tmp_path)
    assert seen == [*rates, *rates[:-4:-1], rates[-1], rates[-1]]
    last = next(job for job in jobs if job.id.startswith("search/one/ia3/chosen"))
    chosen = read_json(tmp_path / last.id / "chosen.json", ChosenRate)
    assert (chosen.learning_rate, chosen.at_edge, chosen.n_trials) == (1.0, "high", 12)
    assert "a better one may lie above it" in chosen.warning
    trials = list(read_run(tmp_path / last.id).read("trials", Trial))
    assert [t.rung for t in trials] == [0] * 9 + [1] * 3


def test_a_search_of_which_all_diverge_says_what_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses(monkeypatch, {0.001: None, 0.01: None, 0.1: None})
    with pytest.raises(TrainingError, match=r"all 3 .* a/one lora diverged.*lower"):
        do(of("lora", plan(study())), tmp_path)


def test_a_training_before_its_search_is_refused(tmp_path: Path) -> None:
    arm = next(job for job in plan(study()) if job.place and not job.is_trial)
    with pytest.raises(MissingDataError, match="is not a run folder"):
        work(arm, tmp_path, sandbox="best", data_dir=None, progress=silent)


def test_a_search_that_is_killed_between_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = losses(monkeypatch, {0.001: 2.0, 0.01: 1.5, 0.1: None})
    jobs = of("lora", plan(study()))
    do(jobs[:2], tmp_path)
    do(jobs, tmp_path)
    do(jobs, tmp_path)
    assert sorted(seen) == [0.001, 0.01, 0.01, 0.01, 0.1]
