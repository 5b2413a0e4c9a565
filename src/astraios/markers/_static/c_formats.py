"""What printf writes: how long it gets, and which text from outside is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from astraios.markers._static.c_values import NONE, Num, State, Value

_SPEC = re.compile(
    r"%(?P<flags>[-+ #0]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d+)?(?P<dot>))?"
    r"(?P<size>hh|h|ll|l|z|j|t|L)?(?P<sign>[a-zA-Z%])"
)


@dataclass(frozen=True)
class Piece:
    """One part of a format: literal text, or one conversion and its argument."""

    text: str = ""
    sign: str = ""
    argument: Value | None = None
    width: int = 0
    precision: int | None = None
    quoted: bool = False
    """Whether it stands between single quotes."""


def pieces(template: str, arguments: Sequence[Value]) -> Iterator[Piece]:
    """The parts of a format in their order."""
    left = list(arguments)
    at, before = 0, ""
    for spec in _SPEC.finditer(template):
        yield Piece(template[at : spec.start()])
        before += template[at : spec.start()]
        at = spec.end()
        if spec["sign"] == "%":
            yield Piece("%")
            continue
        for star in (spec["width"], spec["precision"]):
            if star == "*" and left:
                left.pop(0)
        precision = spec["precision"]
        bound = int(precision) if precision and precision != "*" else None
        if spec["dot"] is not None and precision is None:
            bound = 0
        width = int(spec["width"]) if spec["width"] and spec["width"] != "*" else 0
        argument = left.pop(0) if left else None
        yield Piece("", spec["sign"], argument, width, bound, before.count("'") % 2 == 1)
    yield Piece(template[at:])


def converted_length(st: State, piece: Piece) -> tuple[float, float]:
    """The least and the most characters that a conversion of a number writes."""
    value = piece.argument
    low, high = -inf, inf
    if isinstance(value, Num):
        low, high = st.lo(value), st.hi(value)
    sign = piece.sign
    if sign == "c":
        least, most = 1.0, 1.0
    elif sign in "diu":
        if abs(low) == inf or abs(high) == inf:
            low, high = -(2.0**63), 2.0**63
        most = max(len(str(int(low))), len(str(int(high))))
        least = 1 if low <= 9 and high >= 0 else min(len(str(int(low))), len(str(int(high))))
    elif sign in "xXo":
        least, most = 1, 22 if sign == "o" else 16
    elif sign in "fF":
        decimals = 6 if piece.precision is None else piece.precision
        single = isinstance(value, Num) and value.type.size == 4
        digits = 39 if single else 309
        if abs(low) < inf and abs(high) < inf:
            digits = max(len(str(int(abs(low)))), len(str(int(abs(high)))))
        most = digits + (decimals + 1 if decimals else 0) + (low < 0)
        least = 1 + (decimals + 1 if decimals else 0)
    elif sign in "eEgGaA":
        least, most = 1, 9 + (6 if piece.precision is None else piece.precision)
    elif sign == "p":
        least, most = 5, 18
    else:
        least, most = 0, 0
    return max(least, piece.width), max(most, piece.width)


def marked(labels: frozenset[str], piece: Piece) -> frozenset[str]:
    """Labels of text from outside at its place in a command."""
    if not labels:
        return NONE
    if piece.quoted:
        out = labels - {"shell", "quote"}
        return out | {"quoted"} if "quote" in labels else out
    return labels
