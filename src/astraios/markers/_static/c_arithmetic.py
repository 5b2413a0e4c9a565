"""Numbers of C along one path: sums, conversions, overflows and what a comparison tells.

Sums, products and shifts of numbers that someone outside or chance chooses are reported where the
path leaves them no room in their type (CWE-190). Missed: wrap-around below the least value, which
is CWE-191, and numbers that go through unknown functions.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from astraios.markers._static.c_memory import Memory
from astraios.markers._static.c_tree import Node
from astraios.markers._static.c_values import (
    DOUBLE,
    INT,
    LONG,
    WILD,
    CType,
    Num,
    Ptr,
    State,
    Value,
)  # fmt: skip

_COMPARED = ("<", "<=", ">", ">=", "==", "!=")
_FLIPPED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


class Arithmetic(Memory):
    """Computes with values that are known in part."""

    def tested(self, st: State, fact: object, is_true: bool) -> None:
        """What a library call means now that its result was tested."""
        raise NotImplementedError

    def converted(self, st: State, value: Value, kind: CType) -> Value:
        """`value` as a value of type `kind`."""
        if isinstance(value, Ptr):
            if kind.kind == "ptr" and kind.to is not None and kind.to.kind != "void":
                off, step = value.off, max(1, kind.to.size)
                if not off.coef and off.off * value.unit % step == 0:
                    return replace(value, off=Num(off.off * value.unit // step), unit=step,
                                   to=kind.to)  # fmt: skip
                return replace(value, to=kind.to)
            return value
        if kind.kind not in ("int", "float"):
            return value
        if value.type.kind == "float" and kind.kind == "int":
            if not value.coef:
                return Num(int(value.off), type=kind, labels=value.labels)
            low, high = st.lo(value), st.hi(value)
            fits = kind.least <= low and high <= kind.most
            return self.fresh(st, kind, int(low) if fits else None, int(high) if fits else None)
        if kind.kind == "float":
            return replace(value, type=kind)
        if st.lo(value) >= kind.least and st.hi(value) <= kind.most:
            return replace(value, type=kind)
        if not value.coef:
            wrapped = int(value.off) % 2 ** (8 * kind.size)
            return Num(wrapped - (wrapped > kind.most) * 2 ** (8 * kind.size), type=kind,
                       labels=value.labels)  # fmt: skip
        if (
            not kind.signed
            and st.lo(value) >= -1
            and value.type.kind == "int"
            and (not value.type.signed or value.off)
        ):
            return replace(value, type=kind)  # `strlen(s) - 1`: kept together
        made = self.fresh(st, kind, labels=value.labels)
        if not kind.signed:
            st.casts[made.sym] = value
        return made

    def computed(self, st: State, sign: str, a: Value, b: Value, node: Node) -> Value:
        if isinstance(a, Ptr) or isinstance(b, Ptr):
            return self._moved(st, sign, a, b)
        kind = _common(a.type, b.type)
        a, b = self._both(st, a, b, kind)
        labels = a.labels | b.labels
        if sign == "-":
            b = replace(b, off=-b.off, coef=-b.coef)
        if sign in ("+", "-"):
            made = self.sum(st, a, b)
            made = replace(made, type=kind, labels=labels)
            return self._roomy(st, made, st.hi(made) if sign == "+" else -inf, kind, node, a)
        low, high = self._range(st, sign, a, b)
        if kind.kind == "float":
            return self.fresh(st, kind, low, high, labels)
        if sign == "*":
            if not a.coef and not b.coef:
                return self._roomy(st, Num(a.off * b.off, 0, 0, kind, labels), high, kind, node, a)
            made = self.fresh(st, kind, low, high, labels)
            for x, y in ((a, b), (b, a)):
                if not y.coef and y.off > 0:
                    st.facts["product", made.sym] = (int(y.off), x)
            return self._roomy(st, made, high, kind, node, a)
        if low == high and abs(low) < inf:
            return Num(low, type=kind, labels=labels)
        if sign == "<<":
            return self._roomy(st, self.fresh(st, kind, low, high, labels), high, kind, node, a)
        if sign in ("%", "&") and st.hi(b) <= 2**20:
            labels = labels - {WILD}
        return self.fresh(st, kind, max(low, kind.least), min(high, kind.most), labels)

    def _both(self, st: State, a: Num, b: Num, kind: CType) -> tuple[Num, Num]:
        first, second = self.converted(st, a, kind), self.converted(st, b, kind)
        return (first if isinstance(first, Num) else a, second if isinstance(second, Num) else b)

    def _range(self, st: State, sign: str, a: Num, b: Num) -> tuple[float, float]:
        al, ah, bl, bh = st.lo(a), st.hi(a), st.lo(b), st.hi(b)
        if sign == "*":
            ends = [0 if not x or not y else x * y for x in (al, ah) for y in (bl, bh)]
            return min(ends), max(ends)
        if sign == "/" and bl > 0:
            whole = a.type.kind != "float" and b.type.kind != "float"
            ends = [_quotient(x, y, whole) for x in (al, ah) for y in (bl, bh)]
            return min(ends), max(ends)
        if sign == "%" and bl > 0:
            if not a.coef and not b.coef:
                rest = abs(a.off) % b.off
                return (rest, rest) if a.off >= 0 else (-rest, -rest)
            return (0 if al >= 0 else 1 - bh), min(bh - 1, max(ah, 0))
        if not a.coef and not b.coef and abs(a.off) < inf and abs(b.off) < inf:
            x, y = int(a.off), int(b.off)
            exact = {"&": x & y, "|": x | y, "^": x ^ y}
            if sign in exact:
                return exact[sign], exact[sign]
            if sign in ("<<", ">>") and 0 <= y < 64:
                value = x << y if sign == "<<" else x >> y
                return value, value
        if sign == "&" and bl >= 0:
            return 0, bh
        if sign == "<<" and ah < inf and 0 <= bh < 64:
            return min(al * 2**bh, 0), ah * 2**bh
        if sign == ">>":
            return min(al, 0), max(ah, 0)
        return -inf, inf

    def _roomy(self, st: State, made: Num, high: float, kind: CType, node: Node, a: Num) -> Num:
        """The result, if its type has room for it; else one that may be anything."""
        if kind.kind != "int" or high <= kind.most:
            return made
        wild = WILD in made.labels
        grown = kind.size == 8 and high <= kind.most + 2.0**33
        if wild and not grown and (kind.signed or kind.size == 4):
            self.report("overflow", node, "a number from outside may overflow its type")
        if not made.coef:
            return self.fresh(st, kind, labels=made.labels)
        if grown and made.sym:
            return made
        return self.fresh(st, kind, labels=made.labels - {WILD} if wild else made.labels)

    def _moved(self, st: State, sign: str, a: Value, b: Value) -> Value:
        if isinstance(a, Ptr) and isinstance(b, Ptr):
            if a.region == b.region and a.unit == b.unit:
                back = replace(b.off, off=-b.off.off, coef=-b.off.coef)
                return replace(self.sum(st, a.off, back), type=LONG)
            return self.fresh(st, LONG)
        ptr, n = (a, b) if isinstance(a, Ptr) else (b, a)
        if not isinstance(ptr, Ptr) or not isinstance(n, Num):
            return self.fresh(st, INT)
        if sign == "-":
            n = replace(n, off=-n.off, coef=-n.coef)
        step = max(1, ptr.to.size) if ptr.to is not None else 1
        off, unit = ptr.off, ptr.unit
        if unit != step:
            if not off.coef and off.off * unit % step == 0:
                off, unit = Num(off.off * unit // step), step
            elif not n.coef and n.off * step % unit == 0:
                n = Num(n.off * step // unit)
            else:
                off, unit = self.fresh(st, LONG, 0), step
        return replace(ptr, off=self.sum(st, off, n), unit=unit)

    def assume(self, st: State, sign: str, a: Value, b: Value) -> bool:
        """Takes a comparison for granted; False if it cannot hold."""
        if isinstance(a, Num) and isinstance(b, Ptr):
            turned = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
            return self.assume(st, turned.get(sign, sign), b, a)
        if isinstance(a, Ptr):
            if isinstance(b, Num):
                if sign in ("==", "!=") and not b.coef:
                    self._told(st, a.null, is_true=sign == "!=")
                    return st.assume_null(a.null, sign == "==")
                return True
            if a.region != b.region or a.unit != b.unit:
                return True
            return self._ordered(st, sign, a.off, b.off)
        if isinstance(b, Ptr):
            return True
        if a.coef and not b.coef and b.off == 0 and sign in ("==", "!="):
            self._told(st, a.sym, is_true=sign == "!=")
        kind = _common(a.type, b.type)
        if not kind.signed and not b.coef and b.off == 0 and sign in (">=", "<"):
            return sign == ">="
        if kind.kind != "float":
            a, b = self._both(st, a, b, kind)
        return self._ordered(st, sign, a, b)

    def _told(self, st: State, key: int, is_true: bool) -> None:
        fact = st.facts.get(("told", key))
        if fact is not None:
            self.tested(st, fact, is_true)

    def _ordered(self, st: State, sign: str, a: Num, b: Num) -> bool:
        step = 0 if "float" in (a.type.kind, b.type.kind) else 1
        if sign == "<":
            return st.assume_le(a.plus(step), b)
        if sign == "<=":
            return st.assume_le(a, b)
        if sign == ">":
            return st.assume_le(b.plus(step), a)
        if sign == ">=":
            return st.assume_le(b, a)
        if sign == "==":
            self._same(st, a, b)
            return st.assume_le(a, b) and st.assume_le(b, a)
        return st.assume_ne(a, b) and self._differ(st, a, b)

    def _same(self, st: State, a: Num, b: Num) -> None:
        for x, y in ((a, b), (b, a)):
            spans = st.facts.get(("span", x.sym)) if x.coef else None
            if spans is not None:
                self.tested(st, (spans, y), True)

    def _differ(self, st: State, a: Num, b: Num) -> bool:
        return True


def _quotient(x: float, y: float, whole: bool) -> float:
    if abs(x) == inf or not whole:
        return x / y if abs(y) < inf else 0
    return int(abs(x) // y) * (1 if x >= 0 else -1)


def _common(a: CType, b: CType) -> CType:
    """The type in which two numbers are computed (C17, 6.3.1.8)."""
    if "float" in (a.kind, b.kind):
        return DOUBLE if 8 in (a.size * (a.kind == "float"), b.size * (b.kind == "float")) else a
    first, second = (INT if kind.size < 4 else kind for kind in (a, b))
    if first.size != second.size:
        return first if first.size > second.size else second
    return second if first.signed else first
