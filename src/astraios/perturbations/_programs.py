"""What `syntax` makes of parsed programs; apart, for listing transformations needs no parser."""

from __future__ import annotations

import builtins
import keyword
import re
from collections import Counter
from dataclasses import replace
from types import MappingProxyType

import libcst as cst

from astraios.perturbations import Told
from astraios.perturbations._chance import Chance
from astraios.perturbations._dead import dead_edits
from astraios.perturbations._layout import Edit, edited
from astraios.perturbations._loops import loop_edits
from astraios.perturbations._tree import Tree, bound, every, fresh

MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

USUAL = (
    "value", "result", "data", "item", "x", "n", "total", "current", "index", "number", "temp",
    "values", "output", "s", "text", "left", "count", "a", "key", "res", "size", "limit",
)  # fmt: skip
"""Names that programs often have, where ReCode asks CodeBERT for a likely one."""

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


# --- dead code, loops, operands ---------------------------------------------------------------


def _dead_code(tree: Tree, chance: Chance) -> Told:
    return edited(tree.told, dead_edits(tree, chance, last=False))


def _dead_code_last(tree: Tree, chance: Chance) -> Told:
    return edited(tree.told, dead_edits(tree, chance, last=True))


def _for_while(tree: Tree, chance: Chance) -> Told:
    return edited(tree.told, loop_edits(tree))


def _operand_swap(tree: Tree, chance: Chance) -> Told:
    """One given comparison is told from its other side."""
    able = [node for node in every(tree.module, cst.Comparison) if _swappable(tree, node)]
    if not able:
        return tree.told
    node = chance.choice(able)
    (right,) = node.comparisons
    sign = tree.code(right.operator)
    bare = sign.strip()
    start, end = _around(tree, node)
    text = tree.code(right.comparator) + sign.replace(bare, MIRRORED[bare]) + tree.code(node.left)
    return edited(tree.told, [Edit(start, end, text)])


def _around(tree: Tree, node: cst.Comparison) -> tuple[int, int]:
    """The span of the comparison with the parentheses of its operands, without its own."""
    whole = tree.code(node.with_changes(lpar=[], rpar=[]))
    start = tree.span(node)[0]
    return start, start + len(whole)


def _swappable(tree: Tree, node: cst.Comparison) -> bool:
    """Both sides may be evaluated in either order: no side has an effect that we know of."""
    if len(node.comparisons) != 1 or not tree.given(node):
        return False
    if tree.code(node.comparisons[0].operator).strip() not in MIRRORED:
        return False
    effects = (cst.Await, cst.Yield, cst.NamedExpr)
    return not any(every(node, effects)) and sum(1 for _ in _changing(node)) == 0


def _changing(node: cst.CSTNode) -> list[cst.Call]:
    names = {"pop", "popitem", "popleft", "append", "add", "remove", "next", "input", "setdefault"}
    return [
        call
        for call in every(node, cst.Call)
        if (isinstance(call.func, cst.Attribute) and call.func.attr.value in names)
        or (isinstance(call.func, cst.Name) and call.func.value in names)
    ]


# --- variables --------------------------------------------------------------------------------


def _variables(tree: Tree) -> list[str]:
    """Variables of the function that can be renamed and that the model sees, most used first."""
    function = tree.function
    if function is None or tree.dynamic:
        return []
    keywords = {arg.keyword.value for arg in every(tree.module, cst.Arg) if arg.keyword}
    keywords |= set(re.findall(r"\b(\w+)\s*=(?!=)", tree.told.test))
    printed = {
        name.value
        for part in every(tree.module, cst.FormattedStringExpression)
        if part.equal
        for name in every(part, cst.Name)
    }
    barred = keywords | printed | tree.bound_outside() | set(dir(builtins)) | {"self", "cls"}
    used = Counter(_places_of(tree))
    seen = [name for name in dict.fromkeys(bound(function)) if name not in barred]
    seen = [name for name in seen if re.search(rf"\b{re.escape(name)}\b", tree.told.shown)]
    return sorted(seen, key=lambda name: -used[name])


def _places_of(tree: Tree) -> list[str]:
    return [node.value for node in _names(tree)]


def _names(tree: Tree) -> list[cst.Name]:
    """Uses of variables: attributes and the keywords of calls are none."""
    other = {id(node.attr) for node in every(tree.module, cst.Attribute)}
    other |= {id(node.keyword) for node in every(tree.module, cst.Arg) if node.keyword}
    return [node for node in every(tree.module, cst.Name) if id(node) not in other]


def _renamed(tree: Tree, old: str, new: str) -> Told:
    edits = [Edit(*tree.span(node), new) for node in _names(tree) if node.value == old]
    told = edited(tree.told, edits)
    before, after = _signature(tree.told), _signature(told)
    return replace(told, text=told.text.replace(before, after)) if before else told


def _signature(told: Told) -> str:
    """The head of the function as instructions quote it: without `def` and colon."""
    found = re.search(
        rf"^def ({re.escape(told.entry_point)}\(.*?\)(?: -> [^\n]*?)?):\s*$",
        told.prompt,
        re.M | re.S,
    )
    return found.group(1) if found else ""


def _naive(tree: Tree, chance: Chance) -> Told:
    names = _variables(tree)
    return _renamed(tree, names[0], fresh(tree, "VAR_0")) if names else tree.told


def _usual(tree: Tree, chance: Chance) -> Told:
    names = _variables(tree)
    used = tree.names()
    free = [name for name in USUAL if name not in used and not _tested(tree, name)]
    return _renamed(tree, names[0], chance.choice(free)) if names and free else tree.told


def _tested(tree: Tree, name: str) -> bool:
    return bool(re.search(rf"\b{name}\b", tree.told.test))


def _random(tree: Tree, chance: Chance) -> Told:
    names = _variables(tree)
    if not names:
        return tree.told
    old = chance.choice(names)
    length = min(max(len(old), 3), 12)
    while True:
        new = chance.choice(LETTERS)
        new += "".join(chance.choice(LETTERS + "0123456789") for _ in range(length - 1))
        if not (keyword.iskeyword(new) or hasattr(builtins, new) or new in tree.told.code):
            return _renamed(tree, old, fresh(tree, new))


MAKERS = MappingProxyType(
    {
        "DeadCodeInserterLast": _dead_code_last,
        "DeadCodeInserter": _dead_code,
        "ForWhileTransformer": _for_while,
        "OperandSwap": _operand_swap,
        "VarRenamerCB": _usual,
        "VarRenamerNaive": _naive,
        "VarRenamerRN": _random,
    }
)
"""Transformation -> what it makes of a program."""
