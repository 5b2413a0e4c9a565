"""What a check tells the analysis of data flow: labels, what cleans, what hurts."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, ClassVar

from astraios.markers._static.python_regex import may_hold
from astraios.markers._static.python_values import Mark, Value

if TYPE_CHECKING:
    from astraios.markers._static.python_flow import Flow


class Policy:
    """One weakness; a check overrides what concerns it."""

    labels: ClassVar[frozenset[str]] = frozenset()
    """Ways in which a value from outside can do harm."""
    parts_are_sources: ClassVar[bool] = True
    """Whether the host in a URL may be cleared without the URL."""

    def call(self, flow: Flow, call: ast.Call, found: Value, base: Value) -> Value | None:
        """Look at a call, report what is wrong, and say what it gives where that is known here.

        Args:
            flow: to report to, and to ask about marks.
            call: the expression.
            found: the call as a value: its `name` ends in `()`, `args` and `named` are its own.
            base: what the function is an attribute of, for methods.
        """
        return None

    def returned(self, flow: Flow, node: ast.AST, value: Value) -> None:
        """Look at what a function that answers requests returns."""

    def stored(self, flow: Flow, target: str, value: Value, node: ast.AST) -> None:
        """Look at an assignment to an attribute or an element, such as `response.mimetype`."""

    def compared(self, flow: Flow, op: ast.cmpop, left: Value, right: Value, node: ast.AST) -> None:
        """Look at a comparison."""

    def joined(self, flow: Flow, value: Value) -> Value:
        """What a text is whose pieces, in `value.args`, were put together."""
        return value

    # --- guards: what a test that holds says about marks ---

    def absent(self, literal: str, value: Value) -> frozenset[Mark]:
        """What is cleared when `literal` does not occur in `value`."""
        return frozenset()

    def equal(self, value: Value, other: Value) -> frozenset[Mark]:
        """What is cleared when `value` equals `other`, beyond an exact text equal to a constant."""
        return frozenset()

    def among(self, value: Value, others: Value) -> frozenset[Mark]:
        """What is cleared when `value` is one of `others`."""
        return frozenset()

    def held(self, flow: Flow, name: str, call: Value, base: Value) -> frozenset[Mark]:
        """What is cleared when a call of `name` is true."""
        return frozenset()

    def failed(self, flow: Flow, name: str, call: Value, base: Value) -> frozenset[Mark]:
        """What is cleared when a call of `name` is false."""
        return frozenset()

    def matched(self, tree: Any, method: str, text: Value) -> frozenset[Mark]:
        """What is cleared when a pattern matches `text`; `tree` is None if it cannot be read."""
        if tree is None:
            return frozenset()
        gone = {
            label
            for label, characters in self.dangerous().items()
            if not may_hold(tree, characters, method)
        }
        return frozenset(mark for mark in text.taint if mark[1] in gone)

    def essential(self) -> dict[str, str]:
        """Label -> the characters that have to be missing, all of them, for a text to be safe."""
        return self.dangerous()

    def dangerous(self) -> dict[str, str]:
        """Label -> the characters without which a text cannot do harm in that way."""
        return {}
