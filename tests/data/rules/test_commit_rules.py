"""The filters of commits: every rule alone, and all of them in order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.data.rules import PRESETS, Rule, sift, switched
from astraios.data.rules.commits import Commit, commit_rules
from astraios.errors import ConfigError, UnknownNameError

from .commit_cases import BASE, CASES, Case, commit, routine

ORDER = """
    S1-licence S2-message-length S3-noise-message S4-one-file S5-opted-out
    A1-old-size A2-new-not-empty A3-real-change A4-hash-sign A5-extension A6-file-name A7-length
    A8-clean A9-length-again A10-capital A11-tokens A12-verb A13-noise A14-version-or-hash
    B1-cherry-pick B2-sha B3-clean B4-down-sample B5-first-person B6-thanks B7-review B8-bad-line
    B9-ticket B10-tag B11-unfinished B12-link B13-exercise B14-words
"""


def n_words(text: str) -> int:
    return len(text.split())


def rules(preset: str = "mended", **options: Any) -> tuple[Rule[Commit], ...]:
    given = {"seed": 0, "n_tokens": n_words, "end_of_text": " <end> ", **options}
    return commit_rules(preset, **given)


def without_length(preset: str = "mended", **options: Any) -> tuple[Rule[Commit], ...]:
    """All rules but the one that would want long files."""
    return switched(rules(preset, **options), {"A11-tokens"})


@pytest.mark.parametrize(
    ("case", "preset"),
    [(case, preset) for case in CASES for preset in case.presets],
    ids=lambda value: str(value),
)
def test_rule_keeps_drops_or_edits_its_cases(case: Case, preset: str) -> None:
    rule = next(rule for rule in rules(preset, **case.options) if rule.name == case.rule)
    before = commit(**case.changes)
    after = rule.apply(before)
    if not case.keeps:
        assert after is None
    elif case.edited is None:
        assert after is before
    else:
        assert after == replace(before, subject=case.edited)


@pytest.mark.parametrize("preset", PRESETS)
def test_table_has_a_kept_and_a_dropped_or_edited_case_of_every_rule(preset: str) -> None:
    def names(*, passed: bool) -> set[str]:
        return {
            case.rule
            for case in CASES
            if preset in case.presets
            and passed
            == (case.keeps and (case.edited is None or case.edited == case.changes["subject"]))
        }

    known = {rule.name for rule in rules(preset)}
    assert names(passed=True) == known
    assert names(passed=False) == known


@pytest.mark.parametrize("preset", PRESETS)
def test_rules_stand_in_the_declared_order(preset: str) -> None:
    assert [rule.name for rule in rules(preset)] == ORDER.split()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_rule_says_what_it_keeps_in_one_line(preset: str) -> None:
    for rule in rules(preset):
        assert rule.keeps
        assert "\n" not in rule.keeps


def test_good_commit_passes_all_rules_as_it_is() -> None:
    row = commit(old_contents="a " * 40, new_contents="b " * 40)
    assert sift(row, rules()) == (row, "")


def test_published_extension_rule_drops_good_python_and_keeps_good_shell() -> None:
    assert sift(commit(), without_length("published")) == (None, "A5-extension")
    row = commit(lang="Shell", new_file="tools/run.sh")
    assert sift(row, without_length("published")) == (row, "")


@pytest.mark.parametrize("preset", PRESETS)
def test_subject_is_long_enough_only_before_it_is_cleaned(preset: str) -> None:
    row = commit(subject="[tools] [skip ci] core: Fix a leak", lang="Shell", new_file="run.sh")
    assert sift(row, without_length(preset)) == (None, "A9-length-again")


@pytest.mark.parametrize("preset", PRESETS)
def test_subject_is_short_enough_only_after_it_is_cleaned(preset: str) -> None:
    row = commit(subject=f"[{'tag' * 400}] Fix the leak of files", lang="Shell", new_file="run.sh")
    left = switched(without_length(preset), {"A7-length"})
    kept, _ = sift(row, left)
    assert kept is not None
    assert kept.subject == "Fix the leak of files"
    assert sift(row, switched(left, {"A8-clean"})) == (None, "A9-length-again")


@pytest.mark.parametrize("preset", PRESETS)
def test_capital_is_looked_for_after_cleaning(preset: str) -> None:
    row = commit(subject="io: Fix the leak of files", lang="Shell", new_file="run.sh")
    kept, _ = sift(row, without_length(preset))
    assert kept is not None
    assert kept.subject == "Fix the leak of files"


def test_published_counts_words_after_ci_skip_is_taken_out() -> None:
    row = commit(lang="Shell", new_file="run.sh")
    short = replace(row, subject="Fix one leak [ci skip]")
    four = replace(row, subject="Fix one big leak [ci skip]")
    assert sift(short, without_length("published")) == (None, "B14-words")
    kept, _ = sift(four, without_length("published"))
    assert kept is not None
    assert kept.subject == "Fix one big leak"


def test_mended_takes_ci_skip_out_before_the_length_is_asked_again() -> None:
    row = commit(subject="Fix one big leak [ci skip]")
    assert sift(row, without_length()) == (None, "A9-length-again")


def test_dropped_row_is_counted_under_the_first_rule_that_drops_it() -> None:
    row = commit(license="gpl-3.0", message="x", new_contents="", subject="wip #1")
    found = []
    left = rules()
    while True:
        kept, name = sift(row, left)
        if kept is not None:
            break
        found.append(name)
        left = switched(left, {name})
    assert found == sorted(found, key=ORDER.split().index)
    assert found[:5] == [
        "S1-licence",
        "S2-message-length",
        "A2-new-not-empty",
        "A4-hash-sign",
        "A7-length",
    ]


WORDS = """
    Fix fix Add: fix: core: [a] [b c] [skip ci] [ci skip] Bump Update version the leak of files 12
    bug i I've wip wipe Thanks to for reader Reader http://x [x]: [y ] : [ #1 Close close: it now
