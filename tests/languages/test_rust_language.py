"""How Rust programs are made."""

from __future__ import annotations

from astraios.languages import Surroundings
from astraios.languages.rust import language

AROUND = Surroundings(declaration="\nuse regex::Regex;\nuse md5;\n\nfn f() -> i32 {\n")


def test_a_candidate_gets_main_and_the_lines_it_lacks() -> None:
    made = language.candidate("use md5;\nfn f() -> i32 {\n    1\n}", AROUND)
    assert made == "fn main(){}\nuse regex::Regex;\nuse md5;\nfn f() -> i32 {\n    1\n}"


def test_a_whole_candidate_is_left_alone() -> None:
    code = "fn main(){}\n\nuse regex::Regex;\nuse md5;\n\nfn f() -> i32 {\n    1\n}"
    assert language.candidate(code, AROUND) == code


def test_a_candidate_ends_before_a_second_main() -> None:
    code = "fn main(){}\nfn f() {}\nfn main() { f(); }\nfn main() {}"
    assert language.candidate(code) == "fn main(){}\nfn f() {}\n"
