"""Numbers per problem, intervals, paired differences and robustness, checked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.analysis import comparison, correlation, reading, sensitivity, tallies
from astraios.analysis.losses import losses
from astraios.analysis.robustness import robustness
from astraios.metrics import bootstrap_mean


def verdicts(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Rows of (method, seed, task, problem, group, slice, outcome), all of one model, counted."""
    columns = ["method", "seed", "task", "problem_id", "group", "slice", "outcome"]
    named = pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        model=pl.lit("tiny"), cwe=pl.lit(None, pl.String), expected=pl.lit(None, pl.String)
    )
    return named.group_by((*tallies.ARM, *reading.KINDS), maintain_order=True).len("n")


def units(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return comparison.units(tallies.problems(verdicts(*rows)))


def worst(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Variants of one problem taken together; every problem here has one sample."""
    changed = [row for row in rows if row[3] != row[4]]
    cells: dict[tuple[Any, ...], list[str]] = {}
    for method, seed, task, _, group, part, outcome in changed:
        for name in (part, "all"):
            cells.setdefault(("tiny", method, seed, task, group, name), []).append(outcome)
    named = [
        (*key, int("fault" not in seen), int(set(seen) == {"passed"}))
        for key, seen in cells.items()
    ]
    schema = ["model", "method", "seed", "task", "group", "slice", "n", "n_passed"]
    return pl.DataFrame(named, schema=schema, orient="row")


def robust(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return robustness(worst(*rows), tallies.problems(verdicts(*rows)), "r", "t")


def plain(method: str, *outcomes: str, seed: int = 0) -> list[tuple[Any, ...]]:
    return [
        (method, seed, "t", f"p{number}", f"p{number}", "", outcome)
        for number, outcome in enumerate(outcomes)
    ]


def test_fault_is_no_failure_and_no_sample() -> None:
    found = tallies.problems(verdicts(*plain("lora", "passed", "fault", "failed")))
    assert found["n"].tolist() == [1, 0, 1]
    assert found["n_faults"].tolist() == [0, 1, 0]
    rate = comparison.pass_rates(found).iloc[0]
    assert rate["value"] == 0.5
    assert (rate["n"], rate["n_samples"], rate["n_faults"]) == (2, 2, 1)


def test_task_with_faults_only_has_no_rate() -> None:
    rate = comparison.pass_rates(tallies.problems(verdicts(*plain("lora", "fault")))).iloc[0]
    assert np.isnan(rate["value"])
    assert rate["n"] == 0


def test_several_samples_count_by_their_share() -> None:
    rows = [("lora", 0, "t", "p0", "p0", "", o) for o in ("passed", "failed", "failed", "passed")]
    found = tallies.problems(verdicts(*rows))
    assert found["rate"].tolist() == [0.5]


def test_seeds_are_averaged_per_problem() -> None:
    rows = [
        *plain("lora", "passed", "failed", seed=0),
        *plain("lora", "passed", "passed", seed=1),
    ]
    rate = comparison.pass_rates(tallies.problems(verdicts(*rows))).iloc[0]
    assert rate["value"] == 0.75
    assert (rate["seed_low"], rate["seed_high"], rate["n_seeds"]) == (0.5, 1.0, 2)


def test_seeds_that_disagree_widen_the_interval() -> None:
    """Ten problems, all solved by one seed and none by the other."""
    one = [*plain("lora", *["passed"] * 10, seed=0), *plain("lora", *["failed"] * 10, seed=1)]
    rate = comparison.pass_rates(tallies.problems(verdicts(*one))).iloc[0]
    assert (rate["value"], rate["low"], rate["high"]) == (0.5, 0.0, 1.0)


def test_difference_is_paired_over_the_problems_both_have() -> None:
    rows = [*plain("fft", "passed", "passed", "failed"), *plain("lora", "failed", "passed")]
    pairs = comparison.pairs(units(*rows))
    row = comparison.difference(pairs, "tiny", "t", "fft", "lora")
    expected = bootstrap_mean([1.0, 0.0])
    assert row is not None
    assert (row["value"], row["low"], row["high"]) == (
        expected.value,
        expected.low,
        expected.high,
    )
    assert row["n"] == 2


def test_pairs_without_a_common_problem_are_no_tests_to_adjust_for() -> None:
    of_others = [("ia3", 0, "t", f"q{i}", f"q{i}", "", "passed") for i in range(30)]
    outcomes = ["passed"] * 30, ["passed"] * 20 + ["failed"] * 10
    rows = [*plain("fft", *outcomes[0]), *plain("lora", *outcomes[1]), *of_others]
    found = comparison.pairs(units(*rows))
    assert set(found["n_pairs"]) == {1}
    row = comparison.difference(found, "tiny", "t", "fft", "lora")
    assert row is not None
    assert row["p_holm"] == row["p_value"]
    tested = sensitivity.detectable(found, {"t": "pass@1"}).iloc[0]
    assert (tested["n_pairs"], tested["detectable_adjusted"]) == (1, tested["detectable"])


def of_two(first: list[list[str]], second: list[list[str]]) -> pd.Series:
    """Outcomes of two methods, a list a seed, compared."""
    rows = [
        row
        for method, seeds in (("fft", first), ("lora", second))
        for seed, outcomes in enumerate(seeds)
        for row in plain(method, *outcomes, seed=seed)
    ]
    found = comparison.difference(comparison.pairs(units(*rows)), "tiny", "t", "fft", "lora")
    assert found is not None
    return found


def test_problems_that_both_solve_make_no_difference_more_certain() -> None:
    five = of_two([["passed"] * 5], [["failed"] * 5])
    among = of_two([["passed"] * 200], [["failed"] * 5 + ["passed"] * 195])
    assert (among["n"], among["test"]) == (200, "permutation")
    assert among["p_value"] == five["p_value"] == 2 / 2**5


def test_seeds_that_disagree_weaken_signs_that_agree() -> None:
    solved, not_solved = ["passed"] * 12, ["failed"] * 12
    alone = of_two([solved], [not_solved])
    agreeing = of_two([solved, solved], [not_solved])
    unsure = of_two([solved, not_solved], [not_solved])
    assert alone["p_value"] == agreeing["p_value"] == 2 / 2**12
    assert unsure["p_value"] > 0.1


def test_methods_that_are_alike_do_not_make_small_differences_detectable() -> None:
    same = ["passed"] * 30
    rows = [row for method in ("base", "ia3", "lora") for row in plain(method, *same)]
    rows += plain("fft", *["failed"] * 10, *same[10:])
    found = comparison.pairs(units(*rows))
    few = sensitivity.detectable(
        found[found["a"].eq("fft") | found["b"].eq("fft")], {"t": "pass@1"}
    )
    every = sensitivity.detectable(found, {"t": "pass@1"})
    assert every["detectable"].iloc[0] == few["detectable"].iloc[0] > 0.1


def test_difference_turns_with_its_order() -> None:
    rows = [
        *plain("fft", "passed", "passed", "failed"),
        *plain("lora", "failed", "passed", "failed"),
    ]
    pairs = comparison.pairs(units(*rows))
    one = comparison.difference(pairs, "tiny", "t", "fft", "lora")
    other = comparison.difference(pairs, "tiny", "t", "lora", "fft")
    assert one is not None
    assert other is not None
    assert (other["value"], other["low"], other["high"]) == (
        -one["value"],
        -one["high"],
        -one["low"],
    )


def test_holm_multiplies_by_the_hypotheses_left() -> None:
    assert comparison.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_holm_leaves_missing_p_values_out() -> None:
    adjusted = comparison.holm([0.01, float("nan"), 0.03])
    assert adjusted[0] == pytest.approx(0.02)
    assert np.isnan(adjusted[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    adjusted = comparison.holm(p_values)
    for raw, found in zip(p_values, adjusted, strict=True):
        assert raw <= found <= min(1.0, len(p_values) * raw)
    by_raw = [found for _, found in sorted(zip(p_values, adjusted, strict=True))]
    assert by_raw == sorted(by_raw)


def robust_rows() -> list[tuple[Any, ...]]:
    """Two problems; the second is lost under typos, one of whose two variants fails."""
    rows = plain("lora", "passed", "passed")
    for group, change, outcomes in (
        ("p0", "typos", ("passed", "passed")),
        ("p1", "typos", ("passed", "failed")),
        ("p0", "rename", ("passed",)),
        ("p1", "rename", ("passed",)),
    ):
        for number, outcome in enumerate(outcomes):
            rows.append(("lora", 0, "r", f"{group}/{change}{number}", group, change, outcome))
    return rows


def test_group_counts_with_its_worst_variant() -> None:
    found = robust(*robust_rows())
    values = found.set_index("slice")["value"]
    assert values.to_dict() == {"all": 0.5, "rename": 1.0, "typos": 0.5}


def test_drop_is_against_the_same_groups_unperturbed() -> None:
    rows = [*robust_rows(), ("lora", 0, "t", "p9", "p9", "", "failed")]
    found = robust(*rows)
    typos = found[found["slice"] == "typos"].iloc[0]
    assert (typos["clean"], typos["drop"], typos["relative"]) == (1.0, 0.5, 0.5)
    assert typos["n"] == 2


def test_drop_is_over_the_seeds_that_were_asked_both() -> None:
    other = [("lora", 1, *row[2:-1], "failed") for row in robust_rows() if row[2] == "r"]
    found = robust(*robust_rows(), *other).set_index("slice").loc["typos"]
    alone = robust(*robust_rows()).set_index("slice").loc["typos"]
    assert found["value"] == alone["value"] / 2
    for name in ("clean", "drop", "drop_low", "drop_high", "relative"):
        assert found[name] == alone[name]


def test_seeds_that_were_asked_only_one_of_both_have_no_drop() -> None:
    rows = [("lora", int(row[2] == "t"), *row[2:]) for row in robust_rows()]
    found = robust(*rows)
    assert found["value"].notna().all()
    assert found[["clean", "drop", "relative"]].isna().all(axis=None)


def test_robustness_without_clean_results_has_no_drop() -> None:
    rows = [row for row in robust_rows() if row[2] == "r"]
    found = robust(*rows)
    assert found["value"].notna().all()
    assert found["drop"].isna().all()


def test_base_has_the_loss_of_full_tuning_before_its_first_step() -> None:
    steps = pd.DataFrame(
        [
            {"method": m, "step": s, "validation_loss": v}
            for m, s, v in (
                ("ptuning", 0, 0.9),
                ("ptuning", 10, 0.8),
                ("fft", 0, 0.5),
                ("fft", 10, 0.1),
            )
        ]
    ).assign(kind="train", model="tiny", seed=0)
    found = losses(steps).set_index("method")
    assert found.loc["base", "final"] == 0.5
    assert found.loc["fft", ["start", "final"]].tolist() == [0.5, 0.1]


def test_perfect_correlation_has_no_interval() -> None:
    found = correlation.spearman([1, 2, 3, 4, 5], [1, 4, 9, 16, 25])
    assert found is not None
    assert found.value == 1
    assert np.isnan(found.low)


def test_pearson_has_fishers_interval() -> None:
    x, y = [1, 2, 3, 4, 5, 6, 7], [1.0, 3, 2, 5, 4, 7, 5]
    found = correlation.pearson(x, y)
    r = float(np.corrcoef(x, y)[0, 1])
    half = 1.959964 / 2  # sqrt(n - 3) = 2
    assert found is not None
    assert found.value == pytest.approx(r)
    assert found.low == pytest.approx(np.tanh(np.arctanh(r) - half), abs=1e-5)
    assert found.high == pytest.approx(np.tanh(np.arctanh(r) + half), abs=1e-5)


@pytest.mark.parametrize("y", [[1.0, 1, 1, 1], [1.0, 2]])
def test_correlation_of_too_little_is_not_defined(y: list[float]) -> None:
    assert correlation.pearson(list(range(len(y))), y) is None
