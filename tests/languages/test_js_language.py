"""How JavaScript programs are made."""

from __future__ import annotations

from astraios.languages.js import language


def test_a_candidate_is_the_text_itself() -> None:
    code = "\nconst f = () => {\n  return 1\n}\n\n"
    assert language.candidate(code) == code
