"""Names in a Python program: where they were imported from, and what comes from outside."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TypeGuard

from astraios.markers._static.python_values import words

Function = ast.FunctionDef | ast.AsyncFunctionDef

REQUEST = "flask.request"
_FIELDS = words(
    "args form values json data cookies headers files stream view_args get_json get_data url "
    "base_url full_path path query_string referrer host user_agent GET POST params"
)
_ROUTES = words("route get post put delete patch websocket")
_OUTSIDE_CALLS = frozenset({"input()", "raw_input()", "sys.stdin.read()", "sys.stdin.readline()"})


def imported(tree: ast.AST) -> dict[str, str]:
    """Name in the program -> dotted name of what was imported."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                found[alias.asname or name] = name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}".lstrip(".")
    return found


def is_function(node: ast.AST) -> TypeGuard[Function]:
    """Whether `node` defines a function."""
    return isinstance(node, Function)


def functions(tree: ast.AST) -> dict[str, Function]:
    """Name -> definition of every function of the program; the last of a name."""
    return {node.name: node for node in ast.walk(tree) if is_function(node)}


def routed(tree: ast.AST) -> Iterator[Function]:
    """Functions that answer requests: by a decorator, or by `add_url_rule`."""
    known = functions(tree)
    for node in known.values():
        if any(_is_route(decorator) for decorator in node.decorator_list):
            yield node
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _last(call.func) == "add_url_rule":
            given = [*call.args[2:], *(k.value for k in call.keywords if k.arg == "view_func")]
            for value in given:
                if isinstance(value, ast.Name) and value.id in known:
                    yield known[value.id]


def _is_route(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and _last(decorator.func) in _ROUTES


def typed_parameters(function: Function) -> frozenset[str]:
    """Parameters that the route makes numbers of: `<int:number>`."""
    found: set[str] = set()
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and decorator.args:
            rule = decorator.args[0]
            if isinstance(rule, ast.Constant) and isinstance(rule.value, str):
                for piece in rule.value.split("<")[1:]:
                    kind, colon, name = piece.partition(">")[0].partition(":")
                    if colon and kind.partition("(")[0] in ("int", "float", "uuid"):
                        found.add(name)
    return frozenset(found)


def _last(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def outside(name: str) -> bool:
    """Whether what `name` names comes from outside: of a request, or typed in."""
    if name in _OUTSIDE_CALLS or name == "sys.argv":
        return True
    start, _, rest = name.partition("request.")
    return start in ("", "flask.", "bottle.") and rest in _FIELDS
