"""Code that never runs: a given statement, repeated behind a condition that never holds.

ReCode takes any statement of the solution, and so shows some that are still to be written.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

import libcst as cst

from astraios.perturbations._chance import Chance
from astraios.perturbations._layout import Edit
from astraios.perturbations._tree import Tree, every, fresh

UNFIT = (cst.Break, cst.Continue, cst.Global, cst.Nonlocal, cst.Import, cst.ImportFrom, cst.Del)
"""Statements that mean something else, or nothing, in another place."""

LATER = re.compile(r"\s*(?:else|elif|except|finally|case)\b")
"""How a line begins in front of which no statement can stand."""

Statements = Sequence[cst.BaseStatement]


def dead_edits(tree: Tree, chance: Chance, last: bool) -> list[Edit]:
    """One piece of dead code: at the end of what is given if `last`, else anywhere in it."""
    function = tree.function
    if function is None or any(every(tree.module, (cst.Global, cst.Nonlocal))):
        return []
    statements = [node for block in _blocks(function) for node in block.body]
    places = [] if last else _places(tree, statements)
    end = _end(tree, function, statements)
    if end is not None:
        places.append(end)
    if not places:
        return []
    at, indent = chance.choice(places)
    text = _dead(tree, statements, chance, "\t" if "\t" in indent else "    ")
    return [Edit(at, at, textwrap.indent(text, indent))]


def _blocks(function: cst.FunctionDef) -> list[cst.IndentedBlock]:
    """Blocks of the function itself: what is defined inside it has names of its own."""
    found: list[cst.IndentedBlock] = []
    waiting: list[cst.CSTNode] = [function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, cst.IndentedBlock):
            found.append(node)
        if not isinstance(node, cst.FunctionDef | cst.ClassDef | cst.Lambda):
            waiting += reversed(node.children)
    return found


def _line(tree: Tree, at: int) -> int:
    return tree.told.code.rfind("\n", 0, at) + 1


def _places(tree: Tree, statements: Statements) -> list[tuple[int, str]]:
    """Beginnings of given statements, with their indentation."""
    found = []
    for node in statements:
        start = tree.span(node)[0]
        if tree.given(node) and tree.begins_line(start):
            found.append((_line(tree, start), tree.indent(start)))
    return found


def _end(tree: Tree, function: cst.FunctionDef, statements: Statements) -> tuple[int, str] | None:
    """Where what is given ends, with the indentation that a statement can have there."""
    border, code = len(tree.told.shown), tree.told.code
    for inner in every(function.body, (cst.FunctionDef, cst.ClassDef)):
        start, end = tree.span(inner)
        if start < border < end:
            return None
    ahead = [line for line in code[border:].split("\n") if line.strip()]
    ahead = [line for line in ahead if not line.lstrip().startswith("#")]
    if ahead and not LATER.match(ahead[0]):
        return border, ahead[0][: len(ahead[0]) - len(ahead[0].lstrip())]
    before = [node for node in statements if tree.span(node)[1] <= border and tree.given(node)]
    if not before:
        return None
    closest = max(before, key=lambda node: (tree.span(node)[1], tree.span(node)[0]))
    return border, tree.indent(tree.span(closest)[0])


def _dead(tree: Tree, statements: Statements, chance: Chance, indent: str) -> str:
    fit = []
    for node in statements:
        if not isinstance(node, cst.SimpleStatementLine) or not tree.given(node):
            continue
        text = tree.code(node.with_changes(leading_lines=[])).strip()
        first = node.body[0]
        is_text = isinstance(first, cst.Expr) and isinstance(first.value, cst.BaseString)
        if not any(every(node, UNFIT)) and not is_text and not {"\n", "#"} & set(text):
            fit.append(text)
    body = chance.choice(fit) if fit else "pass"
    name = fresh(tree, f"_i_{chance.below(10)}")
    head = chance.choice(
        (
            "if False:",
            "while False:",
            f"for {name} in {'range(0)' if 'range' not in tree.bound_outside() else '()'}:",
            f"{name} = 0\nif {name} < {name}:",
            f"{name} = 0\nwhile {name} < {name}:",
        )
    )
    return f"{head}\n{indent}{body}\n"
