"""Scores of yes/no answers, held against formulas that are written out here once more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astraios.records import Outcome, Score, Verdict
from astraios.tasks._classification import PAPER, THREE_CLASS, Reading, answer_scores
from astraios.tasks._comprehension_scores import clean_scores, original_scores
from astraios.tasks._likelihoods import auroc, log_odds

ANSWERS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([True, False, None])), min_size=1, max_size=30
)


def scored(pairs, three_class=PAPER) -> dict[str, Score]:
    readings = [Reading(f"p/{at}", label, answer) for at, (label, answer) in enumerate(pairs)]
    found = answer_scores("t", "s", readings, three_class=three_class)
    return {score.metric: score for score in found}


def f1(labels, answers, of) -> float:
    hits = sum(a == b == of for a, b in zip(labels, answers, strict=True))
    seen = labels.count(of) + answers.count(of)
    return 2 * hits / seen if seen else 0.0


def correlation(labels, answers) -> float:
    """Gorodkin's coefficient as a covariance of one-hot vectors."""
    X = np.array([[label == k for k in (0, 1, -1)] for label in labels], dtype=float)
    Y = np.array([[answer == k for k in (0, 1, -1)] for answer in answers], dtype=float)
    X, Y = X - X.mean(0), Y - Y.mean(0)
    norm = math.sqrt((X * X).sum() * (Y * Y).sum())
    return (X * Y).sum() / norm if norm > 1e-9 else 0.0


@settings(max_examples=40)
@given(ANSWERS)
def test_scores_are_those_of_the_formulas(pairs) -> None:
    labels = [int(label) for label, _ in pairs]
    answers = [-1 if answer is None else int(answer) for _, answer in pairs]
    n = len(pairs)
    classes = sorted({*labels, *answers})
    there = sorted(set(labels))
    recalls = [
        sum(a == b == k for a, b in zip(labels, answers, strict=True)) / labels.count(k)
        for k in there
    ]
    valid = [(a, b) for a, b in zip(labels, answers, strict=True) if b >= 0]
    expected = {
        "accuracy": sum(a == b for a, b in zip(labels, answers, strict=True)) / n,
        "f1-macro": sum(f1(labels, answers, k) for k in classes) / len(classes),
        "f1-macro-two-class": (f1(labels, answers, 0) + f1(labels, answers, 1)) / 2,
        "balanced-accuracy": sum(recalls) / len(there),
        "mcc": correlation(labels, answers),
        "valid-rate": len(valid) / n,
        "majority-baseline": max(labels.count(0), labels.count(1)) / n,
        "chance-baseline": 0.5,
    }
    found = scored(pairs)
    for metric, value in expected.items():
        score = found[metric]
        assert score.value == pytest.approx(value, abs=1e-9), metric
        assert score.low <= score.value <= score.high, metric
    if valid:
        right = sum(a == b for a, b in valid) / len(valid)
        assert found["accuracy-on-valid"].value == pytest.approx(right)
        only = f1([a for a, _ in valid], [b for _, b in valid], 1)
        assert found["f1-on-valid"].value == pytest.approx(only)
    else:
        assert found["accuracy-on-valid"].value is None
        assert found["f1-on-valid"].value is None


def test_order_of_the_answers_changes_nothing() -> None:
    pairs = [(True, True)] * 5 + [(False, None)] * 3 + [(False, False)] * 4
    assert scored(pairs) == scored(pairs[::-1])


def test_one_invalid_answer_takes_a_third_off_the_papers_macro_f1() -> None:
    perfect = [(True, True), (False, False)] * 1000
    spoiled = [*perfect[:-1], (False, None)]
    assert scored(perfect)["f1-macro"].value == 1.0
    assert scored(spoiled)["f1-macro"].value == pytest.approx(2 / 3, abs=1e-3)
    assert scored(spoiled)["f1-macro-two-class"].value == pytest.approx(1, abs=1e-3)
    clean = scored(spoiled, THREE_CLASS)
    assert "f1-macro" not in clean
    assert clean["f1-macro-three-class"] == scored(spoiled)["f1-macro"].model_copy(
        update={"metric": "f1-macro-three-class"}
    )


def test_guessing_is_marked_as_such_and_knowing_too() -> None:
    labels = [True, False] * 300
    luck = scored([(label, at % 4 < 2) for at, label in enumerate(labels)])
    for metric in ("accuracy", "balanced-accuracy", "mcc", "f1-macro-two-class"):
        assert luck[metric].against_chance == "indistinguishable", metric
    known = scored([(label, label) for label in labels])
    wrong = scored([(label, not label) for label in labels])
    for metric in ("accuracy", "balanced-accuracy", "mcc", "f1-macro-two-class"):
        assert known[metric].against_chance == "above", metric
        assert wrong[metric].against_chance == "below", metric


