"""What is recommended within a budget, and what is said where nothing can be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from astraios.analysis import advice
from astraios.analysis.frames import read_frames
from astraios.analysis.limits import Limits, Price, breaches, prices
from astraios.analysis.quantities import (
    parse_count,
    parse_memory,
    parse_share,
    show_count,
    show_hours,
    show_memory,
)
from astraios.analysis.recommend import Recommendation, recommend
from astraios.cli import app
from astraios.config import Config
from astraios.errors import ConfigError, UnknownNameError
from astraios.records import Cost, RunKind, Verdict
from astraios.runs import MANIFEST, Run

Make = Callable[..., "object"]
SCORE = {"base": 0.1, "fft": 0.6, "lora": 0.6, "ia3": 0.3, "adapterh": 0.6}
METHODS = tuple(SCORE)
MERGES = {"fft": True, "lora": True, "ia3": True, "adapterh": False, "odd": None}
ONE = {"m": 3_000_000}
PAIR = ("fft", "lora")


def score(model: str, method: str, task: str) -> float:
    return SCORE[method]


class OfArm(Config):
    base_model: str
    method: str
    task: str
    take: str


class OfJudging(Config):
    task: str
    task_version: str


def ask(study, limits: Limits | None = None, **options) -> Recommendation:
    return recommend(study, limits or Limits(), MERGES.get, **options)


def taken(found: Recommendation) -> set[str]:
    return {candidate.method for candidate in found.recommended}


@pytest.fixture(scope="module")
def grid(make: Make):
    return make(score, sizes=ONE, methods=METHODS, n=150)


@pytest.fixture(scope="module")
def two_sizes(make: Make):
    def grows(model: str, method: str, task: str) -> float:
        return SCORE[method] + (0.2 if model == "l" else 0)

    return make(grows, sizes={"m": 3_000_000, "l": 9_000_000}, methods=METHODS, n=200)


def test_methods_as_good_as_the_best_are_tied_and_the_others_are_not(grid):
    found = ask(grid)
    assert {c.method for c in found.candidates if c.tied} == {"fft", "lora", "adapterh"}
    behind = {c.method: c for c in found.candidates if not c.tied}
    assert set(behind) == {"base", "ia3"}
    for candidate in behind.values():
        assert candidate.p_holm < 0.05
        assert candidate.difference.high < 0


def test_of_the_tied_those_are_taken_that_no_other_dominates(grid):
    found = ask(grid)
    for candidate in found.candidates:
        if not candidate.tied:
            continue
        dominated = any(
            other.score.value >= candidate.score.value
            and other.price.trainable < candidate.price.trainable
            and other.price.memory_mib <= candidate.price.memory_mib
            and other.price.hours <= candidate.price.hours
            for other in found.candidates
            if other.tied
        )
        assert candidate.recommended != dominated, candidate
    assert "lora" in taken(found)  # the cheapest of the tied


def test_a_cost_that_no_training_recorded_decides_nothing(make: Make):
    study = make(lambda m, a, t: {"fft": 0.6, "lora": 0.62}[a], sizes=ONE, methods=PAIR, n=150)
    assert taken(ask(replace(study, costs=study.costs.assign(peak_mib=0.0)))) == {"lora"}


def test_where_nothing_is_solved_nothing_is_recommended(make: Make):
    found = ask(make(lambda m, a, t: 0.0, sizes=ONE, methods=METHODS[:3], n=40, seed_spread=0.0))
    assert taken(found) == set()
    assert advice.answer(found) == (
        "No method within the limits scores above zero on synthesize and fix: nothing can be "
        "recommended."
    )


@pytest.mark.parametrize("kind", ["classification", "security"])
def test_where_no_task_counts_by_itself_one_can_be_named(make: Make, kind: str):
    study = make(score, sizes=ONE, methods=PAIR, kinds={"c": kind}, n=60, chance=0.9)
    found = ask(study)
    assert (found.candidates, found.tasks) == ((), ())
    assert advice.answer(found).endswith("--task names tasks to go by.")
    assert ask(study, weights={"c": 1.0}).candidates


def without(study, method: str, groups: list[str]):
    """The study with faults of `method` on these problems."""
    units = study.units
    faulty = (units["method"] == method) & units["group"].isin(groups)
    return replace(study, units=units.assign(value=units["value"].mask(faulty)))


def test_a_method_with_faults_is_compared_on_the_problems_that_it_has(make: Make):
    study = make(score, sizes=ONE, methods=("fft", "ia3"), kinds={"fix": "pass"}, n=150)
    solved = study.units[study.units["value"] > 0].groupby("method")["group"].unique()
    hard = [f"fix/{i}" for i in range(150) if f"fix/{i}" not in set(solved["ia3"])]
    found = ask(without(study, "ia3", hard[:60]))
    means = study.units[~study.units["group"].isin(hard[:60])].groupby("method")["value"].mean()
    assert {c.method: c.score.value for c in found.candidates} == pytest.approx(dict(means))
    assert {c.n_problems for c in found.candidates} == {90}
    assert "60 of 150 problems of fix are left out of comparisons" in found.notes[0]


def test_a_method_with_a_result_on_few_problems_is_not_compared(make: Make):
    study = make(score, sizes=ONE, methods=("fft", "ia3"), kinds={"fix": "pass"}, n=150)
    found = ask(without(study, "ia3", [f"fix/{i}" for i in range(76)]))
    assert [(c.method, c.n_problems) for c in found.candidates] == [("fft", 150)]
    assert found.notes == (
        "(IA)³ (m) has a result on too few problems of fix, and is not compared there.",
    )


def test_models_asked_other_halves_of_a_task_are_compared_on_what_both_have(make: Make):
    study = make(score, sizes={"s": 10**6, "m": 3 * 10**6}, methods=("fft",), kinds={"fix": "pass"})
    places = study.units["group"].str.partition("/")[2].astype(int)
    seen = (places < 200).where(study.units["model"] == "s", places >= 100)
    halves = replace(study, units=study.units[seen])
    assert {(c.model, c.n_problems) for c in ask(halves).candidates} == {("s", 100), ("m", 100)}
    assert {c.n_problems for c in ask(halves, model="s").candidates} == {200}


def test_problems_that_tasks_share_are_counted_once(make: Make):
    study = make(score, sizes=ONE, methods=("lora",), n=150)
    assert {c.n_problems for c in ask(study).candidates} == {300}
    same = study.units.assign(group=study.units["group"].str.partition("/")[2])
    assert {c.n_problems for c in ask(replace(study, units=same)).candidates} == {150}


def test_cheapest_is_named_where_several_are_taken(make: Make):
    study = make(lambda m, a, t: {"fft": 0.62}.get(a, 0.6), sizes=ONE, methods=METHODS[1:3], n=200)
    found = ask(study)
    said = advice.answer(found)
    if len(found.recommended) == 2:
        assert "The cheapest of these is LoRA: it trains 9k parameters" in said
    else:
        assert said.startswith("LoRA")


@pytest.mark.parametrize(
    ("limits", "gone", "named"),
    [
        (Limits(max_memory_mib=310), {"fft", "adapterh"}, "memory: 1.17 GiB"),
        (Limits(max_trainable=100_000), {"fft"}, "trainable: 3M, 2.9M over 100k"),
        (Limits(max_trainable_share=0.01), {"fft", "adapterh"}, "trainable share: 3 %"),
        (Limits(max_hours=1), {"adapterh"}, "hours: 1.08 h"),
        (Limits(mergeable=True), {"adapterh"}, "cannot be folded"),
        (Limits(max_latency_s=3), set(), ""),
        (Limits(min_tokens_per_s=900), {"adapterh"}, "speed: 769 tokens/s, 131 tokens/s below 900"),
    ],
)
def test_what_breaks_a_limit_is_left_out_with_the_number(grid, limits, gone, named):
    found = ask(grid, limits)
    out = {c.method: c for c in found.candidates if not c.fits}
    assert set(out) >= gone
    assert not taken(found) & gone
    texts = " ".join(breach.text for c in out.values() for breach in c.breaches)
    assert named in texts
    assert all(not c.tied and c.difference is None for c in out.values())


def test_what_the_limits_forgo_is_told(make: Make):
    study = make(lambda m, a, t: {"fft": 0.9}.get(a, 0.4), sizes=ONE, methods=METHODS)
    found = ask(study, Limits(max_trainable=100_000))
    told = " ".join(advice.details(found))
    assert "Best without the limits: FFT" in told


def test_where_nothing_fits_the_binding_limit_and_its_excess_are_named(grid):
    found = ask(grid, Limits(max_memory_mib=200, max_trainable=1_000_000))
    assert not found.recommended
    said = advice.answer(found)
    assert said.startswith(
        "Nothing fits: no method keeps the limit on memory: 300 MiB, 100 MiB over"
    )
    assert "(IA)³" in said


def test_limits_that_only_together_leave_nothing_are_told_so(grid):
    found = ask(grid, Limits(mergeable=True, max_trainable=50, max_hours=0.5))
    assert "limits on" in advice.answer(found)
    only = make_only(grid, ("fft", "adapterh"))
    found = ask(only, Limits(mergeable=True, max_trainable=100_000))
    assert "each limit is kept by some method, all of them by none" in advice.answer(found)


def make_only(study, methods: tuple[str, ...]):
    return replace(study, units=study.units[study.units["method"].isin(methods)])


def test_costs_that_were_not_recorded_are_neither_kept_nor_broken(grid):
    unpriced = replace(grid, costs=grid.costs[grid.costs["kind"] != "train"])
    found = ask(unpriced, Limits(max_memory_mib=1e6))
    assert not found.recommended
    assert "memory was not recorded for any method" in advice.answer(found)
    assert taken(ask(unpriced)) >= {"lora"}  # without a limit it does not matter
    one = grid.costs[~((grid.costs["kind"] == "train") & (grid.costs["method"] == "fft"))]
    found = ask(replace(grid, costs=one), Limits(max_memory_mib=1e6))
    assert "1 of 5 could not be checked" in " ".join(advice.details(found))


@pytest.fixture
def better_of_two(make: Make):
    """FFT scores a little higher than LoRA, and both cost the same."""
    two = make(lambda m, a, t: {"fft": 0.62}.get(a, 0.6), sizes=ONE, methods=METHODS[1:3], n=60)
    same = {"peak_mib": 300.0, "wall_s": 3000.0}
    alike = two.trainable.assign(trainable_parameters=9000.0)
    return replace(two, costs=two.costs.assign(**same), trainable=alike)


def test_a_rival_of_unknown_cost_dominates_nothing(better_of_two):
    found = ask(better_of_two)
    assert {c.method for c in found.candidates if c.tied} == {"fft", "lora"}
    best = found.leader.method
    assert taken(found) == {best}
    costs = better_of_two.costs
    of_best = (costs["kind"] == "train") & (costs["method"] == best)
    unknown = replace(better_of_two, costs=costs.assign(wall_s=costs["wall_s"].mask(of_best, 0.0)))
    assert taken(ask(unknown)) == {"fft", "lora"}


def test_without_any_recorded_cost_none_dominates(better_of_two):
    bare = replace(
        better_of_two,
        costs=better_of_two.costs.iloc[:0],
        trainable=better_of_two.trainable.iloc[:0],
        sizes={},
    )
    assert taken(ask(bare)) == {"fft", "lora"}


def test_trainings_whose_time_was_not_measured_are_not_averaged_as_zero(grid):
    first = (grid.costs["kind"] == "train") & (grid.costs["seed"] == 0)
    half = replace(grid, costs=grid.costs.assign(wall_s=grid.costs["wall_s"].mask(first, 0.0)))
    assert (
        prices(half, MERGES.get)["m", "lora"].hours == prices(grid, MERGES.get)["m", "lora"].hours
    )


def generated(root: Path, name: str, version: str, wall_s: float, finished: str) -> None:
    """One generation of a single sample, judged at `version`."""
    config = OfArm(base_model="tiny", method="lora", task="devign", take=name)
    folder = root / "eval" / name
    cost = {"wall_s": wall_s, "cpu_s": 1.0, "n_tokens": 100, "tokens_per_s": 1.0, "peak_mib": 1.0}
    with Run.open(folder, kind=RunKind.GENERATE, config=config) as run:
        run.write_json("cost", Cost(**cost))
        run.seal()
    judging = OfJudging(task="devign", task_version=version)
    with Run.open(folder / "judged", kind=RunKind.JUDGE, config=judging) as run:
        run.append("verdicts", Verdict(problem_id="p", group="p", index=0, outcome="passed"))
        run.seal()
    path = folder / "judged" / MANIFEST
    told = json.loads(path.read_text()) | {"started": finished, "finished": finished}
    path.write_text(json.dumps(told))


def test_speeds_are_of_the_generations_that_count_whatever_their_edition(tmp_path: Path):
    generated(tmp_path, "old", "full-1", 900.0, "2024-01-01T00:00:00Z")
    generated(tmp_path, "new", "full-1", 4.0, "2024-01-02T00:00:00Z")
    generated(tmp_path, "clean", "clean-1", 6.0, "2024-01-01T00:00:00Z")
    price = prices(read_frames(tmp_path), MERGES.get)["tiny", "lora"]
    assert (price.latency_s, price.tokens_per_s) == (5.0, 20.0)


def test_a_method_alone_is_said_to_be_alone(grid):
    found = ask(make_only(grid, ("lora",)))
    assert advice.answer(found).startswith("LoRA, the only method judged: ")
    assert found.detectable is None


def test_no_gain_over_the_base_is_said(make: Make):
    same = make(lambda m, a, t: 0.5, sizes=ONE, methods=METHODS)
    found = ask(same)
    assert "base" not in taken(found)
    assert "no gain is shown" in advice.answer(found)
    worse = make(lambda m, a, t: 0.9 if a == "base" else 0.3, sizes=ONE, methods=METHODS)
    assert advice.answer(ask(worse)).startswith("Leave the model as it is")


def test_faults_alone_recommend_nothing(grid):
    found = ask(replace(grid, units=grid.units.assign(value=np.nan)))
    assert not found.recommended
    assert "nothing can be recommended" in advice.answer(found)


def test_an_unfinished_cell_is_left_out_and_named(grid):
    units = grid.units[~((grid.units["method"] == "lora") & (grid.units["task"] == "fix"))]
    found = ask(replace(grid, units=units, notes=("1 of 10 cells has no result yet.",)))
    assert "lora" not in {c.method for c in found.candidates}
    told = " ".join(advice.details(found))
    assert "Without a score on all of the tasks, so not compared: LoRA (m); --task" in told
    assert "no result yet" in told


def test_weights_decide_which_task_counts(make: Make):
    def split(model: str, method: str, task: str) -> float:
        return {("fft", "fix"): 0.8, ("lora", "synthesize"): 0.8}.get((method, task), 0.2)

    study = make(split, sizes=ONE, methods=METHODS[:3])
    assert taken(ask(study, weights={"fix": 9, "synthesize": 1})) == {"fft"}
    assert taken(ask(study, weights={"fix": 1, "synthesize": 9})) == {"lora"}
    assert dict(ask(study, weights={"fix": 2}).tasks) == {"fix": 1.0}


def test_models_are_compared_with_each_other_or_one_alone(two_sizes):
    assert {c.model for c in ask(two_sizes).recommended} == {"l"}
    assert {c.model for c in ask(two_sizes, model="m").candidates} == {"m"}


def test_detectable_difference_shrinks_with_the_problems(make: Make, grid):
    few = make(score, sizes=ONE, methods=METHODS, n=50)
    assert ask(few).detectable > ask(grid).detectable > 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weights": {"fox": 1.0}}, UnknownNameError, "Did you mean 'fix'"),
        ({"weights": {"fix": 0.0}}, ConfigError, "above zero"),
        ({"weights": {"fix": float("nan")}}, ConfigError, "above zero"),
        ({"model": "xl"}, UnknownNameError, "judged base model"),
    ],
)
def test_wrong_questions_are_refused(grid, options, error, message):
    with pytest.raises(error, match=message):
        ask(grid, **options)


@pytest.mark.parametrize("bad", [-1.0, 0.0, float("nan")])
def test_a_limit_is_above_zero(bad):
    with pytest.raises(ConfigError, match="above zero"):
        Limits(max_hours=bad)


@given(
    st.builds(
        Price,
        trainable=st.none() | st.floats(1, 1e9),
        size=st.none() | st.integers(1, 10**9),
        memory_mib=st.none() | st.floats(1, 1e6),
        hours=st.none() | st.floats(0.01, 1e3),
        tokens_per_s=st.none() | st.floats(1, 1e5),
        latency_s=st.none() | st.floats(0.01, 1e3),
        mergeable=st.none() | st.booleans(),
    ),
    st.sampled_from(("max_memory_mib", "max_hours", "max_trainable", "max_trainable_share")),
    st.floats(0.01, 1e6),
    st.floats(1, 10),
)
def test_a_looser_limit_never_lets_less_in(price: Price, name: str, tight: float, factor: float):
    strict = breaches(price, Limits(**{name: tight}), "lora")
    loose = breaches(price, Limits(**{name: tight * factor}), "lora")
    assert len(loose) <= len(strict)
    for breach in (*strict, *loose):
        assert (breach.value is None) == ("not recorded" in breach.text)
        assert breach.value is None or breach.excess > 0


def test_json_holds_the_evidence(grid):
    told = json.loads(json.dumps(advice.as_json(ask(grid, Limits(mergeable=True)))))
    assert {"answer", "recommended", "detectable", "candidates", "limits", "tasks"} <= set(told)
    by_method = {c["method"]: c for c in told["candidates"]}
    assert by_method["adapterh"]["excluded_by"][0]["limit"] == "mergeable"
    assert by_method["ia3"]["difference"]["high"] < 0
    assert by_method["lora"]["cost"]["trainable"] == pytest.approx(9000)


# --- quantities -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("14B", 14e9), ("350M", 350e6), ("1.3e9", 1.3e9), ("0.65m", 650e3), ("1,300,000", 1.3e6)],
)
def test_counts_are_read(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize("text", ["", "14X", "B", "-3B", "0", "1e999", "nan", "14 B B"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(ConfigError, match="14B"):
        parse_count(text)


def test_memory_is_read_with_its_unit():
    assert parse_memory("24GiB") == 24 * 1024
    assert parse_memory("800 mib") == 800
    assert parse_memory("80GB") == pytest.approx(80e9 / 2**20)
    for text in ("24", "24G", "-1GiB", "GiB"):
        with pytest.raises(ConfigError, match="24GiB"):
            parse_memory(text)


def test_shares_are_read_in_percent():
    assert parse_share("0.5%", "x") == pytest.approx(0.005)
    assert parse_share("5M", "x") is None
    with pytest.raises(ConfigError):
        parse_share("half%", "x")


@given(st.integers(1, 10**13))
def test_a_shown_count_reads_as_nearly_the_same(n: int):
    assert parse_count(show_count(n)) == pytest.approx(n, rel=0.01)


def test_amounts_are_shown_with_three_digits():
    assert show_memory(24 * 1024) == "24 GiB"
    assert show_memory(869.7) == "870 MiB"
    assert (show_hours(3.21), show_hours(0.3), show_hours(0.01)) == ("3.21 h", "18 min", "36 s")


# --- command ----------------------------------------------------------------------------------


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_command_tells_the_answer_then_the_evidence(study: Path):
    done = run("recommend", study, "--max-trainable", "10%", "--model", "tiny")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "LoRA" in lines[0] or "Parallel" in lines[0]
    assert "From the best" in lines[2]
    assert "Limits: at most 10 % of the parameters trained." in done.stdout


def test_answer_lists_several_methods_as_alternatives(study: Path):
    head = run("recommend", study).stdout.partition(":")[0]
    assert re.fullmatch(r"[^,]+, [^,]+(, [^,]+)* or [^,]+", head)
    assert " and " not in head


def test_command_prints_one_json_object(study: Path):
    done = run("recommend", study, "--task", "minipack-fix=2", "--mergeable", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["tasks"] == {"minipack-fix": 1.0}
    merges = {c["method"]: c["cost"]["mergeable"] for c in told["candidates"]}
    assert merges["base"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max-memory", "24"), "24GiB"),
        (("--max-memory", ""), "'' is no amount of memory"),  # an empty variable of a shell
        (("--max-trainable", ""), "'' is no number of parameters"),
        (("--task", "minipack-fix=lots"), "is no weight"),
        (("--task", "minipack-fix", "--task", "minipack-fix=2"), "given twice"),
    ],
)
def test_command_refuses_what_it_cannot_read(study: Path, words, message):
    done = run("recommend", study, *words)
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)


@pytest.mark.parametrize("option", ["--max-hours", "--max-latency", "--min-tokens-per-s"])
@pytest.mark.parametrize("value", ["-1", "0", "nan", "inf"])
def test_limits_that_are_none_are_named_by_their_option(tmp_path: Path, option: str, value: str):
    result = CliRunner().invoke(app, ["recommend", str(tmp_path), option, value])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith(f"{option} must be a number above zero")
