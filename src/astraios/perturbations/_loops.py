"""`for` loops as `while` loops.

The loop variable is set and the counter raised before the body, so `continue` stays right. What is
looped over becomes a list first, unless it is a range. Loops are left alone where that could
differ: an `else`, a body on the line of the loop, something that the body changes, or a call of
anything but the functions and methods listed here, which could be endless.
"""

from __future__ import annotations

import libcst as cst

from astraios.perturbations._layout import Edit
from astraios.perturbations._tree import Tree, bound, every, fresh, root_name

FUNCTIONS = frozenset(
    {"range", "len", "enumerate", "zip", "sorted", "reversed", "list", "set", "tuple", "str"}
    | {"min", "max", "sum", "abs", "int", "map", "filter"}
)
METHODS = frozenset({"items", "keys", "values", "split", "lower", "upper", "strip", "splitlines"})
CHANGERS = frozenset(
    {"append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "add", "discard"}
    | {"update", "popitem", "setdefault"}
)


def loop_edits(tree: Tree) -> list[Edit]:
    """What makes every given `for` loop of the function a `while` loop, where that is safe."""
    function = tree.function
    if function is None or tree.dynamic or {"len", "list", "range"} & set(bound(tree.module)):
        return []
    made: set[str] = set()
    edits = (_edit(tree, loop, made) for loop in every(function, cst.For))
    return [edit for edit in edits if edit is not None]


def _edit(tree: Tree, loop: cst.For, made: set[str]) -> Edit | None:
    start = tree.span(loop)[0]
    if not (tree.given(loop) and tree.begins_line(start) and _safe(loop)):
        return None
    assert isinstance(loop.body, cst.IndentedBlock)
    first = tree.span(loop.body.body[0])[0]
    if not tree.begins_line(first):
        return None
    header_end = tree.told.code.find("\n", tree.span(loop.iter)[1])
    if "\n" in tree.told.code[start:header_end] or "#" in tree.told.code[start:header_end]:
        return None
    outer, inner = tree.indent(start), tree.indent(first)
    name = loop.target.value if isinstance(loop.target, cst.Name) else "item"
    at = fresh(tree, f"_{name}_i", made)
    target = tree.code(loop.target)
    ends = _range(tree, loop.iter)
    if ends:
        low, high, step = ends
        end = fresh(tree, f"_{name}_end", made)
        sign = "<" if step > 0 else ">"
        lines = [
            f"{at}, {end} = {low}, {high}",
            f"{outer}while {at} {sign} {end}:",
            f"{inner}{target} = {at}",
            f"{inner}{at} += {step}",
        ]
    else:
        held = fresh(tree, f"_{name}_all", made)
        lines = [
            f"{held} = list({tree.code(loop.iter)})",
            f"{outer}{at} = 0",
            f"{outer}while {at} < len({held}):",
            f"{inner}{target} = {held}[{at}]",
            f"{inner}{at} += 1",
        ]
    return Edit(start, header_end, "\n".join(lines))


def _safe(loop: cst.For) -> bool:
    if loop.orelse or loop.asynchronous or not isinstance(loop.body, cst.IndentedBlock):
        return False
    for call in every(loop.iter, cst.Call):
        function = call.func
        known = isinstance(function, cst.Name) and function.value in FUNCTIONS
        known |= isinstance(function, cst.Attribute) and function.attr.value in METHODS
        if not known:
            return False
    if any(every(loop.iter, (cst.Yield, cst.Await, cst.NamedExpr, cst.Lambda))):
        return False
    looped = {name.value for name in every(loop.iter, cst.Name)}
    return not looped & _changed(loop.body)


def _changed(body: cst.CSTNode) -> set[str]:
    """Names whose value the statements of `body` may change."""
    found = set(bound(body))
    targets: list[cst.CSTNode] = [node.target for node in every(body, cst.AssignTarget)]
    targets += [node.target for node in every(body, cst.AugAssign)]
    targets += [node.target for node in every(body, cst.Del)]
    targets += [
        node.func
        for node in every(body, cst.Call)
        if isinstance(node.func, cst.Attribute) and node.func.attr.value in CHANGERS
    ]
    return found | {name for target in targets if (name := root_name(target))}


def _range(tree: Tree, node: cst.BaseExpression) -> tuple[str, str, int] | None:
    """Begin, end and step of a call of `range` with a step that is a number."""
    if not (isinstance(node, cst.Call) and isinstance(node.func, cst.Name)):
        return None
    if node.func.value != "range" or any(arg.keyword or arg.star for arg in node.args):
        return None
    texts = [tree.code(arg.value) for arg in node.args]
    if len(texts) == 1:
        return "0", texts[0], 1
    if len(texts) == 2:
        return texts[0], texts[1], 1
    try:
        step = int(texts[2]) if len(texts) == 3 else 0
    except ValueError:
        return None
    return (texts[0], texts[1], step) if step else None
