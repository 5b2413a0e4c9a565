"""What is known of a value at one point of a Python program.

The analysis is that of a taint tracker: a value that comes from outside is marked with pairs
(source, label). A label is one way to do harm, such as `quote` in SQL or `parent` and `absolute` in
paths; what makes a value harmless in that way takes the label off. Constants are computed where
that is easy, so that `mode = stat.S_IRUSR | stat.S_IWUSR` and `"%s/%s" % ("a", "b")` are known.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Mark = tuple[str, str]
"""Source and label."""


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Any = _Unknown()
"""The `const` of a value that is not known."""
_LONGEST_CONST = 10_000


@dataclass(frozen=True)
class Value:
    """What is known of one value."""

    taint: frozenset[Mark] = frozenset()
    name: str = ""
    """Dotted name of what it is or came from: `os.path.join()`, `flask.request.args[]`."""
    const: Any = UNKNOWN
    prefix: str = ""
    """The constant text that it begins with."""
    exact: bool = False
    """Whether it is the text of its source, and not a part or a mixture."""
    items: tuple[Value, ...] | None = None
    """Elements of a list or tuple, where all are known."""
    fields: Mapping[Any, Value] | None = None
    """Values of a dict, where all are known."""
    args: tuple[Value, ...] = ()
    """What the call was given that made it."""
    named: Mapping[str, Value] = field(default_factory=dict)
    test: ast.expr | None = None
    """The expression, where its truth may say something about other values."""
    function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None = None
    """The local function that it is."""
    local: frozenset[str] = frozenset()
    """Facts of a check's own."""

    def without(self, labels: Iterable[str]) -> Value:
        """The same value, harmless in these ways."""
        gone = frozenset(labels)
        return replace(self, taint=frozenset(m for m in self.taint if m[1] not in gone))

    def fact(self, *facts: str) -> Value:
        """The same value with facts of a check's own."""
        return replace(self, local=self.local | set(facts))

    @property
    def sources(self) -> frozenset[str]:
        """Sources of its marks."""
        return frozenset(source for source, _ in self.taint)

    @property
    def is_literal(self) -> bool:
        """Whether it is a text, bytes or number that stands in the program."""
        return isinstance(self.const, str | bytes | int | float)


NOTHING = Value()


def words(text: str) -> frozenset[str]:
    """The words of `text`, as a set."""
    return frozenset(text.split())


def constant(const: Any) -> Value:
    """A value that is known."""
    if isinstance(const, str | bytes) and len(const) > _LONGEST_CONST:
        return NOTHING
    return Value(const=const, prefix=const if isinstance(const, str) else "")


def joined(values: Iterable[Value]) -> Value:
    """What is known of a value that is one of `values`."""
    found = list(values)
    if not found:
        return NOTHING
    first = found[0]
    if all(value == first for value in found[1:]):
        return first
    same = all(_same(value.const, first.const) for value in found)
    literal = {"literal"} if all(map(_is_fixed, found)) else set()
    if any(_is_fixed(value) and value.const not in ("", b"") for value in found):
        literal.add("fallback")
    return Value(
        taint=frozenset().union(*(value.taint for value in found)),
        name=next((value.name for value in found if value.name), ""),
        const=first.const if same else UNKNOWN,
        prefix=first.prefix if len({value.prefix for value in found}) == 1 else "",
        exact=all(value.exact or not value.taint for value in found),
        items=_joined_items(found),
        fields=_joined_fields(found),
        args=next((value.args for value in found if value.args), ()),
        function=next((value.function for value in found if value.function), None),
        local=frozenset().union(literal, *(value.local for value in found)),
    )


def _is_fixed(value: Value) -> bool:
    return value.is_literal or "literal" in value.local


def _joined_fields(found: list[Value]) -> Mapping[Any, Value] | None:
    """Values of dicts, key by key."""
    dicts = [value.fields for value in found if value.fields is not None]
    if len(dicts) < len(found):
        return None
    return {
        key: joined([one[key] for one in dicts if key in one])
        for key in dict.fromkeys(key for one in dicts for key in one)
    }


def _joined_items(found: list[Value]) -> tuple[Value, ...] | None:
    """Elements of lists of one length; else the longest, which is the one that was added to."""
    lists = [value.items for value in found if value.items is not None]
    if len(lists) < len(found):
        return None
    longest = max(lists, key=len)
    return tuple(
        joined([items[at] for items in lists if at < len(items)]) for at in range(len(longest))
    )


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one is other or bool(one == other))


def concatenated(parts: Iterable[Value]) -> Value:
    """The text that `parts` make, one behind the other."""
    found = list(parts)
    texts = [part.const for part in found]
    if all(isinstance(text, str) for text in texts):
        return constant("".join(texts))
    prefix = ""
    for part in found:
        prefix += part.prefix
        if not isinstance(part.const, str):
            break
    return Value(
        taint=frozenset().union(*(part.taint for part in found)),
        prefix=prefix,
        name="concatenation",
        local=frozenset().union(*(part.local for part in found)),
        args=tuple(found),
    )


def element(value: Value, key: Any = UNKNOWN) -> Value:
    """What `value[key]` may be."""
    if value.fields is not None:
        if key is not UNKNOWN and _hashable(key) and key in value.fields:
            return value.fields[key]
        if key is UNKNOWN:
            return joined(value.fields.values())
    if value.items is not None:
        if isinstance(key, int) and -len(value.items) <= key < len(value.items):
            return value.items[key]
        if key is UNKNOWN:
            return joined(value.items)
    known = key if isinstance(key, str | int) else ""
    return Value(taint=value.taint, name=f"{value.name}[{known}]", local=value.local, args=(value,))


def _hashable(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True
