"""Arms of a study differ in what it sweeps and overrides, and in nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from astraios.config import parse_yaml
from astraios.studies import differences as module
from astraios.studies.checks import check
from astraios.studies.differences import differences, undeclared, unsearched
from astraios.studies.plan import plan
from astraios.studies.presets import names, read_study
from astraios.studies.study import Arm, Study, arms, training_config
from astraios.training.config import TrainingConfig
from astraios.training.recipes import RATES, recipe

YAML = """
name: small
base_models: [minipack-0.2m, minipack-0.4m]
methods: [fft, lora, ia3]
tasks: [minipack-synthesize]
seeds: [0, 1]
training:
  optimization: {n_steps: 10, batch_size: 4, learning_rate: 0.01}
overrides:
- {where: {method: fft}, set: {training.base_precision: bf16, evaluation.precision: bfloat16}}
- {where: {base_model: minipack-0.4m, seed: 1}, set: {training.optimization.batch_size: 8}}
"""


def study(*overrides: str) -> Study:
    return parse_yaml(YAML, Study, overrides, source="study.yaml")


@pytest.mark.parametrize("name", names())
def test_arms_of_shipped_studies_differ_only_in_what_they_say(name: str) -> None:
    read = read_study(name)
    check(read)
    assert undeclared(read) == []


def test_every_field_that_differs_is_told_with_its_arms() -> None:
    found = {
        (one.base_model, one.method, one.field, one.value, one.usual, one.seeds)
        for one in differences(study())
    }
    bases, both = ("minipack-0.2m", "minipack-0.4m"), (0, 1)
    assert found == {
        *((b, "fft", "training.base_precision", "bf16", "fp32", both) for b in bases),
        *((b, "fft", "evaluation.precision", "bfloat16", "float32", both) for b in bases),
        *(
            ("minipack-0.4m", method, "training.optimization.batch_size", 8, 4, (1,))
            for method in ("fft", "lora", "ia3")
        ),
    }
    assert undeclared(study()) == []


def test_a_difference_that_nobody_asked_for_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def drifted(read: Study, arm: Arm, *more: Any) -> TrainingConfig:
        config = training_config(read, arm, *more)
        return config.model_copy(update={"n_examples": 7}) if arm.method == "ia3" else config

    monkeypatch.setattr(module, "training_config", drifted)
    assert {(one.method, one.field) for one in undeclared(study())} == {
        ("ia3", "training.n_examples")
    }


def test_rates_that_are_searched_may_differ() -> None:
    searched = study("search={learning_rate: [0.1, 1.0]}")
    assert undeclared(searched) == []
    one = study(
        "search={learning_rate: [0.1, 1.0]}",
        "overrides=[{where: {method: fft}, set: {search.learning_rate: [0.001, 0.01]}}]",
    )
    told = {(d.method, d.value) for d in differences(one)}
    assert told == {("fft", "searched: 0.001 ... 0.01 (2, grid)")}
    assert undeclared(one) == []


def test_a_rate_far_from_the_known_one_is_warned_of_unless_it_is_searched() -> None:
    (line,) = unsearched(study("training.optimization.learning_rate=0.004"))
    assert "ia3 on minipack-0.2m and 1 more" in line
    assert "0.004 is 25 times as small as 0.1" in line and "search" in line
    assert not list(unsearched(study("search={learning_rate: [0.1, 1.0]}")))


def test_the_paper_is_warned_of_where_its_rate_is_an_order_away() -> None:
    told = list(unsearched(read_study("paper")))
    assert {line.split()[0] for line in told} == {"ptuning", "ia3"}
    assert not list(unsearched(read_study("paper-fair")))
    assert not list(unsearched(read_study("embedded-quick")))


# --- the paper --------------------------------------------------------------------------------


def test_the_paper_trains_as_its_recipe_says() -> None:
    read = read_study("paper")
    found = list(arms(read))
    assert len(found) == 28
    for arm in found:
        wanted = TrainingConfig.model_validate(recipe("paper", arm.base_model, arm.method))
        assert training_config(read, arm) == wanted


def test_the_fair_study_trains_as_its_recipe_says_but_for_rate_and_seed() -> None:
    read = read_study("paper-fair")
    for arm in arms(read):
        wanted = TrainingConfig.model_validate(recipe("fair", arm.base_model, arm.method))
        made = training_config(read, arm, RATES[arm.method])
        assert made == wanted.model_copy(update={"seed": arm.seed})
    assert {arm.seed for arm in arms(read)} == {0, 1, 2}


def test_fair_arms_share_their_rows_and_a_search_around_the_published_rate() -> None:
    read = read_study("paper-fair")
    jobs = plan(read, lacking={})
    packed = [job for job in jobs if job.kind == "pack"]
    assert len(packed) == len(read.base_models)
    for job in (job for job in jobs if job.kind == "search"):
        rates = job.config.rates  # type: ignore[union-attr]
        assert rates[0] * 9.9 < RATES[job.config.method] < rates[-1] / 9.9  # type: ignore[union-attr, index]


def test_the_paper_asks_all_of_its_tasks_by_the_original_protocols() -> None:
    versions = {
        (job.config.task, job.config.task_version)  # type: ignore[union-attr]
        for job in plan(read_study("paper"), lacking={})
        if job.kind == "generate"
    }
    assert len(versions) == 15
    for task, version in versions:
        kind = "seeds-5" if task.startswith("recode") else "original"
        assert version.startswith("codeql" if task == "aatk" else kind)
