"""What all languages with braces share: where a completion ends, and when it is finished."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios import languages, registry
from astraios.languages import Language
from astraios.languages._braces import BraceLanguage, closing

NAMES = ("java", "js", "cpp", "go", "rust")
ALL = [registry.load(languages, "language", name) for name in NAMES]
ALL += [registry.load(languages, "language", "go").published()]
each = pytest.mark.parametrize("language", ALL, ids=[*NAMES, "go as published"])

TEXTS = st.lists(
    st.sampled_from(
        ["{", "}", "}}", "a", " ", "\n", "x = 1;", '"}"', "struct", "\nfunc", " main(", "\n//",
        "\ntype ", "public static void main", "<|endoftext|>", "<|end", "of", "text|>", "é", "\t",
    ]
    ),
    max_size=30,
).map("".join)  # fmt: skip


def closed(language: Language, body: str) -> str:
    assert isinstance(language, BraceLanguage)
    return body + "\n}" * language.n_open


@each
def test_a_function_ends_at_its_closing_brace(language: Language) -> None:
    body = closed(language, "\n  if (x) { y(); }")
    assert language.truncate(body + "\n\nvoid other() {\n}\n") == body


@each
def test_braces_in_strings_count(language: Language) -> None:
    body = closed(language, '\n  f("}")')
    kept = '\n  f("}")\n}' if language.name == "java" else '\n  f("}'
    assert language.truncate(body) == kept


@pytest.mark.parametrize("name", ["js", "cpp", "go", "rust"])
@pytest.mark.parametrize(
    ("completion", "kept"),
    [
        ("\n  if (x) { y }\n  z = ", "\n  if (x) { y }"),
        ("\n  no brace at all  \n", "\n  no brace at all"),
        ("", ""),
        ("}", "}"),
        ("{ { {", "{ { {"),
    ],
)
def test_an_unclosed_function_ends_at_its_last_brace(name: str, completion: str, kept: str) -> None:
    language: Language = registry.load(languages, "language", name)
    assert language.truncate(completion) == kept


@each
def test_a_closed_function_is_finished(language: Language) -> None:
    body = closed(language, "\n  if (x) { y(); }")
    assert language.finished(body)
    assert not language.finished(body[:-1])


@each
def test_a_brace_too_many_moves_no_cut(language: Language) -> None:
    body = closed(language, "\n  x()")
    assert language.truncate(body + "}") == body


@each
@given(first=TEXTS, more=TEXTS)
def test_nothing_behind_a_finished_completion_moves_the_cut(
    language: Language, first: str, more: str
) -> None:
    if language.finished(first):
        assert language.truncate(first + more) == language.truncate(first)


@each
@given(first=st.text(alphabet="{}a \n", max_size=40), more=st.text(max_size=40))
def test_nothing_at_all_behind_a_finished_completion_moves_the_cut(
    language: Language, first: str, more: str
) -> None:
    if language.finished(first):
        assert language.truncate(first + more) == language.truncate(first)


@each
@given(completion=TEXTS)
def test_cutting_twice_changes_white_space_at_the_end_only(
    language: Language, completion: str
) -> None:
    """Java is apart: what it adds to a text that never closes may be one brace short again."""
    once = language.truncate(completion)
    if language.name != "java" or once in completion:
        assert language.truncate(once).rstrip() == once.rstrip()


@each
@given(completion=st.text(max_size=200))
def test_a_cut_never_keeps_a_stop_word(language: Language, completion: str) -> None:
    assert not any(stop in language.truncate(completion) for stop in language.stops)


@given(st.text(alphabet="{}ab", max_size=60), st.integers(min_value=1, max_value=3))
def test_the_cut_is_the_first_place_where_nothing_is_open(text: str, n_open: int) -> None:
    ends = [
        end
        for end in range(1, len(text) + 1)
        if n_open + text[:end].count("{") == text[:end].count("}")
    ]
    assert closing(text, n_open) == (ends[0] if ends else None)


@each
@pytest.mark.parametrize("piece", ["{", "}{", "a{}", '"', "/*", "struct", "'\\", "public static "])
def test_long_texts_are_cut_in_time_that_grows_with_their_length(
    language: Language, piece: str
) -> None:
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    language.truncate(text)
    language.finished(text)
    assert time.process_time() - start < 5.0
