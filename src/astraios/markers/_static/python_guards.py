"""Tests in a Python program: what is known where they hold, and where they do not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import Any

from astraios.markers._static import python_regex
from astraios.markers._static.python_expressions import Expressions
from astraios.markers._static.python_names import Function
from astraios.markers._static.python_values import UNKNOWN, Mark, Value, words

NONE: frozenset[Mark] = frozenset()
_ONLY_PLAIN = words("isalnum isdigit isalpha isnumeric isdecimal isidentifier")
_REGEX = words("match fullmatch search")


def loaded(target: ast.expr) -> ast.expr:
    """What is assigned to, as it is read."""
    return (
        ast.copy_location(ast.Name(target.id, ast.Load()), target)
        if isinstance(target, ast.Name)
        else target
    )


class Guards(Expressions):
    """Reads tests."""

    def guarded(self, test: ast.expr, truth: bool) -> frozenset[Mark]:
        if id(test) in self.asked:
            return NONE  # `x = x or y`: what is asked about rests on itself
        self.asked.add(id(test))
        try:
            return self._guarded(test, truth)
        finally:
            self.asked.discard(id(test))

    def _guarded(self, test: ast.expr, truth: bool) -> frozenset[Mark]:
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self.guarded(test.operand, not truth)
        if isinstance(test, ast.BoolOp):
            found = [self.guarded(one, truth) for one in test.values]
            each_holds = isinstance(test.op, ast.And) == truth
            return NONE.union(*found) if each_holds else found[0].intersection(*found)
        if isinstance(test, ast.Compare):
            return self._comparison(test, truth)
        if isinstance(test, ast.Call):
            return self._called_test(test, truth)
        if isinstance(test, ast.NamedExpr):
            return self.guarded(test.value, truth)
        if isinstance(test, ast.Name):
            told = self.value(test).test
            if told is not None and not isinstance(told, ast.Name):
                return self.guarded(told, truth)
        return NONE

    def _comparison(self, test: ast.Compare, truth: bool) -> frozenset[Mark]:
        if len(test.ops) != 1:
            return NONE
        op = test.ops[0]
        left, right = self._again(test.left), self._again(test.comparators[0])
        if isinstance(op, ast.Is | ast.IsNot | ast.Eq | ast.NotEq):
            same = isinstance(op, ast.Is | ast.Eq) == truth
            for value, other in ((left, right), (right, left)):
                if other.const is None or isinstance(other.const, bool):
                    holds = same == bool(other.const)
                    return self._told(test.left, value, holds)
                if isinstance(other.const, int) and value.name.endswith(".find()") and value.args:
                    absent = same == (other.const == -1)
                    return self._absence(value.args[0], value.args[-1]) if absent else NONE
            return self._equality(left, right) if same else NONE
        if isinstance(op, ast.In | ast.NotIn):
            within = isinstance(op, ast.In) == truth
            return self._within(left, right) if within else self._absence(left, right)
        return NONE

    def _again(self, node: ast.expr) -> Value:
        """The value once more; the check was shown it before."""
        kept = dict(self.found)
        found = self.value(node)
        self.found = kept
        return found

    def _told(self, node: ast.expr, value: Value, truth: bool) -> frozenset[Mark]:
        if isinstance(node, ast.Call):
            return self.guarded(node, truth)
        return self.guarded(value.test, truth) if value.test is not None else NONE

    def _equality(self, left: Value, right: Value) -> frozenset[Mark]:
        found = self.policy.equal(left, right) | self.policy.equal(right, left)
        for value, other in ((left, right), (right, left)):
            if value.exact and not self.deep(other).taint:
                found |= value.taint
        return found

    def _within(self, value: Value, others: Value) -> frozenset[Mark]:
        """`value in others`, where `others` is no text but a list of what is allowed."""
        found = self.policy.among(value, others)
        listed = others.items is not None or others.fields is not None or others.const is UNKNOWN
        is_list = listed or (len(str(others.const)) > 1 and value.name.endswith("[*]"))
        if value.exact and is_list and not self.deep(others).taint:
            found |= value.taint
        return found

    def _absence(self, value: Value, others: Value) -> frozenset[Mark]:
        """`value not in others`: a text that does not occur in another."""
        if isinstance(value.const, str) and value.const and others.taint:
            return self.policy.absent(value.const, others)
        return NONE

    def _called_test(self, test: ast.Call, truth: bool) -> frozenset[Mark]:
        base = self._again(test.func.value) if isinstance(test.func, ast.Attribute) else Value()
        function = self._again(test.func)
        name = function.name
        args = [self._again(one) for one in test.args if not isinstance(one, ast.Starred)]
        named = {one.arg: self._again(one.value) for one in test.keywords if one.arg}
        call = Value(name=name, args=tuple(args), named=named)
        last = name.rpartition(".")[2]
        if function.function is not None:
            return self._own_test(function.function, args, named, truth)
        if last == "bool" and test.args:
            return self.guarded(test.args[0], truth)
        if last in ("all", "any") and test.args:
            return self._of_each(test.args[0], truth) if (last == "all") == truth else NONE
        if last in _REGEX:
            return self._regex(last, base, call) if truth else NONE
        found = (self.policy.held if truth else self.policy.failed)(self, last, call, base)  # type: ignore[arg-type]
        if truth and last in _ONLY_PLAIN and base.exact:
            found |= base.taint
        if truth and last == "issuperset" and args and args[0].exact:
            found |= args[0].taint
        return found

    def _of_each(self, node: ast.expr, truth: bool) -> frozenset[Mark]:
        """`all(test for x in text)` is true, or `any(...)` false: what the test says of each."""
        if not isinstance(node, ast.GeneratorExp | ast.ListComp):
            return NONE
        kept = self.state
        self.state = kept.copy()
        found = NONE
        part = node.generators[0]
        over = self._again(part.iter)
        if over.items is not None and all(isinstance(one.const, str) for one in over.items):
            found = self._over_literals(part.target, over.items, node.elt, truth)
        elif isinstance(over.const, str) and len(over.const) < 100:
            letters = [Value(const=letter) for letter in over.const]
            found = self._over_literals(part.target, letters, node.elt, truth)
        else:
            self.bind(part.target, self.each(over))
            found = self.guarded(node.elt, truth)
        self.state = kept
        return found

    def _over_literals(
        self, target: ast.expr, literals: Iterable[Value], test: ast.expr, truth: bool
    ) -> frozenset[Mark]:
        found, missing = NONE, set()
        text = self._searched(target, test)
        for literal in literals:
            self.bind(target, literal)
            found |= self.guarded(test, truth)
            missing.add(literal.const)
        if text is not None and not truth:
            gone = {
                label for label, signs in self.policy.essential().items() if set(signs) <= missing
            }
            found |= frozenset(mark for mark in text.taint if mark[1] in gone)
        return found

    def _searched(self, target: ast.expr, test: ast.expr) -> Value | None:
        """The text in `x in text`, where `target` is `x`."""
        if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.In):
            return None
        if ast.dump(test.left) != ast.dump(loaded(target)):
            return None
        text = self._again(test.comparators[0])
        return text if text.exact else None

    def _own_test(
        self,
        function: Function | ast.Lambda,
        args: list[Value],
        named: dict[str, Value],
        truth: bool,
    ) -> frozenset[Mark]:
        """What holds where a function of the program says `truth`."""
        raise NotImplementedError

    # --- regular expressions ---

    def pattern(self, base: Value, call: Value) -> tuple[Any, Value]:
        """The parsed pattern of a call of `match` and the like, None if it cannot be read, and the
        text that it is put to."""
        args = call.args
        if base.name == "re.compile()":
            source, flags, rest = base.args[:1], base.args[1:2], args
        elif base.name in ("re", "regex", ""):
            source, flags, rest = args[:1], args[2:3], args[1:]
        else:
            return None, args[0] if args else Value()
        text = rest[0] if rest else Value()
        if not source or not isinstance(source[0].const, str):
            return None, text
        names = " ".join(flag.name for flag in (*flags, *call.named.values(), *base.named.values()))
        chosen = re.IGNORECASE if "IGNORECASE" in names or "re.I" in names.split() else 0
        return python_regex.parsed(source[0].const, chosen), text

    def _regex(self, method: str, base: Value, call: Value) -> frozenset[Mark]:
        tree, text = self.pattern(base, call)
        return self.policy.matched(tree, method, text) if text.exact else NONE