def test_constant_answer_is_not_told_from_chance() -> None:
    found = scored([(at % 8 == 0, False) for at in range(400)])
    assert found["accuracy"].value == found["accuracy"].chance == 0.875
    assert found["accuracy"].against_chance == "indistinguishable"
    assert found["mcc"].value == 0.0


def test_rates_without_a_guess_have_no_chance_level() -> None:
    found = scored([(True, None), (False, True)])
    for metric in ("valid-rate", "majority-baseline", "chance-baseline"):
        assert found[metric].chance is None
        assert found[metric].against_chance is None


def test_nothing_to_count_is_no_number() -> None:
    for score in answer_scores("t", "s", [], three_class=PAPER):
        assert score.value is None
        assert score.n_problems == 0


def test_a_problem_with_many_samples_weighs_as_much_as_another() -> None:
    readings = [Reading("a", True, True)] * 9 + [Reading("b", True, False)]
    found = answer_scores("t", "s", readings, three_class=PAPER)
    assert found[0].value == 0.5
    assert (found[0].n_problems, found[0].n_samples) == (2, 10)


# --- likelihoods ---


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=30))
def test_auroc_counts_the_pairs_in_order(pairs) -> None:
    ones = [value for label, value in pairs if label]
    zeros = [value for label, value in pairs if not label]
    found = auroc(np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs], dtype=float))
    if not ones or not zeros:
        assert math.isnan(found)
        return
    won = sum((a > b) + (a == b) / 2 for a in ones for b in zeros)
    assert found == pytest.approx(won / (len(ones) * len(zeros)))


def test_log_odds_add_up_the_spellings_of_an_answer() -> None:
    found = log_odds([math.log(0.2), math.log(0.1)], [math.log(0.6)])
    assert found == pytest.approx(math.log(0.3 / 0.6))


@pytest.mark.parametrize(
    "wrong", [([], [-1.0]), ([-1.0], []), ([0.5], [-1.0]), ([math.nan], [-1.0])]
)
def test_log_odds_refuse_what_is_no_likelihood(wrong) -> None:
    with pytest.raises(ValueError, match="log-likelihood"):
        log_odds(*wrong)


def verdict(at: int, label: int, odds: float | None, **more) -> Verdict:
    values = {"outcome": Outcome.PASSED, "answer": str(label), "slice": "whole", **more}
    name = f"p/{at}"
    return Verdict(
        problem_id=name, index=0, group=name, expected=str(label), log_odds=odds, **values
    )


def test_likelihoods_are_scored_beside_the_texts() -> None:
    # A model that likes "yes": all log-odds are positive, their order is perfect.
    verdicts = [verdict(at, at % 2, 5.0 + at % 2) for at in range(40)]
    found = {(s.slice, s.metric): s for s in clean_scores("t", verdicts)}
    assert found["by-likelihood", "auroc"].value == 1.0
    assert found["by-likelihood", "auroc"].chance == 0.5
    assert found["by-likelihood", "auroc"].against_chance == "above"
    assert found["by-likelihood", "accuracy"].value == 0.5
    assert found["by-likelihood-calibrated", "accuracy"].value == 1.0


def test_without_likelihoods_there_is_no_auroc() -> None:
    found = clean_scores("t", [verdict(at, at % 2, None) for at in range(4)])
    assert not [score for score in found if "likelihood" in score.slice]


# --- slices ---


def test_clean_counts_what_was_cut_and_what_failed_on_our_side() -> None:
    verdicts = [
        verdict(0, 1, None),
        verdict(1, 0, None, slice="cut"),
        verdict(2, 0, None, outcome=Outcome.FAULT, answer=None),
    ]
    found = {(s.slice, s.metric): s for s in clean_scores("t", verdicts)}
    assert found["clean-all", "whole-rate"].value == 0.5
    assert found["clean-whole", "accuracy"].n_problems == 1
    assert found["clean-all", "accuracy"].n_faults == 1
    assert not {slice_ for slice_, _ in found} & {"paper-all", "paper-sample"}


def test_original_reads_the_same_texts_by_word_too() -> None:
    verdicts = [
        verdict(0, 0, None, slice="paper-sample", readings={"by-word": None}),
        verdict(1, 1, None, slice="", readings={"by-word": "1"}),
    ]
    found = {(s.slice, s.metric): s for s in original_scores("t", verdicts)}
    assert found["paper-all", "accuracy"].value == 1.0
    assert found["paper-sample", "accuracy"].n_problems == 1
    assert found["by-word", "accuracy"].value == 0.5
    assert found["by-word", "valid-rate"].value == 0.5
