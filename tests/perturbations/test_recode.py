"""Against ReCode's released data: equal where nothing is drawn, of equal shape where something is.

Shares of equal prompts are pinned, so that a change which loses some is seen. What differs is told
in docs/perturbations.md.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from astraios.perturbations import Told, begin, perturb

from .conftest import rows

EQUAL = {
    ("format", "doc2comments"): 164,
    ("format", "new_line_aftercode"): 164,
    ("format", "new_line_afterdoc"): 164,
    ("format", "tab_indent"): 161,
    ("format", "split_lines"): 149,
    ("func_name", "FuncRenameCamelCase"): 164,
}
"""Of 164 prompts."""


@pytest.fixture(scope="module")
def released(shared: Path) -> Mapping[tuple[str, int, str], dict[str, Any]]:
    """Transformation, seed, problem -> row."""
    found = {}
    for part in ("format", "func_name", "natgen", "nlaugmenter"):
        for row in rows(shared / f"data/recode/{part}.jsonl.gz"):
            found[row["perturbation_name"], row["seed"], row["task_id"]] = row
    return found


@pytest.fixture(scope="module")
def begun(humaneval: Mapping[str, Told], nominal: Mapping[str, Any]) -> Mapping[str, Told]:
    """The problems begun where the released ones are."""
    found = {}
    for name, told in humaneval.items():
        n = len(nominal[name]["partial_prompt"]) - len(told.prompt)
        found[name] = replace(told, begun=told.rest[:n], rest=told.rest[n:])
    return found


def test_half_of_the_body_is_the_half_of_the_data(
    humaneval: Mapping[str, Told], nominal: Mapping[str, Any]
) -> None:
    other = [
        name for name, told in humaneval.items()
        if begin(told).shown != nominal[name]["partial_prompt"]
    ]  # fmt: skip
    assert other == ["HumanEval/19", "HumanEval/105"]  # theirs end inside a dictionary


@pytest.mark.parametrize(("part", "name"), list(EQUAL))
def test_what_is_not_drawn_is_equal(
    part: str,
    name: str,
    humaneval: Mapping[str, Told],
    begun: Mapping[str, Told],
    released: Mapping[tuple[str, int, str], dict[str, Any]],
) -> None:
    problems = begun if part == "format" else humaneval
    equal = [
        problem
        for problem, told in problems.items()
        if perturb(told, name).told.shown == released[name, 0, problem]["prompt"]
    ]
    assert len(equal) == EQUAL[part, name]


@pytest.mark.parametrize("seed", range(5))
def test_new_lines_only_adds_empty_lines_as_the_data_do(
    seed: int, begun: Mapping[str, Told], released: Mapping[tuple[str, int, str], dict[str, Any]]
) -> None:
    def full(text: str) -> list[str]:
        return [line for line in text.split("\n") if line.strip()]

    for problem, told in begun.items():
        theirs = released["new_lines", seed, problem]["prompt"]
        assert full(perturb(told, "new_lines", seed).told.shown) == full(theirs)


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("FuncRenameChangeChar", str.lower),
        ("FuncRenameSwapChar", sorted),
        ("FuncRenameButterFinger", len),
    ],
)
def test_names_keep_what_the_released_names_keep(
    name: str,
    same: Any,
    humaneval: Mapping[str, Told],
    released: Mapping[tuple[str, int, str], dict[str, Any]],
) -> None:
    for problem, told in humaneval.items():
        ours, theirs = perturb(told, name, 2).told, released[name, 2, problem]["entry_point"]
        assert same(ours.entry_point) == same(told.entry_point) == same(theirs)


@pytest.mark.parametrize(
    "name", ["ButterFingersPerturbation", "ChangeCharCase", "SwapCharactersPerturbation"]
)
def test_text_keeps_its_lines_and_examples(
    name: str,
    humaneval: Mapping[str, Told],
    released: Mapping[tuple[str, int, str], dict[str, Any]],
) -> None:
    for problem, told in humaneval.items():
        ours, theirs = perturb(told, name, 1).told.shown, released[name, 1, problem]["prompt"]
        assert [len(line) for line in ours.split("\n")] == [
            len(line) for line in told.prompt.split("\n")
        ]
        examples = [line for line in theirs.split("\n") if line.lstrip().startswith(">>>")]
        assert examples == [line for line in ours.split("\n") if line.lstrip().startswith(">>>")]


def tree(code: str) -> str | None:
    """The syntax tree of code that may end behind the head of a block, documentation left out."""
    for depth in range(7):
        try:
            found = ast.parse(f"{code.rstrip()}\n{'    ' * depth}pass")
        except SyntaxError:
            continue
        for node in ast.walk(found):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = None
        return ast.dump(found)
    return None


@pytest.mark.parametrize(
    ("name", "n"), [("OperandSwap", 134), ("VarRenamerNaive", 102), ("ForWhileTransformer", 100)]
)
def test_code_is_often_that_of_the_data(
    name: str,
    n: int,
    begun: Mapping[str, Told],
    released: Mapping[tuple[str, int, str], dict[str, Any]],
) -> None:
    """Theirs is formatted anew, so trees are compared: of 164, of which 161 of theirs parse."""
    equal = [
        problem
        for problem, told in begun.items()
        if (theirs := tree(released[name, 0, problem]["prompt"])) is not None
        and theirs == tree(perturb(told, name).told.shown)
    ]
    assert len(equal) == n
