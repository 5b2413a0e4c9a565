"""Predictions of larger sizes: right on laws, refused where there is none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from astraios.analysis import forecasting
from astraios.analysis.powerlaws import (
    FLOOR,
    POWER,
    VIA_LOSS,
    Series,
    loss_at,
    loss_law,
    score_laws,
)
from astraios.analysis.predict import LOSS, Forecast, predict
from astraios.analysis.published_numbers import published_numbers
from astraios.cli import app
from astraios.errors import ConfigError, DataError, UnknownNameError
from astraios.published import SIZES as PUBLISHED

Make = Callable[..., "object"]
SIZES = {"s": 1_000_000, "m": 3_000_000, "l": 9_000_000}
TARGET = 18e6


def logistic(size: float, level: float = 0.0, slope: float = 0.5) -> float:
    return 1 / (1 + math.exp(-(level + slope * math.log(size / 3e6))))


def grows(model: str, method: str, task: str) -> float:
    return logistic(SIZES[model], {"fft": 0.5}.get(method, -0.5))


def falls(model: str, method: str, task: str) -> float:
    """A validation loss that follows a power law."""
    return 1.2 * (SIZES[model] / 1e6) ** -0.15


@pytest.fixture(scope="module")
def grid(make: Make):
    return make(grows, methods=("fft", "lora"), kinds={"fix": "pass"}, n=400, loss=falls)


@pytest.fixture(scope="module")
def forecast(grid) -> Forecast:
    return predict(grid, TARGET)


def series(scores: list[float], sizes: list[float] | None = None, n: int = 200, **more) -> Series:
    random = np.random.default_rng(0)
    score = np.array(scores)
    error = np.sqrt(np.maximum(score * (1 - score), 0.01) / n)
    redrawn = np.clip(score + error * random.normal(size=(500, len(score))), 0, 1)
    x = np.array(sizes or [1e6 * 3**i for i in range(len(scores))])
    return Series("lora", x, score, redrawn, np.full(len(score), float(n)), **more)


# --- laws -------------------------------------------------------------------------------------


def test_a_score_on_its_law_is_extended_along_it():
    sizes = [1e6, 3e6, 9e6]
    law = score_laws([series([logistic(n) for n in sizes], sizes)], 27e6)["lora"]
    assert law.value.value == pytest.approx(logistic(27e6), abs=0.005)
    assert law.value.low < logistic(27e6) < law.value.high
    assert law.error < 0.005


def test_an_error_that_falls_as_a_power_is_recognised():
    sizes = [1e6, 2e6, 4e6, 8e6]
    scores = [1 - 0.9 * (n / 1e6) ** -0.6 for n in sizes]
    law = score_laws([series(scores, sizes)], 16e6)["lora"]
    assert law.form == "error"
    assert law.value.value == pytest.approx(1 - 0.9 * 16**-0.6, abs=0.01)


def test_a_score_that_follows_the_loss_is_predicted_through_it():
    sizes = [1e6, 2e6, 4e6, 8e6]
    loss = np.array([0.5 + 2.0 * (n / 1e6) ** -1.5 for n in sizes])
    scores = [1 / (1 + math.exp(3 * (value - 1.0))) for value in loss]
    found = score_laws([series(scores, sizes, loss_S=loss)], 16e6)["lora"]
    plain = score_laws([series(scores, sizes)], 16e6)["lora"]
    assert found.form in (VIA_LOSS, plain.form)
    assert found.error <= plain.error


def test_sizes_left_out_are_foretold_by_the_loss_law_of_the_prediction():
    sizes = [1e6, 2e6, 4e6, 8e6, 16e6]
    loss = np.array([0.5 + 2.0 * (n / 1e6) ** -1.5 for n in sizes])
    assert loss_law(np.array(sizes), loss, 32e6).form == FLOOR
    scores = [1 / (1 + math.exp(3 * (value - 1.0))) for value in loss]
    found = score_laws([series(scores, sizes, n=10**6, loss_S=loss)], 32e6)["lora"]
    assert found.form == VIA_LOSS
    assert found.error < 1e-4  # scores follow losses and losses their law, so nothing is missed


@pytest.mark.parametrize("floor", [0.0, 0.4])
def test_a_loss_on_its_law_is_extended_along_it(floor):
    sizes = np.array([1e6, 2e6, 4e6, 8e6, 16e6])
    loss = floor + 1.5 * (sizes / 1e6) ** -0.4
    law = loss_law(sizes, loss, 32e6)
    assert law.form == (FLOOR if floor else POWER)
    truth = floor + 1.5 * 32**-0.4
    assert law.value.value == pytest.approx(truth, rel=0.01)
    assert law.value.low < truth < law.value.high


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=5), st.floats(1, 8))
def test_every_prediction_is_a_share_inside_its_interval(scores: list[float], factor: float):
    one = series(scores)
    law = score_laws([one], factor * float(one.sizes[-1]))["lora"]
    assert 0 <= law.value.low <= law.value.value <= law.value.high <= 1
    assert len(law.left_out) == len(scores)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.05, 0.95), min_size=3, max_size=4), st.floats(1e-3, 1e3))
def test_the_unit_of_size_does_not_matter(scores: list[float], unit: float):
    one = series(scores)
    other = replace(one, sizes=one.sizes * unit)
    target = 2 * float(one.sizes[-1])
    a, b = score_laws([one], target)["lora"], score_laws([other], target * unit)["lora"]
    assert a.value.value == pytest.approx(b.value.value, rel=1e-6, abs=1e-9)
    assert a.value.high == pytest.approx(b.value.high, rel=1e-6, abs=1e-9)


def test_further_out_is_less_certain():
    one = series([0.3, 0.4, 0.5])
    widths = []
    for factor in (1.5, 3, 6):
        ends = score_laws([one], factor * 9e6)["lora"].value
        logit = [math.log(p / (1 - p)) for p in (ends.low, ends.high)]
        widths.append(logit[1] - logit[0])
    assert widths == sorted(widths)


def test_loss_law_by_hand():
    assert loss_at(np.array([1.0, 10.0]), np.array([2.0, 1.0]), 100.0) == pytest.approx(0.5)


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Sizes lie 0.1 logits off their law, three of them are measured on 200 problems."""
    random = np.random.default_rng(1)
    sizes, n, hits, trials = np.array([1e6, 3e6, 9e6]), 200, 0, 400
    for _ in range(trials):
        level, slope = random.normal(0, 1), random.normal(0.4, 0.2)
        x = np.log(np.append(sizes, 18e6) / 3e6)
        truth = 1 / (1 + np.exp(-(level + slope * x + random.normal(0, 0.1, 4))))
        measured = random.binomial(n, truth[:3]) / n
        redrawn = random.binomial(n, measured, size=(500, 3)) / n
        one = Series("lora", sizes, measured, redrawn, np.full(3, float(n)))
        law = score_laws([one], 18e6)["lora"]
        hits += law.value.low <= truth[3] <= law.value.high
    assert 0.91 <= hits / trials <= 0.995


