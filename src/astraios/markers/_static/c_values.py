"""What is known of the memory and the numbers of a C program at one point of one path.

A number is a symbol plus a constant (or a constant less a symbol), so that `len - 1` stays tied to
`len`. What a path has compared is kept as bounds of symbols, of differences of two symbols (the
zones of Miné, PADO 2001), and of sums of two, which overflow guards such as `a > INT_MAX - b` need.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf

WILD = "wild"
"""A number that someone outside, or chance, chooses."""
TEXT = frozenset({"shell", "quote", "dotdot", "abs", "html", "sql"})
"""Ways in which text from outside can do harm."""
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CType:
    """A C type as far as sizes and ranges need it."""

    kind: str
    """`int`, `float`, `ptr`, `array`, `struct` or `void`."""
    size: int = 4
    signed: bool = True
    to: CType | None = None
    count: int | None = None
    members: tuple[tuple[str, int, CType], ...] = ()

    @property
    def least(self) -> float:
        if self.kind != "int":
            return -inf
        return -(2.0 ** (8 * self.size - 1)) if self.signed else 0

    @property
    def most(self) -> float:
        if self.kind != "int":
            return inf
        return int(2 ** (8 * self.size - self.signed)) - 1


INT = CType("int")
UINT = CType("int", 4, False)
CHAR = CType("int", 1)
LONG = CType("int", 8)
SIZE = CType("int", 8, False)
DOUBLE = CType("float", 8)
FLOAT = CType("float", 4)
VOID = CType("void", 1)
TEXT_POINTER = CType("ptr", 8, to=CHAR)


@dataclass(frozen=True, slots=True)
class Num:
    """`coef` times a symbol, plus `off`; the symbol counts only where `coef` is 1 or -1."""

    off: float
    sym: int = 0
    coef: int = 0
    type: CType = INT
    labels: frozenset[str] = NONE

    def plus(self, n: float) -> Num:
        return replace(self, off=self.off + n)


@dataclass(frozen=True, slots=True)
class Ptr:
    """A place in a region: `off` steps of `unit` bytes behind its start."""

    region: int
    off: Num
    unit: int = 1
    null: int = 0
    """The question whether this is a null pointer; 0 if it never is."""
    to: CType | None = None


Value = Num | Ptr
ZERO = Num(0)


@dataclass(slots=True)
class Region:
    """An object in memory; what of it does not change along a path."""

    kind: str
    """`local`, `heap`, `literal`, `argv`, `outside`, `part` or `unknown`."""
    size: Num | None = None
    """In steps of `unit` bytes."""
    unit: int = 1
    literal: str | None = None
    parent: int = 0


@dataclass(slots=True)
class State:
    """One path up to one point."""

    env: dict[str, tuple[int, CType]] = field(default_factory=dict)
    cells: dict[tuple[int, int], Value] = field(default_factory=dict)
    lengths: dict[int, Num | None] = field(default_factory=dict)
    """Region -> length of its text; None if no zero ends it."""
    zeroed: frozenset[int] = NONE  # type: ignore[assignment]
    """Regions that hold zeros behind what was written."""
    labels: dict[int, frozenset[str]] = field(default_factory=dict)
    freed: dict[int, int] = field(default_factory=dict)
    """Region -> the null question on which its release depends; 0 if it was released anyway."""
    nulls: dict[int, bool] = field(default_factory=dict)
    low: dict[int, float] = field(default_factory=dict)
    high: dict[int, float] = field(default_factory=dict)
    diffs: dict[tuple[int, int], float] = field(default_factory=dict)
    sums: dict[tuple[int, int], float] = field(default_factory=dict)
    casts: dict[int, Num] = field(default_factory=dict)
    facts: dict[tuple[str, int], object] = field(default_factory=dict)
    """What library calls leave behind: (kind, symbol, question or region) -> what it says."""
    files: dict[str, tuple[int, Num | None, int]] = field(default_factory=dict)
    """Files that everybody may write: name -> line, descriptor, null question of the stream."""
    umask: int = -1
    probe: tuple[int, str, str] | None = None
    """A character to be read from a region, with its label: see loops."""
    result: Value | None = None
    jumps: int = 0

    def copy(self) -> State:
        return State(
            dict(self.env), dict(self.cells), dict(self.lengths), self.zeroed, dict(self.labels),
            dict(self.freed), dict(self.nulls), dict(self.low), dict(self.high), dict(self.diffs),
            dict(self.sums), dict(self.casts), dict(self.facts), dict(self.files), self.umask,
            self.probe, self.result, self.jumps,
        )  # fmt: skip

    # --- bounds -------------------------------------------------------------------------------

    def lo(self, n: Num) -> float:
        if not n.coef:
            return n.off
        if n.coef > 0:
            return self.low.get(n.sym, -inf) + n.off
        return n.off - self.high.get(n.sym, inf)

    def hi(self, n: Num) -> float:
        if not n.coef:
            return n.off
        if n.coef > 0:
            return self.high.get(n.sym, inf) + n.off
        return n.off - self.low.get(n.sym, -inf)

    def is_le(self, x: Num, y: Num) -> bool:
        """Whether x <= y on this path for certain."""
        if self.hi(x) <= self.lo(y):
            return True
        if x.coef == 1 and y.coef == 1:
            if x.sym == y.sym:
                return x.off <= y.off
            return self.diffs.get((x.sym, y.sym), inf) + x.off - y.off <= 0
        if x.coef == 1 and y.coef == -1:
            return self.sum_most(x.sym, y.sym) + x.off - y.off <= 0
        if x.coef == -1 and y.coef == -1:
            return x.sym == y.sym and x.off <= y.off
        return False

    def sum_most(self, a: int, b: int) -> float:
        known = self.sums.get((min(a, b), max(a, b)), inf)
        return min(known, self.high.get(a, inf) + self.high.get(b, inf))

    def assume_le(self, x: Num, y: Num) -> bool:
        """Takes x <= y for granted; False if that cannot be."""
        gap = y.off - x.off
        if not x.coef and not y.coef:
            return gap >= 0
        if not y.coef or not x.coef:
            n, sign = (x, x.coef) if x.coef else (y, -y.coef)
            return self._at_most(n.sym, gap) if sign > 0 else self._at_least(n.sym, -gap)
        if x.coef == y.coef:
            a, b = (x.sym, y.sym) if x.coef > 0 else (y.sym, x.sym)
            return gap >= 0 if a == b else self._apart(a, b, gap)
        if x.coef == 1:
            key = (min(x.sym, y.sym), max(x.sym, y.sym))
            self.sums[key] = min(self.sums.get(key, inf), gap)
            return self.low.get(x.sym, -inf) + self.low.get(y.sym, -inf) <= gap
        return True

    def _at_most(self, sym: int, n: float) -> bool:
        if n < self.high.get(sym, inf):
            self.high[sym] = n
            for (a, b), gap in list(self.diffs.items()):
                if b == sym and not self._at_most(a, n + gap):
                    return False
            if sym in self.casts and n <= self.casts[sym].type.most:
                source = self.casts.pop(sym)
                same = Num(0, sym, 1)
                if not (self.assume_le(source, same) and self.assume_le(same, source)):
                    return False
                if not self.assume_le(ZERO, source):
                    return False
        return self.low.get(sym, -inf) <= n

    def _at_least(self, sym: int, n: float) -> bool:
        if n > self.low.get(sym, -inf):
            self.low[sym] = n
            for (a, b), gap in list(self.diffs.items()):
                if a == sym and not self._at_least(b, n - gap):
                    return False
        return self.high.get(sym, inf) >= n

    def _apart(self, a: int, b: int, gap: float) -> bool:
        """Takes a - b <= gap for granted."""
        if self.diffs.get((a, b), inf) <= gap:
            return True
        before = list(self.diffs.items())
        new = {(a, b): gap}
        into = [(x, d) for (x, y), d in before if y == a]
        out = [(y, d) for (x, y), d in before if x == b]
        new.update({(x, b): d + gap for x, d in into})
        new.update({(a, y): d + gap for y, d in out})
        new.update({(x, y): d + gap + e for x, d in into for y, e in out})
        for (x, y), d in new.items():
            if x == y:
                if d < 0:
                    return False
                continue
            self.diffs[x, y] = min(self.diffs.get((x, y), inf), d)
            if self.diffs[x, y] + self.diffs.get((y, x), inf) < 0:
                return False
            if y in self.high and not self._at_most(x, self.high[y] + d):
                return False
            if x in self.low and not self._at_least(y, self.low[x] - d):
                return False
        return True

    def assume_ne(self, x: Num, y: Num) -> bool:
        if self.is_le(x, y) and self.is_le(y, x):
            return False
        if x.coef == 1 and not y.coef:
            if self.low.get(x.sym) == y.off - x.off:
                return self._at_least(x.sym, y.off - x.off + 1)
            if self.high.get(x.sym) == y.off - x.off:
                return self._at_most(x.sym, y.off - x.off - 1)
        if y.coef == 1 and not x.coef:
            return self.assume_ne(y, x)
        if x.coef == y.coef == 1:
            if self.is_le(x, y):
                return self.assume_le(x.plus(1), y)
            if self.is_le(y, x):
                return self.assume_le(y.plus(1), x)
        return True

    def assume_null(self, question: int, is_null: bool) -> bool:
        """Answers a null question; False if the answer is known to be the other one."""
        if not question:
            return not is_null
        return self.nulls.setdefault(question, is_null) == is_null
