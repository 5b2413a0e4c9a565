"""The six claims on studies whose truth is known: supported, refuted, undecided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from astraios.analysis.claims import LEVEL, RULES, Claim, Mark, claims
from astraios.analysis.claims.evidence import evidence
from astraios.analysis.tables import Table
from astraios.analysis.views.claims import view

Make = Callable[..., "object"]

SCORE = {
    "base": 0.1,
    "fft": 0.66,
    "lora": 0.55,
    "ia3": 0.3,
    "adapterh": 0.40,
    "adapterp": 0.34,
    "parallel": 0.44,
}
GROWTH = {"s": 0.0, "m": 0.05, "l": 0.1}
KINDS = {"synthesize": "pass", "fix": "pass", "perturbed": "robust", "flaws": "security"}


def rate_as_claimed(model: str, method: str, task: str) -> float:
    if task == "perturbed":
        return 0.3
    if task == "flaws":
        return {"s": 0.85, "m": 0.7, "l": 0.55}[model]
    return SCORE[method] + GROWTH[model]


def rate_against(model: str, method: str, task: str) -> float:
    if task == "perturbed":
        return {"s": 0.2, "m": 0.4, "l": 0.6}[model]
    if task == "flaws":
        return {"s": 0.55, "m": 0.7, "l": 0.85}[model]
    other = {"fft": 0.35, "lora": 0.25, "ia3": 0.65, "adapterp": 0.55, "parallel": 0.3}
    return {**SCORE, **other}[method] if model == "l" else {**SCORE, "fft": 0.35}[method]


def marks(found: tuple[Claim, ...]) -> dict[str, Mark]:
    return {claim.letter: claim.mark for claim in found}


@pytest.fixture(scope="module")
def as_claimed(make: Make):
    return make(
        rate_as_claimed,
        kinds=KINDS,
        n=400,
        clean=lambda model, method, task: {"s": 0.4, "m": 0.55, "l": 0.7}[model],
        loss=lambda model, method, task: 1 - SCORE[method],
    )


@pytest.fixture(scope="module")
def found_as_claimed(as_claimed) -> tuple[Claim, ...]:
    return claims(as_claimed)


def test_claims_that_are_true_are_supported(found_as_claimed):
    marked = marks(found_as_claimed)
    for letter in "ACDEF":
        assert marked[letter] is Mark.SUPPORTED, letter
    # LoRA is the best adapter at every size here, by more than ten points.
    assert marked["B"] is Mark.NOT_SUPPORTED


def test_claims_that_are_false_are_not_supported(make: Make):
    study = make(
        rate_against,
        kinds=KINDS,
        n=400,
        clean=lambda model, method, task: 0.7,
        loss=lambda model, method, task: SCORE[method],
    )
    marked = marks(claims(study))
    for letter in "ACDEF":
        assert marked[letter] is Mark.NOT_SUPPORTED, letter
    assert marked["B"] is Mark.SUPPORTED


def test_claims_are_undecided_where_methods_and_sizes_are_alike(make: Make):
    study = make(
        lambda model, method, task: 0.5,
        kinds=KINDS,
        n=150,
        clean=lambda model, method, task: 0.6,
        loss=lambda model, method, task: 1.0,
    )
    for claim in claims(study):
        assert claim.mark is Mark.UNDECIDED, claim
        assert claim.why, claim


def test_a_mark_needs_an_adjusted_p_value_below_the_level(found_as_claimed):
    for claim in found_as_claimed:
        assert claim.p_value is not None
        assert claim.p_holm is not None
        assert claim.p_holm >= claim.p_value
        assert (claim.mark is Mark.UNDECIDED) == (claim.p_holm >= LEVEL)
        assert claim.estimate is not None
        assert claim.estimate.low <= claim.estimate.value <= claim.estimate.high


def test_equal_studies_get_equal_marks_in_whatever_order_their_rows_stand(
    as_claimed, found_as_claimed
):
    shuffled = replace(as_claimed, units=as_claimed.units.sample(frac=1, random_state=1))
    assert claims(shuffled) == found_as_claimed


def test_names_of_adapters_decide_nothing(as_claimed, found_as_claimed):
    names = {"adapterh": "parallel", "parallel": "zeta", "adapterp": "adapterh"}

    def renamed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(method=frame["method"].replace(names))

    parts = ("units", "losses", "trainable", "problems", "quality", "costs")
    changed = claims(replace(as_claimed, **{n: renamed(getattr(as_claimed, n)) for n in parts}))
    assert marks(changed) == marks(found_as_claimed)
    for one, two in zip(changed, found_as_claimed, strict=True):
        assert one.estimate is not None
        assert two.estimate is not None
        assert one.estimate.value == pytest.approx(two.estimate.value)


@pytest.fixture(scope="module")
def one_seed(make: Make):
    return make(
        rate_as_claimed,
        n=300,
        n_seeds=1,
        loss=lambda model, method, task: 1 - SCORE[method],
    )


def test_one_seed_decides_nothing_about_methods_but_says_where_it_leans(one_seed):
    found = {claim.letter: claim for claim in claims(one_seed)}
    for letter in "ABC":
        assert found[letter].mark is Mark.UNDECIDED
        assert "one training seed" in found[letter].why
        assert found[letter].p_holm is None
    assert found["A"].why.startswith("FFT leads in all ")
    assert found["A"].leaning is Mark.SUPPORTED
    assert "speak for it" in found["A"].why
    assert found["E"].mark is Mark.SUPPORTED  # seeds are noise there, and it holds all the same
    assert found["F"].mark is Mark.SUPPORTED


def test_one_size_refutes_that_fft_is_best_at_every_size_but_cannot_show_it(make: Make):
    sizes = {"s": 1_000_000}
    best = {c.letter: c for c in claims(make(rate_as_claimed, sizes=sizes))}
    assert best["A"].mark is Mark.UNDECIDED
    assert "one size" in best["A"].why
    worst = marks(claims(make(lambda m, a, t: 0.3 if a == "fft" else 0.5, sizes=sizes)))
    assert worst["A"] is Mark.NOT_SUPPORTED
    for letter in "BDE":
        assert best[letter].mark is Mark.UNDECIDED


def test_half_of_less_robust_and_less_secure_refutes_the_whole_but_cannot_carry_it(make: Make):
    def study(rates: dict[str, float]):
        return make(lambda model, method, task: rates[model], kinds={"flaws": "security"}, n=200)

    rising = {c.letter: c for c in claims(study({"s": 0.9, "m": 0.7, "l": 0.5}))}["D"]
    assert rising.mark is Mark.UNDECIDED
    assert "robustness: no task measures it" in rising.why
    assert marks(claims(study({"s": 0.5, "m": 0.7, "l": 0.9})))["D"] is Mark.NOT_SUPPORTED


def test_holes_are_left_out_without_an_error(as_claimed):
    units = as_claimed.units
    hole = (
        ((units["method"] == "ia3") & (units["model"] == "m"))
        | ((units["method"] == "fft") & (units["task"] == "fix") & (units["model"] == "s"))
        | ((units["method"] == "base") & (units["model"] == "l"))
    )
    found = {claim.letter: claim for claim in claims(replace(as_claimed, units=units[~hole]))}
    assert found["A"].mark is Mark.SUPPORTED
    assert "zero" in found["C"].data  # the base is missing somewhere


def test_perturbed_and_plain_prompts_are_held_to_the_same_problems(make: Make):
    study = make(
        lambda model, method, task: 0.4,
        methods=("fft", "lora"),
        kinds={"r": "robust"},
        clean=lambda model, method, task: 0.8,
        n=100,
    )
    units = study.units
    solved = set(units[(units["method"] == "fft") & (units["value"] > 0)]["group"])
    hard = [f"r/{i}" for i in range(100) if f"r/{i}" not in solved][:20]
    faulty = (units["method"] == "fft") & units["group"].isin(hard)
    holes = replace(study, units=units.assign(value=units["value"].mask(faulty)))
    known = evidence(holes)
    for task, rows, value in (("r", units, "value"), ("r (clean)", study.problems, "rate")):
        of_common = rows[~rows["group"].isin(hard)].groupby(["model", "method"])[value].mean()
        place = known.draws.tasks.index(task)
        for cell, mean in of_common.items():
            assert known.draws.score_MK[known.draws.row(*cell), place] == pytest.approx(mean)
    assert "20 of 100 problems of r (s) are left out of comparisons" in view.render(holes).caption


def test_guessing_does_not_count_as_skill(make: Make):
    study = make(
        lambda model, method, task: {"fft": 0.45}.get(method, 0.2),
        kinds={"yes-no": "classification"},
        chance=0.54,
    )
    found = {claim.letter: claim for claim in claims(study)}
    assert found["A"].mark is Mark.UNDECIDED
    assert "no better than guessing" in found["A"].why
    skilled = replace(study, quality=study.quality.assign(chance=0.3))
    assert {c.letter: c for c in claims(skilled)}["A"].n.startswith("300 problems")


def test_a_study_of_faults_leaves_everything_undecided(as_claimed):
    for claim in claims(replace(as_claimed, units=as_claimed.units.assign(value=np.nan))):
        assert claim.mark is Mark.UNDECIDED
        assert claim.why


def test_models_of_unknown_size_are_named(as_claimed):
    found = claims(replace(as_claimed, sizes={}))
    assert all(claim.mark is Mark.UNDECIDED for claim in found)
    assert "the size of l, m, s is not known" in found[0].why


def test_too_few_problems_say_how_many_more_would_decide(make: Make):
    study = make(lambda m, a, t: {"fft": 0.6}.get(a, 0.52), n=60, number=1)
    found = {claim.letter: claim for claim in claims(study)}["A"]
    assert found.mark is Mark.UNDECIDED
    assert "times the problems" in found.why


def test_view_has_a_row_a_claim_and_counts_the_marks(as_claimed):
    table = view.render(as_claimed)
    assert isinstance(table, Table)
    assert [row["claim"][0] for row in table.rows] == [rule.letter for rule in RULES]
    assert "5 supported, 1 not supported, 0 undecided" in table.caption
    assert "5" in table.csv()


@pytest.mark.slow
def test_marks_are_seldom_wrong_where_nothing_is_true(make: Make):
    """Methods alike, sizes alike: any mark but undecided is a false alarm."""
    wrong = 0
    for number in range(60):
        study = make(
            lambda model, method, task: 0.5,
            kinds=KINDS,
            n=80,
            clean=lambda model, method, task: 0.6,
            loss=lambda model, method, task: 1.0,
            number=number,
        )
        wrong += any(claim.mark is not Mark.UNDECIDED for claim in claims(study))
    assert wrong <= 7  # 3 expected at most; 7 or fewer with probability 0.99
