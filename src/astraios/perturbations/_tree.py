"""A problem's program as a concrete syntax tree, with places in characters.

LibCST parses the same language under every version of Python that runs it, knows the places of
names inside formatted strings, and gives code back byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TypeVar

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from astraios.perturbations import Told
from astraios.perturbations._layout import starts

N = TypeVar("N", bound=cst.CSTNode)

DYNAMIC = frozenset({"locals", "globals", "vars", "eval", "exec", "dir", "__import__"})
"""Functions that see names at run time."""


class Tree:
    """The program of a problem, parsed."""

    def __init__(self, told: Told) -> None:
        self.told = told
        wrapper = MetadataWrapper(cst.parse_module(told.code), unsafe_skip_copy=True)
        self.module = wrapper.module
        self._places = wrapper.resolve(PositionProvider)
        self._starts = starts(told.code)

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """Where `node` begins and ends; the parentheses around an expression left out."""
        place = self._places[node]
        return (
            self._starts[place.start.line - 1] + place.start.column,
            self._starts[place.end.line - 1] + place.end.column,
        )

    def code(self, node: cst.CSTNode) -> str:
        """The text of `node`, parentheses included."""
        return self.module.code_for_node(node)

    def indent(self, at: int) -> str:
        """The white space that the line around `at` begins with."""
        line = self.told.code[self.told.code.rfind("\n", 0, at) + 1 :].split("\n", 1)[0]
        return line[: len(line) - len(line.lstrip())]

    def begins_line(self, at: int) -> bool:
        """Whether only white space stands in front of `at` in its line."""
        return not self.told.code[self.told.code.rfind("\n", 0, at) + 1 : at].strip()

    def given(self, node: cst.CSTNode) -> bool:
        """Whether `node` begins in the part of the body that the model is given."""
        return len(self.told.prompt) <= self.span(node)[0] < len(self.told.shown)

    @property
    def function(self) -> cst.FunctionDef | None:
        """The function that is asked for."""
        found = [node for node in self.module.body if isinstance(node, cst.FunctionDef)]
        named = [node for node in found if node.name.value == self.told.entry_point]
        return named[-1] if named else None

    def names(self) -> set[str]:
        """Every identifier of the program."""
        return {node.value for node in every(self.module, cst.Name)}

    @property
    def dynamic(self) -> bool:
        """Whether names may be looked up at run time, so that none can be changed."""
        return bool(DYNAMIC & self.names())

    def bound_outside(self) -> set[str]:
        """Names of the module and of `global` and `nonlocal` statements."""
        found = {node.name.value for node in every(self.module, cst.FunctionDef)}
        found |= {node.name.value for node in every(self.module, cst.ClassDef)}
        for alias in every(self.module, cst.ImportAlias):
            found |= {name.value for name in every(alias, cst.Name)}
        for item in every(self.module, cst.NameItem):
            found.add(item.name.value)
        for node in self.module.body:
            if isinstance(node, cst.SimpleStatementLine):
                found |= set(bound(node))
        return found


@lru_cache(maxsize=4)
def tree_of(told: Told) -> Tree | None:
    """The tree of a problem's program; None where it is not Python. The latest are kept, because
    all transformations and seeds of a problem begin with the same one."""
    try:
        return Tree(told)
    except cst.ParserSyntaxError:
        return None


def every(root: cst.CSTNode, kind: type[N] | tuple[type[N], ...]) -> Iterator[N]:
    """Nodes of a kind in `root`, itself included, in the order of the source."""
    return (node for node in _nodes(root) if isinstance(node, kind))


@lru_cache(maxsize=512)
def _nodes(root: cst.CSTNode) -> tuple[cst.CSTNode, ...]:
    """All nodes in `root`; kept, because asking a node of LibCST for its children is slow."""
    found: list[cst.CSTNode] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += reversed(node.children)
    return tuple(found)


def bound(root: cst.CSTNode) -> Iterator[str]:
    """Names that are given a value in `root`: parameters, assignments, loops, `with`, `except`."""
    for node in every(root, cst.CSTNode):
        target: cst.CSTNode | None = None
        if isinstance(node, cst.Param):
            yield node.name.value
        elif isinstance(
            node,
            cst.AssignTarget
            | cst.AugAssign
            | cst.AnnAssign
            | cst.For
            | cst.CompFor
            | cst.NamedExpr,
        ):
            target = node.target
        elif isinstance(node, cst.AsName):
            target = node.name
        if target is not None:
            yield from _targets(target)


def _targets(node: cst.CSTNode) -> Iterator[str]:
    if isinstance(node, cst.Name):
        yield node.value
    elif isinstance(node, cst.Tuple | cst.List):
        for element in node.elements:
            yield from _targets(element.value)


def root_name(node: cst.CSTNode) -> str | None:
    """The name that a chain such as `a.b[0].c` begins with."""
    while isinstance(node, cst.Attribute | cst.Subscript):
        node = node.value
    return node.value if isinstance(node, cst.Name) else None


def fresh(tree: Tree, wish: str, made: set[str] | None = None) -> str:
    """`wish`, with a number behind it where the program, its tests or `made` have that name.

    The name is added to `made`.
    """
    used, number, name = tree.names() | (made or set()), 1, wish
    while name in used or name in tree.told.test:
        number += 1
        name = f"{wish}{number}"
    if made is not None:
        made.add(name)
    return name
