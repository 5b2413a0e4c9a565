"""The negative control: tests that no honest program can pass.

Every expectation is replaced by an impossible one. A program that gives right answers fails at the
first of them; one that passes anyway did not pass by its answers: it returned something equal to
everything, skipped the assertions, read the expected values out of its caller, or reported for
itself.

    assert f(2) == [1, 3]            assert f(2) == [1, 3, <other>]     a literal becomes another
    assert f(2) == expected          assert f(2) == <unequal>           anything else: equal to none
    assert abs(f(2) - 0.5) < 1e-6    assert abs(f(2) - 1501.0) < 1e-6   as does a target
    assert f(2) > 0                  assert f(2) > <unequal>            no order, so an error
    no comparison at all             raise AssertionError               appended

A literal stays a literal so that a program which returns its caller's constants returns the
impossible ones too, and is caught.
"""

from __future__ import annotations

import ast

_NAME = "_unequal"
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)

# Equal to nothing but itself, in no order with anything; the other side is asked too, so an object
# that equals everything equals this. numpy leaves the comparison to a class like this.
_PRELUDE = f"""
class {_NAME}:
    __array_ufunc__ = __hash__ = None
{_NAME} = {_NAME}()
"""


def impossible(tests: ast.Module) -> ast.Module:
    """A copy of `tests` with impossible expectations."""
    change = _Change()
    changed: ast.Module = change.visit(ast.parse(ast.unparse(tests)))
    if not change.n_changed:
        changed.body += ast.parse("raise AssertionError").body
    changed.body = ast.parse(_PRELUDE).body + changed.body
    return ast.fix_missing_locations(changed)


class _Change(ast.NodeTransformer):
    def __init__(self) -> None:
        self.n_changed = 0

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        for compare in _compared(node.test):
            operator, right = compare.ops[-1], compare.comparators[-1]
            if isinstance(operator, ast.Eq | ast.Is):
                self._replace_expected(compare)
            elif isinstance(operator, _ORDER):
                if not self._move_target(compare.left, right):
                    compare.comparators[-1] = _sentinel()
            elif isinstance(operator, ast.In):
                compare.comparators[-1] = ast.Tuple([_sentinel()], ast.Load())
            else:
                continue
            self.n_changed += 1
        return node

    def _replace_expected(self, compare: ast.Compare) -> None:
        right = _other_literal(compare.comparators[-1])
        if right is not None:
            compare.comparators[-1] = right
            return
        left = _other_literal(compare.left) if len(compare.ops) == 1 else None
        if left is not None:
            compare.left = left
        else:
            compare.comparators[-1] = _sentinel()

    def _move_target(self, left: ast.expr, tolerance: ast.expr) -> bool:
        """`abs(answer - target) < tolerance`: put the target out of reach."""
        slack = _number(tolerance)
        if slack is None:
            return False
        for node in ast.walk(left):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
                for side in ("right", "left"):
                    target = _number(getattr(node, side))
                    if target is not None:
                        moved = target + 1000 * (abs(target) + abs(slack) + 1)
                        setattr(node, side, ast.Constant(moved))
                        return True
        return False


def _compared(test: ast.expr) -> list[ast.Compare]:
    """The comparisons that must all be true for `test` to be true."""
    if isinstance(test, ast.Compare):
        return [test]
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return [compare for value in test.values for compare in _compared(value)]
    return []


def _sentinel() -> ast.expr:
    return ast.Name(_NAME, ast.Load())


def _number(node: ast.expr) -> float | None:
    """Value of an expression made of numbers only, such as `2.0 / 3.0`."""
    kinds = (ast.BinOp, ast.UnaryOp, ast.Constant, ast.operator, ast.unaryop)
    if not all(isinstance(part, kinds) for part in ast.walk(node)):
        return None
    if any(isinstance(part, ast.Pow | ast.LShift | ast.MatMult) for part in ast.walk(node)):
        return None
    try:
        value = eval(compile(ast.Expression(node), "<expected>", "eval"), {})  # noqa: S307
    except (ArithmeticError, TypeError, ValueError):
        return None
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return value if plain and value == value and abs(value) < 1e300 else None


def _other_literal(node: ast.expr) -> ast.expr | None:
    """A literal of the same kind with another value; None if `node` is not one of these."""
    number = _number(node)
    if number is not None:
        return ast.parse(repr(number + abs(number) + 1), mode="eval").body
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            return ast.Constant(not value)
        if isinstance(value, str):
            return ast.Constant(value + "~")
        if isinstance(value, bytes):
            return ast.Constant(value + b"~")
        return None
    if isinstance(node, ast.List | ast.Tuple | ast.Set) and _is_literal(node):
        return type(node)([*node.elts, ast.Constant("~")], *_context(node))
    if isinstance(node, ast.Dict) and _is_literal(node):
        return ast.Dict([*node.keys, ast.Constant("~")], [*node.values, ast.Constant("~")])
    return None


def _context(node: ast.List | ast.Tuple | ast.Set) -> tuple[ast.expr_context, ...]:
    return () if isinstance(node, ast.Set) else (ast.Load(),)


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True
