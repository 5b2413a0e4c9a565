"""How Python completions are cut and programs are made."""

from __future__ import annotations

import gzip
import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.languages.python import language


@pytest.mark.parametrize(
    ("completion", "kept"),
    [
        ("\n    return 1\n\ndef other():\n    pass", "\n    return 1\n"),
        ("\n    return 1\n# a remark", "\n    return 1"),
        ("\n    return 1\nx = 2\n    y = 3", "\n    return 1"),
        ("\n\treturn 1\n\n\n\tx = 2\n", "\n\treturn 1\n\n\n\tx = 2"),
        ("return 1", ""),
        ("    return 1", "    return 1"),
        ("\n    return 1<|endoftext|>rubbish", "\n    return 1"),
        ("", ""),
        ("\n \n\n", ""),
    ],
)
def test_completion_ends_before_the_next_unindented_line(completion: str, kept: str) -> None:
    assert language.truncate(completion) == kept


@given(st.text(alphabet="ab \t\n#@:()", max_size=60), st.text(alphabet="ab \t\n#", max_size=30))
def test_finished_completion_is_not_changed_by_what_follows(first: str, more: str) -> None:
    if language.finished(first) and not first.endswith("\n"):
        assert language.truncate(first + "\n" + more).rstrip() == language.truncate(first).rstrip()


@given(st.text(max_size=200))
def test_truncating_twice_changes_nothing(completion: str) -> None:
    once = language.truncate(completion)
    assert language.truncate(once) == once.rstrip()


def test_candidate_begins_with_the_import_helper() -> None:
    made = language.candidate("\n\ndef f():\n    pass\n\n")
    assert made.startswith("import math\nimport re\n")
    assert "\nfrom typing import *\nfrom collections import *\n" in made
    assert made.endswith("def f():\n    pass")


@pytest.mark.parametrize(
    ("code", "needs"),
    [
        ("x = 1", False),
        ("x = np.zeros(1)", True),
        ("import numpy", True),
        ("x = globals()", True),
        ("x = eval('n' + 'p')", True),
        ("npx = 1", False),
    ],
)
def test_numpy_is_loaded_only_for_programs_that_may_name_it(code: str, needs: bool) -> None:
    made = language.candidate(code)

    assert ("numpy" in language.preload(made)) is needs
    assert ("numpy" in language.needed(made)) is needs
    assert made.startswith(language.preamble)


@pytest.mark.parametrize("solution", ["canonical", "buggy"])
def test_programs_have_the_hashes_of_the_original(shared: Path, solution: str) -> None:
    with gzip.open(shared / "data/humanevalpack/python.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    known = json.loads((shared / "oracle/humanevalpack_programs.json").read_text())
    texts = [
        language.candidate(row["prompt"] + row[f"{solution}_solution"]) + "\n\n" + row["test"]
        for row in rows
    ]
    hashes = [sha256(text.encode()).hexdigest()[:16] for text in texts]
    assert hashes == known[f"python_{solution}"]["sha256_each"]


def test_cuts_and_stops_equal_the_original(shared: Path) -> None:
    with gzip.open(shared / "data/humanevalpack/python.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    with gzip.open(shared / "oracle/humanevalpack_postprocess.json.gz", "rt") as file:
        cases = json.load(file)["cases"]
    n_cases = 0
    for case in cases:
        task, _, part = case["task"].rpartition("-")
        if part != "python" or task == "humanevalexplaindescribe":
            continue
        row = rows[case["index"] // 2 if "explain" in task else case["index"]]
        head = row["declaration" if "fix" in task else "prompt"].rstrip()
        assert head + language.truncate(case["completion"]) == case["expected"]
        assert language.finished(case["completion"]) == case["finished"]
        n_cases += 1
    assert n_cases > 100