"""
words = st.sampled_from(WORDS.split())


@given(parts=st.lists(words, min_size=3, max_size=12), space=st.sampled_from((" ", "  ")))
def test_second_run_of_mended_drops_and_edits_nothing(parts: list[str], space: str) -> None:
    row = commit(subject=space.join(parts), commit=routine(0.95))
    kept, _ = sift(row, without_length())
    if kept is not None:
        assert sift(kept, without_length()) == (kept, "")


@given(parts=st.lists(words, max_size=10))
def test_cleaning_of_mended_leaves_nothing_to_clean(parts: list[str]) -> None:
    clean = next(rule for rule in rules() if rule.name == "A8-clean")
    once = clean.apply(commit(subject=" ".join(parts)))
    assert once is not None
    assert clean.apply(once) is once


def routine_commits(n: int) -> list[Commit]:
    return [commit(commit=f"{i:040x}", subject="Bump the version of it to 2.0") for i in range(n)]


def kept_hashes(preset: str, seed: int) -> list[str]:
    own = next(rule for rule in rules(preset, seed=seed) if rule.name == "B4-down-sample")
    return [row.commit for row in routine_commits(2_000) if own.apply(row)]


@pytest.mark.parametrize("preset", PRESETS)
def test_one_in_ten_routine_commits_is_kept(preset: str) -> None:
    assert 150 < len(kept_hashes(preset, 0)) < 250


@pytest.mark.parametrize("preset", PRESETS)
def test_seed_decides_which_routine_commits_are_kept(preset: str) -> None:
    assert kept_hashes(preset, 0) == kept_hashes(preset, 0)
    assert kept_hashes(preset, 0) != kept_hashes(preset, 1)


def test_tokens_are_counted_of_both_files_around_the_end_marker() -> None:
    seen = []

    def n_tokens(text: str) -> int:
        seen.append(text)
        return 50

    row = commit(old_contents="old", new_contents="new")
    sift(row, rules(n_tokens=n_tokens, end_of_text="<|end|>"))
    assert seen == ["old<|end|>new"]


def test_given_verbs_take_the_place_of_the_list() -> None:
    only = without_length(verbs=("return",))
    assert sift(commit(), only)[1] == ""
    assert sift(commit(subject="Fix the leak of some files"), only) == (None, "A12-verb")


def test_noise_and_version_are_found_where_verbs_are_not_asked_for() -> None:
    left = switched(without_length(), {"A7-length", "A9-length-again", "A12-verb"})
    assert sift(commit(subject="Updated readme"), left) == (None, "A13-noise")
    assert sift(commit(subject="V1.2.3"), left) == (None, "A14-version-or-hash")


def test_rule_that_is_switched_off_drops_nothing() -> None:
    row = commit(subject="Fix the leak #12 of files")
    assert sift(row, without_length()) == (None, "A4-hash-sign")
    assert sift(row, switched(without_length(), {"A4-hash-sign"})) == (row, "")


def test_unknown_rule_to_switch_off_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'A4-hash-sign'"):
        switched(rules(), {"A4-hashsign"})


def test_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'mended'"):
        rules("mend")


def test_empty_list_of_verbs_is_refused() -> None:
    with pytest.raises(ConfigError, match="A12-verb"):
        rules(verbs=())


def test_base_commit_of_the_table_has_every_column() -> None:
    assert Commit.of(BASE, "here") == commit()
