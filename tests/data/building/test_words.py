"""Texts as words, and runs of words as numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.data.building.words import numbers, runs, shingles, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def has_close(a, b):\n    return a", ["def", "has", "close", "a", "b", "return", "a"]),
        ("Straße ÉTÉ", ["strasse", "été"]),
        ("x1 = 2.50", ["x1", "2", "50"]),
        ("ｆｕｌｌ ﬁne", ["full", "fine"]),
        ("写一个函数 add", ["写", "一", "个", "函", "数", "add"]),
        ("{}[]()...", []),
        ("", []),
    ],
)
def test_words_are_letters_and_digits_folded(text, words):
    assert words_of(text) == words


@given(st.text())
def test_layout_changes_no_word(text):
    assert words_of(text) == words_of(text.replace(" ", "\n\t "))


def test_shingles_of_a_short_text_are_the_text():
    assert shingles("One, two", 5) == {"one two"}
    assert shingles("{}", 5) == {"{}"}
    assert shingles("a b c d", 3) == {"a b c", "b c d"}


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 6))
def test_runs_are_equal_exactly_where_words_are(words, size):
    found = runs(numbers(words), size).tolist()
    spelled = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    assert len(found) == len(spelled)
    assert len(set(found)) == len(set(spelled))
    assert len(set(zip(found, spelled, strict=True))) == len(set(found))


def test_runs_depend_on_the_order_of_words():
    one, other = numbers(["a", "b", "c"]), numbers(["c", "b", "a"])
    assert runs(one, 3).tolist() != runs(other, 3).tolist()


def test_hash_of_a_run_is_the_same_everywhere():
    assert runs(numbers(["reverse", "the", "list"]), 3).tolist() == [GOLDEN]


GOLDEN = 15748659215717876169
"""Recorded once: another number would mean that two machines do not agree."""
