"""Each transformation keeps what it claims: references pass, the rest stays as it was."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping

import pytest

from astraios.checkers.unittests import checker
from astraios.perturbations import Claim, Told, begin, families, family, perturb, transformations
from astraios.records import Outcome, Program
from astraios.sandbox import Sandbox, open_sandbox

EVERY = 20
"""Of the problems, one in so many is run each time; all of them in the slow tests."""

NAMES = [one.name for one in transformations()]
WHITE = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.COMMENT,
    tokenize.ENCODING,
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox("best", jobs=1) as opened:
        yield opened


def failures(sandbox: Sandbox, problems: list[Told]) -> list[str]:
    """Ids of the problems whose own solution does not pass their own tests."""
    preamble = "import math\nfrom typing import *\n"
    programs = [
        Program(language="python", code=preamble + told.code, tests=told.test) for told in problems
    ]
    return [
        f"{problems[place].id}: {evidence.message}"
        for place, evidence in checker.check(iter(programs), sandbox)
        if getattr(evidence, "outcome", None) is not Outcome.PASSED
    ]


@pytest.mark.parametrize("every", [EVERY, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_references_of_minipack_pass(
    name: str, every: int, minipack: tuple[Told, ...], sandbox: Sandbox
) -> None:
    assert failures(sandbox, [perturb(told, name).told for told in minipack[::every]]) == []


@pytest.mark.parametrize("every", [EVERY, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_references_of_humaneval_pass(
    name: str, every: int, humaneval: Mapping[str, Told], sandbox: Sandbox
) -> None:
    problems = list(humaneval.values())[::every]
    assert failures(sandbox, [perturb(told, name, 1).told for told in problems]) == []


# --- what may change --------------------------------------------------------------------------


def code_tokens(code: str) -> list[str]:
    """Tokens without white space, comments and documentation."""
    lines = io.StringIO(code).readline
    return [
        token.string
        for token in tokenize.generate_tokens(lines)
        if token.type not in WHITE and not token.string.startswith(('"""', "'''")) and token.string
    ]


def without_documentation(code: str) -> str:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


@pytest.mark.parametrize("name", NAMES)
def test_claims_hold_in_the_source(name: str, minipack: tuple[Told, ...]) -> None:
    for told in minipack[:40]:
        made = perturb(told, name)
        before, after = made.original, made.told
        claim = made.transformation.claim
        if claim is Claim.LAYOUT:
            assert code_tokens(after.code) == code_tokens(before.code)
        if claim in (Claim.LETTERS, Claim.WORDS):
            assert without_documentation(after.code) == without_documentation(before.code)
        if claim is not Claim.NAME:
            assert (after.test, after.entry_point) == (before.test, before.entry_point)
        if claim is Claim.NAME:
            new = re.compile(rf"\b{after.entry_point}\b")
            assert new.sub(before.entry_point, after.test) == before.test
            assert new.sub(before.entry_point, after.code) == before.code


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_is_divided_where_it_was(name: str, minipack: tuple[Told, ...]) -> None:
    for told in minipack[:20]:
        made = perturb(told, name)
        assert made.told.rest
        partial = made.transformation.partial
        assert bool(made.original.begun) == partial
        if partial:
            assert made.original == begin(told)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("VarRenamer")])
def test_a_variable_is_renamed_in_what_is_given_and_what_is_left(
    name: str, minipack: tuple[Told, ...]
) -> None:
    for told in minipack[:20]:
        made = perturb(told, name)
        before, after = (set(re.findall(r"\w+", told.code)) for told in (made.original, made.told))
        assert made.changed
        assert len(before - after) == len(after - before) == 1


def test_families_are_those_of_recode() -> None:
    assert families() == ("docstring", "format", "function", "syntax")
    assert [len(family(name)) for name in families()] == [9, 6, 6, 7]
    assert len(set(NAMES)) == len(NAMES)


def test_what_is_asked_is_never_only_white_space(minipack: tuple[Told, ...]) -> None:
    """Words of the instruction are disturbed along with the documentation, and never lost."""
    for told in minipack[:40]:
        for one in family("docstring"):
            made = perturb(told, one.name).told
            assert made.text.strip() and "\n" not in made.text
