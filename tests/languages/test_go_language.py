"""How Go completions are cut and programs are made, with the harness's faults and without."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.languages import Surroundings
from astraios.languages._go_source import Import, masked, split_imports, used_names
from astraios.languages.go import language

SETUP = 'package main\n\nimport (\n    "testing"\n    "github.com/stretchr/testify/assert"\n)\n'
TESTS = "\nfunc TestF(t *testing.T) {\n    assert := assert.New(t)\n}\n"
AROUND = Surroundings(test_setup=SETUP, tests=TESTS)
PUBLISHED = Surroundings(test_setup=SETUP, tests=TESTS, as_published=True)


def imports(made: str) -> list[str]:
    return [found.path for found in split_imports(made)[0]]


# --- cutting ---


def test_a_set_of_empty_structs_is_kept() -> None:
    body = "\n    seen := map[int]struct{}{}\n    return seen\n}"
    assert language.truncate(body) == body
    assert language.published().truncate(body) == "\n    seen := map[int]"


def test_a_type_behind_the_function_ends_it() -> None:
    assert language.truncate("\n    return 1\ntype T struct {}") == "\n    return 1"


def test_the_published_rule_leaves_ours_alone() -> None:
    assert "struct" in language.published().stops
    assert "struct" not in language.stops


# --- assembling ---


def test_packages_are_imported_where_they_are_used() -> None:
    made = language.candidate("func f() int { return rand.Intn(md5.Size) }\n", AROUND)
    assert imports(made) == [
        "testing", "github.com/stretchr/testify/assert", "math/rand", "crypto/md5",
    ]  # fmt: skip
    assert made.startswith("package main\n\nimport (\n")


def test_unused_imports_are_dropped() -> None:
    made = language.candidate('import (\n    "strings"\n)\n\nfunc f() {}\n', AROUND)
    assert "strings" not in imports(made)


@pytest.mark.parametrize(
    "mention",
    ["// a list of strings.", "/* strings. */", '"strings."', "`\nstrings.\n`", "x.strings.y"],
)
def test_a_package_that_is_only_named_is_not_imported(mention: str) -> None:
    made = language.candidate(f"func f() {{ g({mention}\n) }}", AROUND)
    assert "strings" not in imports(made)


def test_imports_of_a_whole_program_are_not_repeated() -> None:
    code = (
        'package main\n\nimport "fmt"\nimport (\n\t"sort"\n\tstr "strings" // for f\n'
        '\t"testing"\n)\n\nfunc f() { fmt.Println(str.ToLower("A")); sort.Ints(nil) }\n'
    )
    made = language.candidate(code, AROUND)
    assert made.count("package main") == 1
    assert imports(made) == [
        "testing", "github.com/stretchr/testify/assert", "fmt", "sort", "strings",
    ]  # fmt: skip
    assert made.count("import") == 1
    assert '    str "strings"\n' in made


def test_without_surroundings_a_candidate_is_a_package_still() -> None:
    made = language.candidate("func f() {}", Surroundings(tests=TESTS))
    assert imports(made) == ["testing", "github.com/stretchr/testify/assert"]
    assert language.candidate("func f() {}") == "package main\n\nfunc f() {}"


def test_as_published_packages_are_added_by_their_last_element() -> None:
    made = language.candidate("func f() int { return rand.Intn(2) }\n", PUBLISHED)
    assert made.startswith(SETUP + '\nimport (\n    "rand"\n)\n')


def test_as_published_unused_imports_stay() -> None:
    code = 'import (\n    "strings"\n)\n\nfunc f() {}\n'
    assert language.candidate(code, PUBLISHED) == SETUP + "\n" + code


def test_as_published_imports_of_the_candidate_leave_the_setup() -> None:
    made = language.candidate('import "testing"\nfunc f() {}', PUBLISHED)
    assert made.count('"testing"') == 1


# --- reading source ---


@given(st.text(alphabet="a.\"'`/*\\\n ()", max_size=60))
def test_masking_keeps_length_and_lines(text: str) -> None:
    seen = masked(text)
    assert len(seen) == len(text)
    assert [len(line) for line in seen.split("\n")] == [len(line) for line in text.split("\n")]


@given(st.text(max_size=100))
def test_text_without_imports_is_left_alone(text: str) -> None:
    assert split_imports("//" + text.replace("\n", " ")) == ((), "//" + text.replace("\n", " "))


def test_an_import_inside_a_comment_or_a_string_is_none() -> None:
    text = '/*\nimport "fmt"\n*/\nvar x = `\nimport "os"\n`\n'
    assert split_imports(text) == ((), text)


@pytest.mark.parametrize(
    ("path", "name"), [("math/rand", "rand"), ("math/rand/v2", "rand"), ("fmt", "fmt")]
)
def test_a_package_is_called_like_the_end_of_its_path(path: str, name: str) -> None:
    assert Import(path).name == name
    assert Import(path, alias="other").name == "other"


def test_names_behind_a_dot_are_no_packages() -> None:
    assert used_names("a.b.c(d .e) + f().g + h[0].i") == {"a", "d"}


@pytest.mark.parametrize("piece", ["/*", '"', "`", "import (", "import ", "a.", "package ", "'\\"])
def test_long_texts_are_assembled_in_time_that_grows_with_their_length(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    lines = (piece + "\n") * (200_000 // len(piece))
    start = time.process_time()
    for code in (text, lines):
        language.candidate(code, AROUND)
        language.candidate(code, PUBLISHED)
    assert time.process_time() - start < 5.0
