"""Texts of benchmarks in rows: found wherever enough of their words stand in a row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.data.building.contamination import (
    BOILERPLATE,
    SHORTEST,
    BenchmarkText,
    Contamination,
    texts_hash,
)

from ._sources import prose

SOLUTION = prose(1, 40)


def exam(*texts, part="solution"):
    return [BenchmarkText(f"exam/{i}", f"exam/{i}", part, text) for i, text in enumerate(texts)]


def hits(text, benchmarks, size=10):
    return [(h.benchmark, h.problem) for h in Contamination(benchmarks, size).hits(text)]


def test_row_that_quotes_a_text_is_found():
    (hit,) = Contamination({"exam": exam(prose(0, 40), SOLUTION)}, 10).hits(f"See: {SOLUTION}")
    assert (hit.problem, hit.part, hit.n) == ("exam/1", "solution", 31)
    assert hit.ngram == " ".join(SOLUTION.split()[:10])


@pytest.mark.parametrize(("n", "found"), [(9, False), (10, True)])
def test_as_many_words_in_a_row_as_asked_for_are_needed(n, found):
    quote = " ".join(SOLUTION.split()[5 : 5 + n])
    assert bool(hits(f"other {quote} words", {"exam": exam(SOLUTION)})) == found


def test_layout_case_and_signs_hide_nothing():
    hidden = SOLUTION.upper().replace(" ", "();\n\t")
    assert hits(hidden, {"exam": exam(SOLUTION)}) == [("exam", "exam/0")]


def test_short_text_has_to_be_there_as_a_whole():
    short = " ".join(SOLUTION.split()[:7])
    benchmarks = {"exam": exam(short)}
    assert hits(f"a {short} b", benchmarks)
    assert not hits(f"a {' '.join(short.split()[:6])} b", benchmarks)


def test_text_too_short_is_counted_and_not_looked_for():
    index = Contamination({"exam": exam(" ".join(SOLUTION.split()[: SHORTEST - 1]))}, 10)
    assert not list(index.hits(SOLUTION))
    assert index.looked["exam"].n_too_short == 1


def test_rows_of_numbers_tell_nothing():
    counting = " ".join(str(i) for i in range(40))
    assert not hits(counting, {"exam": exam(f"assert f([{counting}])")})


@pytest.mark.parametrize(("n", "found"), [(BOILERPLATE, True), (BOILERPLATE + 1, False)])
def test_words_of_too_many_problems_are_boilerplate(n, found):
    header = prose(77, 12)
    texts = [f"{header} {prose(100 + i, 30)}" for i in range(n)]
    index = Contamination({"exam": exam(*texts)}, 10)
    assert bool(list(index.hits(header))) == found
    assert index.looked["exam"].n_boilerplate == (0 if found else 3)


def test_variants_of_a_problem_are_one():
    texts = [BenchmarkText(f"exam/0/{i}", "exam/0", "prompt", SOLUTION) for i in range(40)]
    assert hits(SOLUTION, {"exam": texts}) == [("exam", "exam/0/0")]


def test_every_benchmark_that_has_the_words_is_named():
    benchmarks = {"exam": exam(SOLUTION), "quiz": exam(prose(3, 20), SOLUTION)}
    assert hits(SOLUTION, benchmarks) == [("exam", "exam/0"), ("quiz", "exam/1")]


@pytest.mark.parametrize("text", ["", "{}", "one two"])
def test_short_row_is_clean(text):
    assert not hits(text, {"exam": exam(SOLUTION)})


@given(
    st.lists(st.sampled_from("abcd"), max_size=40), st.lists(st.sampled_from("abcd"), max_size=40)
)
def test_hits_are_those_of_a_plain_search(row, text):
    n = 8
    index = Contamination({"exam": exam(" ".join(text))}, n)
    length = min(n, len(text))
    plain = {tuple(text[i : i + length]) for i in range(len(text) - length + 1)}
    mine = [tuple(row[i : i + length]) for i in range(len(row) - length + 1)]
    shared = sum(run in plain for run in mine) if len(text) >= SHORTEST else 0
    assert sum(hit.n for hit in index.hits(" ".join(row))) == shared


def test_hash_tells_texts_apart():
    one = {"exam": exam("ab", "c")}
    assert texts_hash(one) == texts_hash({"exam": exam("ab", "c")})
    others = ({"exam": exam("a", "bc")}, {"quiz": exam("ab", "c")}, {"exam": exam("ab")})
    assert len({texts_hash(one), *map(texts_hash, others)}) == 4


def test_no_benchmark_is_no_hit():
    assert not hits(SOLUTION, {})


EVERYWHERE = {
    "a licence": "X is free software; you can redistribute it and/or modify it under the terms of",
    "includes of C": "#include <stdio.h> #include <stdlib.h> #include <string.h> #include <time.h>",
    "includes of C++": "#include<stdio.h>\n#include<vector>\nusing namespace std;\nint main",
    "counting loops": "for (int i=0;i<n;i++){ for (int j=0;j<n;j++){",
    "imports of Java": "import java.util.*; import java.lang.*; import java.util.Map;",
    "imports of Go": 'import ("fmt"; "io"; "os"; "math"; "sort"; "github.com/stretchr/testify")',
}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_what_stands_in_code_everywhere_tells_nothing(name):
    text = EVERYWHERE[name].replace("X", "This program")
    index = Contamination({"exam": exam(f"{text} {SOLUTION}")}, 10)
    assert not list(index.hits(text))
    assert list(index.hits(SOLUTION))
    assert index.looked["exam"].n_boilerplate > 0


def test_solution_behind_boilerplate_is_found():
    code = (
        "for (int i=0;i<n;i++) for (int j=i+1;j<n;j++) if (abs(a[i]-a[j])<threshold) return true;"
    )
    assert hits(code, {"exam": exam(code)})
