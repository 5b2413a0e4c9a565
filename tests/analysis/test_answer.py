"""The one sentence: who won, and is that certain?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from astraios.analysis.answer import answer
from astraios.analysis.comparison import LEVEL, difference
from astraios.analysis.frames import Frames, read_frames

MakeStudy = Callable[..., Path]


def test_best_method_has_the_highest_rate(study: Path) -> None:
    frames = read_frames(study)
    rates = frames.pass_rates.query("task == 'minipack-synthesize'").set_index("method")["value"]
    said = answer(frames)
    assert said.best == rates.idxmax() == "fft"
    assert f"{100 * rates['fft']:.1f} % pass@1" in said.headline


def test_ties_are_the_methods_whose_adjusted_p_value_is_large(study: Path) -> None:
    frames = read_frames(study)
    said = answer(frames)
    for method in set(frames.methods) - {"fft"}:
        row = difference(frames.pairs, "tiny", "minipack-synthesize", "fft", method)
        assert row is not None
        assert (method in said.ties) == (row["p_holm"] >= LEVEL)


def test_headline_names_the_ties(study: Path) -> None:
    said = answer(read_frames(study))
    assert said.ties
    assert "that is not certain" in said.headline
    assert "LoRA" in said.headline


def test_cheapest_of_the_ties_is_named_with_its_cost(study: Path) -> None:
    frames = read_frames(study)
    said = answer(frames)
    trained = frames.trainable.set_index("method")["trainable_parameters"]
    assert list(said.ties) == sorted(said.ties, key=lambda method: trained[method])
    assert "The cheapest of these is AdapterP: it trains 24,576 parameters, 3.8" in said.details[0]


def test_clear_winner_is_called_certain(make_study: MakeStudy) -> None:
    said = answer(read_frames(make_study(methods=("fft", "ptuning"))))
    assert said.ties == ()
    assert "that is certain" in said.headline


def test_next_best_of_a_clear_winner_is_priced(make_study: MakeStudy) -> None:
    said = answer(read_frames(make_study(methods=("fft", "ptuning"))))
    assert said.details[0].startswith("Next is P-Tuning: it is ")
    assert said.details[0].endswith("trains 8.2 % of the parameters that FFT trains.")


def test_largest_model_gives_the_headline_and_others_a_line(large_study: Path) -> None:
    said = answer(read_frames(large_study))
    assert any(detail.startswith("On small: ") for detail in said.details)
    assert not any(detail.startswith("On large: ") for detail in said.details)


def test_a_model_of_which_all_was_a_fault_gives_no_headline(large_study: Path) -> None:
    frames = read_frames(large_study)
    broken = {}
    for name, value in (("problems", "rate"), ("units", "value")):
        rows = getattr(frames, name)
        broken[name] = rows.assign(**{value: rows[value].mask(rows["model"] == "large")})
    other = replace(frames)
    vars(other).update(broken)
    assert other.headline_model == "small"
    assert " with small " in answer(other).headline


def test_one_seed_is_admitted(study: Path) -> None:
    assert "One training seed" in answer(read_frames(study)).basis[-1]


def test_sandbox_level_is_told(study: Path) -> None:
    assert "Sandbox: namespaces." in answer(read_frames(study)).basis[-1]


def test_nothing_judged_names_no_winner(make_study: MakeStudy) -> None:
    said = answer(read_frames(make_study(judged=False)))
    assert said.best is None
    assert said.headline == "No generations have been judged yet, so there is no winner to name."


def test_faults_only_name_no_winner(make_study: MakeStudy) -> None:
    said = answer(read_frames(make_study(methods=("lora",), n_problems=4, n_faults=99)))
    assert said.best is None
    assert "fault" in said.headline


def scored(frames: Frames, **values: float) -> Frames:
    """A study in which every problem has the method's score; the methods not named have none."""
    units = frames.units.query("task == 'minipack-synthesize'")
    units = units[units["method"].isin(list(values))]
    other = replace(frames)
    vars(other)["units"] = units.assign(value=units["method"].astype(str).map(values).astype(float))
    return other


def test_equal_scores_tie(study: Path) -> None:
    said = answer(scored(read_frames(study), base=0.05, fft=0.095, lora=0.095, ia3=0.05))
    assert said.headline.startswith("FFT and LoRA tie for the highest score, 9.5 % pass@1")
    assert "for these trained models, that is certain: each of the 2 others is" in said.headline
    assert said.ties == ("lora",)


def test_where_no_problem_is_solved_nobody_is_first(study: Path) -> None:
    said = answer(scored(read_frames(study), base=0.0, fft=0.0, lora=0.0))
    assert said.headline.startswith("No model solved any problem: all 3 methods have 0.0 % pass@1")
    assert said.best is None
    assert "highest" not in said.headline


def test_what_another_model_solved_is_not_denied(large_study: Path) -> None:
    frames = read_frames(large_study)
    units = frames.units
    of_largest = units["model"] == frames.headline_model
    vars(frames)["units"] = units.assign(value=units["value"].mask(of_largest, 0.0))
    said = answer(frames)
    assert said.headline.startswith(f"No method solved any problem with {frames.headline_model}: ")


def test_a_ranking_is_of_the_methods_only_if_each_has_several_seeds(study: Path) -> None:
    frames = scored(read_frames(study), fft=0.5, lora=0.1)
    again = frames.units[frames.units["method"] == "fft"].assign(seed=1)
    vars(frames)["units"] = pd.concat([frames.units, again], ignore_index=True)
    said = answer(frames)
    assert "for these trained models, that is certain" in said.headline
    assert "averaged over 1 to 2 training seeds" in said.basis[-1]


def test_methods_without_a_result_are_counted(study: Path) -> None:
    frames = read_frames(study)
    said = answer(scored(frames, fft=0.5, lora=0.5, ia3=0.1))
    assert said.headline.endswith("; 5 other methods have no result here.")
    alone = answer(scored(frames, fft=0.5))
    assert "FFT alone was judged" in alone.headline
    assert alone.headline.endswith("; 7 other methods have no result here.")
    assert "no result here" not in answer(frames).headline