def test_the_published_15b_scores_lie_in_the_intervals_of_the_smaller_sizes():
    models = {size.base_model.rpartition("/")[2]: float(size.n_parameters) for size in PUBLISHED}
    rows = published_numbers()
    rows = rows[(rows["task"] == "recode-format") & (rows["slice"] == "mean")]
    scores = rows.pivot(index="method", columns="model", values="percent") / 100
    *small, largest = models
    sizes = [models[model] for model in small]
    given = [
        replace(series(row[small].tolist(), sizes, n=164), method=method)
        for method, row in scores.iterrows()
    ]
    laws = score_laws(given, models[largest])
    assert len(laws) == 7
    off = [laws[method].value.value - truth for method, truth in scores[largest].items()]
    assert np.mean(np.abs(off)) < 0.02
    for method, truth in scores[largest].items():
        assert laws[method].value.low < truth < laws[method].value.high, method


# --- studies ----------------------------------------------------------------------------------


def test_scores_and_losses_of_a_study_are_predicted(forecast: Forecast):
    by_task = {(p.task, p.method): p for p in forecast.predictions}
    assert set(by_task) == {("fix", "fft"), ("fix", "lora"), (LOSS, "fft"), (LOSS, "lora")}
    fft = by_task["fix", "fft"].law.value
    assert fft.low < logistic(TARGET, 0.5) < fft.high
    assert fft.value == pytest.approx(logistic(TARGET, 0.5), abs=0.08)
    loss = by_task[LOSS, "lora"].law.value
    assert loss.low < 1.2 * 18**-0.15 < loss.high
    assert forecast.factor == 2
    assert [p.method for p in forecast.predictions[:2]] == ["fft", "lora"]  # best first


def test_the_target_may_lie_between_the_sizes(grid):
    found = predict(grid, 5e6, methods=["fft"], tasks=["fix"])
    assert found.factor < 1
    assert "within the sizes measured" in forecasting.details(found)[0]


def test_answer_names_the_best_with_its_interval(forecast: Forecast):
    said = forecasting.answer(forecast)
    assert said.startswith("At 18M parameters FFT is predicted to reach ")
    assert "% [" in said


def test_table_and_json_tell_the_error_on_sizes_left_out(forecast: Forecast):
    assert "Error left out" in forecasting.table(forecast).text()
    told = json.loads(json.dumps(forecasting.as_json(forecast)))
    assert len(told["predictions"][0]["left_out"]) == 3
    assert told["predictions"][0]["leave_one_out_error"] >= 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (14e9, r"14B is 1,556 times the largest size measured \(9M\).*up to 81M"),
        (0.5e6, "below the smallest size measured, 1M"),
    ],
)
def test_targets_out_of_reach_are_refused(grid, target, message):
    with pytest.raises(DataError, match=message):
        predict(grid, target)


