"""How C++ programs are made."""

from __future__ import annotations

import pytest

from astraios.languages import Surroundings
from astraios.languages.cpp import language

PUBLISHED = Surroundings(as_published=True)


def test_a_candidate_begins_with_the_headers() -> None:
    made = language.candidate("int f(){ return 1; }\n")
    assert made.startswith("using namespace std;\n#include<stdlib.h>\n")
    assert made.endswith("#include<fstream>\nint f(){ return 1; }")


@pytest.mark.parametrize("around", [Surroundings(), PUBLISHED])
@pytest.mark.parametrize("main", ["int main(){", "int main (int n, char** a) {"])
def test_a_candidate_ends_before_its_own_main(main: str, around: Surroundings) -> None:
    made = language.candidate(f"int f(){{}}\n{main} f(); }}", around)
    assert made.endswith("int f(){}")


def test_only_as_published_ends_a_name_that_begins_like_main_a_candidate() -> None:
    code = "int f(){ int main_diagonal = 0; return main_diagonal; }"
    assert language.candidate(code).endswith(code)
    assert language.candidate(code, PUBLISHED).endswith("\nint f(){")
