"""C programs as small trees, read without running the preprocessor.

tree-sitter reads programs as they are written: headers need not be there, and macros stay what they
are. Its nodes are copied once into plain objects, since every check walks them many times. Macros
without parameters that the program defines are put in as the expression they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import Any

_DEEPEST = 400


@dataclass(eq=False, slots=True)
class Node:
    """One named node of the syntax tree."""

    kind: str
    text: str
    line: int
    children: list[Node] = field(default_factory=list)
    fields: dict[str, Node] = field(default_factory=dict)
    sign: str = ""
    """The operator, where there is one."""

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        left = [self]
        while left:
            node = left.pop()
            yield node
            left.extend(reversed(node.children))


@dataclass(eq=False, slots=True)
class Unit:
    """A program."""

    root: Node
    macros: dict[str, Node]
    functions: dict[str, Node]


def tools() -> dict[str, str]:
    """Versions of the parser and its grammar."""
    return {name: version(name) for name in ("tree-sitter", "tree-sitter-c")}


@lru_cache(maxsize=1)
def _parser() -> Any:
    import tree_sitter
    import tree_sitter_c

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_c.language()))


def read(code: str) -> Unit:
    """The tree of a program."""
    root = _copied(_parser().parse(code.encode("utf-8", "replace")).root_node, 0)
    macros: dict[str, Node] = {}
    functions: dict[str, Node] = {}
    for node in root.walk():
        if node.kind == "preproc_def" and "value" in node.fields:
            value = _expression(node.fields["value"].text)
            if value is not None:
                macros[node.fields["name"].text] = value
        elif node.kind == "function_definition":
            name = declared_name(node.fields.get("declarator"))
            functions[name] = node
    return Unit(root, macros, functions)


def _expression(text: str) -> Node | None:
    text = re.sub(r"/\*.*?\*/|//.*", "", text).strip()
    tree = _copied(_parser().parse(f"int x = {text};".encode()).root_node, 0)
    for node in tree.walk():
        if node.kind == "init_declarator":
            return node.fields.get("value")
    return None


def _copied(raw: Any, depth: int) -> Node:
    if depth > _DEEPEST:
        raise RecursionError("the program is nested too deeply")
    node = Node(raw.type, raw.text.decode("utf-8", "replace"), raw.start_point[0] + 1)
    cursor = raw.walk()
    if not cursor.goto_first_child():
        return node
    while True:
        child, name = cursor.node, cursor.field_name
        if child.is_named and child.type != "comment":
            copied = _copied(child, depth + 1)
            node.children.append(copied)
            if name:
                node.fields.setdefault(name, copied)
        elif name == "operator":
            node.sign = child.type
        elif child.type in ("++", "--") and not node.sign:
            node.sign = child.type if node.children else child.type + "pre"
        if not cursor.goto_next_sibling():
            return node


def declared_name(node: Node | None) -> str:
    """The name that a declarator declares; empty if it has none."""
    while node is not None:
        if node.kind in ("identifier", "field_identifier", "type_identifier"):
            return node.text
        inner = node.fields.get("declarator")
        if inner is None and node.children and node.kind == "parenthesized_declarator":
            inner = node.children[0]
        node = inner
    return ""


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]+|[0-7]{1,3}|.)", re.S)


def unescaped(text: str) -> str:
    """The characters that a literal without its quotes stands for."""

    def one(match: re.Match[str]) -> str:
        sign = match[1]
        if sign[0] == "x" and len(sign) > 1:
            return chr(int(sign[1:], 16) & 255)
        if sign[0] in "01234567":
            return chr(int(sign, 8) & 255)
        return _ESCAPES.get(sign, sign)

    return _ESCAPE.sub(one, text)


def string_text(node: Node, unit: Unit) -> str | None:
    """The text of a literal, of adjacent ones, or of a macro that is one."""
    if node.kind == "string_literal":
        return unescaped(node.text[node.text.index('"') + 1 : -1])
    if node.kind == "concatenated_string":
        parts = [string_text(child, unit) for child in node.children]
        return None if None in parts else "".join(part or "" for part in parts)
    if node.kind == "identifier" and node.text in unit.macros:
        return string_text(unit.macros[node.text], unit)
    if node.kind == "parenthesized_expression" and node.children:
        return string_text(node.children[0], unit)
    return None


_NUMBER = re.compile(r"(?P<n>0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)(?P<end>[uUlL]*)\Z")


def number(text: str) -> tuple[int | float, str]:
    """Value and suffix of a number literal."""
    match = _NUMBER.match(text)
    if match:
        digits = match["n"]
        octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
        try:
            return int(digits, 8 if octal else 0), match["end"].lower()
        except ValueError:
            return 0, ""
    try:
        return float(text.rstrip("fFlL")), "f"
    except ValueError:
        return 0.0, "f"
