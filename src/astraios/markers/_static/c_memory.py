"""Objects, places and accesses: where a C program may read or write too far, too late or nowhere.

An access is reported unless its path shows that it is in bounds; where the size of an object is
not known (a pointer from elsewhere), nothing is. Caught: elements and spans outside of arrays,
allocations and texts; pointers that may be null and were not tested on the path; pointers to
memory that was released. Missed: objects whose addresses go through unknown functions.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from math import inf

from astraios.markers._static.c_tree import Node, Unit, declared_name
from astraios.markers._static.c_values import (
    CHAR,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    NONE,
    SIZE,
    TEXT,
    TEXT_POINTER,
    VOID,
    WILD,
    ZERO,
    CType,
    Num,
    Ptr,
    Region,
    State,
    Value,
)  # fmt: skip

_NAMED = {
    "size_t": SIZE, "ssize_t": LONG, "off_t": LONG, "time_t": LONG, "pid_t": INT,
    "mode_t": CType("int", 4, False), "bool": CType("int", 1, False), "ptrdiff_t": LONG,
    "intptr_t": LONG, "uintptr_t": SIZE, "float": FLOAT, "double": DOUBLE, "void": VOID,
    "int8_t": CHAR, "int16_t": CType("int", 2), "int32_t": INT, "int64_t": LONG,
    "uint8_t": CType("int", 1, False), "uint16_t": CType("int", 2, False),
    "uint32_t": CType("int", 4, False), "uint64_t": SIZE, "intmax_t": LONG, "uintmax_t": SIZE,
    "_Bool": CType("int", 1, False), "u_int": CType("int", 4, False),
}  # fmt: skip


class Memory:
    """Regions and findings of one program."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.regions: dict[int, Region] = {}
        self.found: dict[tuple[str, int], str] = {}
        self.types: dict[str, CType] = {}
        self.mute = 0
        self.last = 0
        self.late: dict[int, tuple[str, int, str]] = {}
        self.scanned: set[int] = set()

    # --- findings and new things ---------------------------------------------------------------

    def report(self, kind: str, node: Node, message: str) -> None:
        if not self.mute:
            self.found.setdefault((kind, node.line), message)

    def new(self) -> int:
        self.last += 1
        return self.last

    def region(
        self, kind: str, size: Num | None = None, unit: int = 1, literal: str | None = None,
        parent: int = 0,
    ) -> int:  # fmt: skip
        made = self.new()
        self.regions[made] = Region(kind, size, unit, literal, parent)
        return made

    def fresh(
        self, st: State, kind: CType = INT, low: float | None = None, high: float | None = None,
        labels: frozenset[str] = NONE,
    ) -> Num:  # fmt: skip
        sym = self.new()
        st.low[sym] = kind.least if low is None else low
        st.high[sym] = kind.most if high is None else high
        return Num(0, sym, 1, kind, labels)

    def text(self, st: State, labels: frozenset[str] = TEXT, kind: str = "unknown") -> int:
        """A text that someone else made: it ends in a zero, and there its object ends."""
        length = self.fresh(st, SIZE, 0, 2**31 - 2)
        made = self.region(kind, length.plus(1))
        st.lengths[made] = length
        st.labels[made] = labels
        return made

    def unknown(self, st: State, kind: CType, labels: frozenset[str] = NONE) -> Value:
        if kind.kind == "ptr":
            made = self.region("unknown")
            st.labels[made] = labels
            return Ptr(made, ZERO, max(1, kind.to.size if kind.to else 1), 0, kind.to)
        if kind.kind == "struct":
            return self.fresh(st, INT, labels=labels)
        return self.fresh(st, kind, labels=labels)

    # --- types ---------------------------------------------------------------------------------

    def base_type(self, node: Node | None) -> CType:
        if node is None:
            return INT
        if node.kind == "struct_specifier" or node.kind == "union_specifier":
            return self._struct(node)
        if node.kind == "enum_specifier":
            return INT
        words = node.text.split()
        if node.kind == "sized_type_specifier" or node.kind == "primitive_type":
            signed = "unsigned" not in words
            for word, size in (("char", 1), ("short", 2), ("long", 8)):
                if word in words and "double" not in words:
                    return CType("int", size, signed)
            if "double" in words:
                return DOUBLE
            return _NAMED.get(node.text, CType("int", 4, signed))
        return self.types.get(node.text) or _NAMED.get(node.text) or CType("struct", 64)

    def _struct(self, node: Node) -> CType:
        name = node.fields["name"].text if "name" in node.fields else ""
        if "body" not in node.fields:
            return self.types.get(f"struct {name}", CType("struct", 64))
        members: list[tuple[str, int, CType]] = []
        at, widest = 0, 1
        for part in node.fields["body"].children:
            if part.kind != "field_declaration":
                continue
            base = self.base_type(part.fields.get("type"))
            for child in part.children:
                member = declared_name(child)
                if child is part.fields.get("type") or not member:
                    continue
                kind = self.declared(base, child)
                step = _alignment(kind)
                widest = max(widest, step)
                at = -(-at // step) * step
                members.append((member, at, kind))
                at = 0 if node.kind == "union_specifier" else at + kind.size
        size = max([-(-at // widest) * widest, *(o + k.size for _, o, k in members)])
        made = CType("struct", size, members=tuple(members))
        if name:
            self.types[f"struct {name}"] = made
        return made

    def declared(self, base: CType, node: Node | None, st: State | None = None) -> CType:
        """The type that a declarator makes of `base`."""
        if node is None:
            return base
        inner = node.fields.get("declarator")
        if node.kind in ("pointer_declarator", "abstract_pointer_declarator"):
            return self.declared(CType("ptr", 8, to=base), inner, st)
        if node.kind in ("array_declarator", "abstract_array_declarator"):
            count = self.constant(node.fields.get("size"))
            size = base.size * count if count is not None else 0
            return self.declared(CType("array", size, to=base, count=count), inner, st)
        if node.kind in ("function_declarator", "abstract_function_declarator"):
            return CType("void", 1)
        return self.declared(base, inner, st) if inner is not None else base

    def constant(self, node: Node | None) -> int | None:
        """The value of a constant expression."""
        raise NotImplementedError

    # --- reading and writing -------------------------------------------------------------------

    def alive(self, st: State, ptr: Ptr, node: Node) -> None:
        """The pointer is followed: it has to point somewhere, and what is there has to be left."""
        if ptr.null and st.nulls.get(ptr.null) is not False:
            self.report("null", node, "a pointer that may be null is followed")
            st.nulls[ptr.null] = False
        self.kept(st, ptr, node)

    def kept(self, st: State, ptr: Ptr, node: Node) -> None:
        region = self.root(ptr.region)
        if region in st.freed and st.nulls.get(st.freed[region]) is not True:
            self.report("freed", node, "memory is used that may have been released")

    def root(self, region: int) -> int:
        while (parent := self.regions[region].parent) != 0:
            region = parent
        return region

    def touch(self, st: State, ptr: Ptr, size: int, node: Node, writes: bool) -> None:
        """One access of `size` bytes."""
        self.alive(st, ptr, node)
        kind = "write" if writes else "read"
        if not st.is_le(ZERO, ptr.off) and self.regions[ptr.region].size is not None:
            self.report(kind, node, "an index may be below the start of the object")
        elif not self._ends_inside(st, ptr, size):
            self.report(kind, node, "an index may be behind the end of the object")

    def _ends_inside(self, st: State, ptr: Ptr, size: int) -> bool:
        region = self.regions[ptr.region]
        if region.size is None:
            return True
        if region.kind == "argv" and not ptr.off.coef:
            return st.is_le(ptr.off, region.size)  # the null pointer behind the last argument
        if not region.size.coef:
            room = region.size.off * region.unit - size
            return st.is_le(ptr.off, Num(room // ptr.unit))
        if region.unit == ptr.unit and size <= ptr.unit:
            return st.is_le(ptr.off, region.size.plus(-1))
        if not ptr.off.coef:
            return st.is_le(Num((ptr.off.off * ptr.unit + size - 1) // region.unit),
                            region.size.plus(-1))  # fmt: skip
        return True

    def span(self, st: State, ptr: Ptr, n: Num, node: Node, writes: bool) -> None:
        """An access to `n` bytes from `ptr` on."""
        if st.hi(n) <= 0:
            return
        self.alive(st, ptr, node)
        region = self.regions[ptr.region]
        kind = "write" if writes else "read"
        if region.size is None:
            return
        if st.lo(n) < 0 or not st.is_le(ZERO, ptr.off):
            self.report(kind, node, "the amount or the start may be below zero")
            return
        unit, amount = self.steps(st, n)
        if not region.size.coef:
            room = region.size.off * region.unit
            if ptr.off.coef and ptr.unit == 1 and n.coef == -1 and n.sym == ptr.off.sym:
                fits = ptr.off.off + n.off <= room
            elif not ptr.off.coef:
                fits = st.is_le(amount, Num((room - ptr.off.off * ptr.unit) // unit))
            else:
                total = self.sum(st, ptr.off, n)
                fits = st.is_le(total, Num(room)) if ptr.unit == 1 else True
        elif region.unit == unit and not ptr.off.coef and ptr.off.off * ptr.unit % unit == 0:
            fits = st.is_le(amount.plus(ptr.off.off * ptr.unit // unit), region.size)
        elif ptr.off.coef and ptr.unit == 1 and unit == 1 == region.unit:
            fits = st.is_le(self.sum(st, ptr.off, n), region.size)
        else:
            fits = unit != 1 or not amount.coef
        if not fits:
            self.report(kind, node, "more bytes may be accessed than the object has")

    def steps(self, st: State, n: Num) -> tuple[int, Num]:
        """`n` as a number of steps of so many bytes, if it was computed as such a product."""
        made = st.facts.get(("product", n.sym)) if n.coef == 1 and n.off == 0 else None
        return made if isinstance(made, tuple) else (1, n)

    def sum(self, st: State, a: Num, b: Num) -> Num:
        """a + b, without asking whether the type has room."""
        if not b.coef:
            return a.plus(b.off)
        if not a.coef:
            return replace(b, off=b.off + a.off, type=a.type if a.type.size > 4 else b.type)
        if a.sym == b.sym and a.coef == -b.coef:
            return Num(a.off + b.off, type=a.type)
        if a.coef == 1 and b.coef == -1:
            gap = st.diffs.get((a.sym, b.sym), inf) + a.off + b.off
            least = -st.diffs.get((b.sym, a.sym), inf) + a.off + b.off
        else:
            gap = st.sum_most(a.sym, b.sym) + a.off + b.off if a.coef == b.coef == 1 else inf
            least = -inf
        made = self.fresh(st, a.type, max(st.lo(a) + st.lo(b), least),
                          min(st.hi(a) + st.hi(b), gap), a.labels | b.labels)  # fmt: skip
        for x, y in ((a, b), (b, a)):
            if x.coef == 1:
                if st.lo(y) > -inf:
                    st.assume_le(x.plus(st.lo(y)), made)
                if st.hi(y) < inf:
                    st.assume_le(made, x.plus(st.hi(y)))
        return made

    def load(self, st: State, ptr: Ptr, kind: CType, node: Node) -> Value:
        if kind.kind in ("array", "struct"):
            return self.part(st, ptr, kind)
        self.touch(st, ptr, kind.size, node, writes=False)
        region = self.regions[ptr.region]
        labels = st.labels.get(ptr.region, NONE)
        if st.probe and st.probe[0] == ptr.region and (ptr.off.coef or not st.probe[2]):
            return Num(ord(st.probe[1]), 0, 0, kind, frozenset({st.probe[2]}))
        if ptr.off.coef:
            self.scanned.add(ptr.region)
            made = self._content(st, ptr, kind, labels)
            span = st.facts.get(("span", ptr.off.sym)) if not ptr.off.off else None
            if isinstance(span, tuple) and span[1] == ptr.region and isinstance(made, Num):
                st.facts["told", made.sym] = span  # zero: the span is the whole text
            return made
        at = int(ptr.off.off * ptr.unit)
        known = st.cells.get((ptr.region, at))
        if known is None:
            text = region.literal
            if text is not None and 0 <= at <= len(text) and kind.size == 1:
                return Num(ord(text[at]) if at < len(text) else 0, type=kind)
            known = self._content(st, ptr, kind, labels)
            st.cells[ptr.region, at] = known
        return known

    def _content(self, st: State, ptr: Ptr, kind: CType, labels: frozenset[str]) -> Value:
        region = self.regions[ptr.region]
        if kind.kind == "ptr" and region.kind == "argv":
            return Ptr(self.text(st, kind="outside"), ZERO, 1, 0, CHAR)
        if ptr.region in st.zeroed and region.kind != "heap" and kind.kind == "int":
            return self.fresh(st, kind, labels=labels)
        return self.unknown(st, kind, labels)

    def part(self, st: State, ptr: Ptr, kind: CType) -> Value:
        """An array or a struct inside of an object."""
        if kind.kind == "struct":
            return Ptr(ptr.region, ptr.off, ptr.unit, ptr.null, kind)
        inner = kind.to or CHAR
        at = int(ptr.off.off * ptr.unit) if not ptr.off.coef else -1
        region = self.regions[ptr.region]
        whole = at == 0 and region.size is not None and not region.size.coef
        if whole and region.size and region.size.off * region.unit == kind.size:
            return Ptr(ptr.region, ZERO, max(1, inner.size), ptr.null, inner)
        known = st.facts.get(("part", ptr.region * 100_003 + at))
        if not isinstance(known, int):
            size = Num(kind.count) if kind.count is not None else None
            known = self.region("part", size, max(1, inner.size), parent=ptr.region)
            st.facts["part", ptr.region * 100_003 + at] = known
            if WILD in st.labels.get(ptr.region, NONE):
                st.labels[known] = st.labels[ptr.region]
        return Ptr(known, ZERO, max(1, inner.size), ptr.null, inner)

    def store(self, st: State, ptr: Ptr, kind: CType, value: Value, node: Node) -> None:
        self.touch(st, ptr, kind.size, node, writes=True)
        region = ptr.region
        labels = value.labels if isinstance(value, Num) else NONE
        if st.probe and st.probe[0] == region and ptr.off.coef:
            st.facts["replaced", region] = value
            return
        if ptr.off.coef:
            for key in [key for key in st.cells if key[0] == region]:
                del st.cells[key]
            st.labels[region] = st.labels.get(region, NONE) | labels
        else:
            st.cells[region, int(ptr.off.off * ptr.unit)] = value
        if kind.size == 1 and isinstance(value, Num) and self.regions[region].kind != "scalar":
            self._character(st, ptr, value)

    def _character(self, st: State, ptr: Ptr, value: Num) -> None:
        """What a stored character does to the text that it becomes part of."""
        region = ptr.region
        known = st.lengths.get(region, ZERO)
        if not value.coef and value.off == 0:
            if region not in st.lengths or known is None or st.is_le(ptr.off, known):
                st.lengths[region] = ptr.off if ptr.unit == 1 else None
            if not ptr.off.coef and ptr.off.off == 0:
                st.labels[region] = NONE
        elif not ptr.off.coef:
            st.labels[region] = st.labels.get(region, NONE) | value.labels
        elif region in st.lengths and known is not None and not known.coef:
            del st.lengths[region]


@functools.lru_cache(maxsize=256)
def _alignment(kind: CType) -> int:
    if kind.kind == "struct":
        return max([1, *(_alignment(member) for _, _, member in kind.members)])
    if kind.kind == "array" and kind.to is not None:
        return _alignment(kind.to)
    return max(1, min(8, kind.size))


def pointer_to(kind: CType) -> CType:
    return TEXT_POINTER if kind == CHAR else CType("ptr", 8, to=kind)
