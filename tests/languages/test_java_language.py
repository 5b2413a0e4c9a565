"""How Java completions are cut and programs are made."""

from __future__ import annotations

import pytest

from astraios.languages.java import language


@pytest.mark.parametrize(
    ("completion", "kept"),
    [
        ("\n  return 1;\n  }\n}\nclass Other {}", "\n  return 1;\n  }\n}"),
        (
            "\n  return 1;\n  }\n\n  public static void main(String[] a) {\n    f();",
            "\n  return 1;\n  }\n\n  }",
        ),
        ("\n  if (a) {\n  for (;;) {\n }\n x", "\n  if (a) {\n  for (;;) {\n }\n}"),
        ("\n  return 1;\n  }\n  int x", "\n  return 1;\n  }"),
        ("\n  return", "\n  return"),
    ],
)
def test_a_method_ends_with_its_class_or_before_main(completion: str, kept: str) -> None:
    assert language.truncate(completion) == kept


def test_an_empty_main_is_taken_out_of_a_candidate() -> None:
    code = "\nclass Solution {\n}\npublic class Main {\n    }\n"
    assert language.candidate(code) == "class Solution {\n}"