def test_two_sizes_are_too_few(grid):
    with pytest.raises(DataError, match=r"needs 3 sizes, this study has 2: s \(1M\), m \(3M\)"):
        predict(grid, 4e6, models=["s", "m"])
    unsized = replace(grid, sizes={"s": 1_000_000})
    with pytest.raises(DataError, match="the size of l, m is not recorded"):
        predict(unsized, 4e6)


def test_model_of_unknown_size_is_no_point_of_a_law(grid):
    unsized = replace(grid, sizes={"s": 1_000_000, "m": 3_000_000})
    with pytest.raises(DataError, match=r"the size of 'l' is not recorded.*arms\.jsonl"):
        predict(unsized, 4e6, models=["s", "m", "l"])


def test_models_of_one_size_are_no_family(grid):
    with pytest.raises(DataError, match=r"m and l have the same size.*--model"):
        predict(replace(grid, sizes={**SIZES, "l": 3_010_000}), TARGET)


def test_a_score_that_rises_and_falls_is_refused(make: Make):
    study = make(
        lambda model, method, task: {"s": 0.3, "m": 0.7, "l": 0.4}[model],
        methods=("fft",),
        kinds={"fix": "pass"},
    )
    with pytest.raises(DataError, match="rises from s to m, falls from m to l"):
        predict(study, TARGET)


def test_sizes_left_out_that_are_missed_by_far_are_refused(make: Make):
    study = make(
        lambda model, method, task: {"s": 0.1, "m": 0.11, "l": 0.6}[model],
        methods=("fft",),
        kinds={"fix": "pass"},
    )
    with pytest.raises(DataError, match=r"sizes left out are missed by \d+ points"):
        predict(study, TARGET, tasks=["fix"])


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_scores_at_the_end_of_the_scale_have_no_trend(make: Make, rate):
    study = make(lambda model, method, task: rate, methods=("fft",), kinds={"fix": "pass"}, n=40)
    study = replace(study, units=study.units.assign(value=rate))
    with pytest.raises(DataError, match="so there is no trend"):
        predict(study, TARGET)


def test_guessing_is_not_extended(make: Make):
    study = make(grows, methods=("fft",), kinds={"yes-no": "classification"}, chance=0.9, n=100)
    with pytest.raises(DataError, match="no better than guessing with s, m, l"):
        predict(study, TARGET)


def test_what_cannot_be_predicted_is_listed_beside_what_can(make: Make):
    study = make(grows, methods=("fft", "lora"), kinds={"fix": "pass"}, n=200)
    units = study.units[~((study.units["method"] == "lora") & (study.units["model"] == "m"))]
    found = predict(replace(study, units=units), TARGET)
    assert {p.method for p in found.predictions} == {"fft"}
    told = " ".join(forecasting.details(found))
    assert "LoRA (fix): 3 sizes are needed, there are 2 (s, l)" in told
    assert "no validation loss was recorded" in told
    assert "the only method whose trend there can be extended" in forecasting.answer(found)


def test_a_loss_that_rises_with_size_is_refused(make: Make):
    study = make(
        grows,
        methods=("fft",),
        kinds={"fix": "pass"},
        n=50,
        loss=lambda model, method, task: {"s": 1.0, "m": 1.2, "l": 0.9}[model],
    )
    with pytest.raises(DataError, match="rises with size somewhere"):
        predict(study, TARGET, tasks=[LOSS])


@pytest.mark.parametrize(
    "options", [{"methods": ["lorra"]}, {"tasks": ["fox"]}, {"models": ["xl"]}]
)
def test_unknown_names_are_refused(grid, options):
    with pytest.raises(UnknownNameError, match="unknown judged"):
        predict(grid, TARGET, **options)


def test_equal_studies_get_equal_predictions(grid, forecast: Forecast):
    shuffled = replace(grid, units=grid.units.sample(frac=1, random_state=2))
    assert forecasting.as_json(predict(shuffled, TARGET)) == forecasting.as_json(forecast)


# --- command ----------------------------------------------------------------------------------


def test_command_says_why_it_predicts_nothing(study: Path):
    done = CliRunner().invoke(app, ["predict", str(study), "--to", "14B"])
    assert isinstance(done.exception, DataError)
    assert "a prediction needs 3 sizes, this study has 1" in str(done.exception)


def test_command_reads_sizes(study: Path):
    done = CliRunner().invoke(app, ["predict", str(study), "--to", "big"])
    assert isinstance(done.exception, ConfigError)
    assert "--to: 'big' is no number of parameters" in str(done.exception)
