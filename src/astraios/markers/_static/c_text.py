"""Text of C: its length, how it is put together, copied and laid into a buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from astraios.markers._static.c_expressions import Expressions
from astraios.markers._static.c_formats import converted_length, marked, pieces
from astraios.markers._static.c_tree import Node
from astraios.markers._static.c_values import (
    CHAR,
    INT,
    NONE,
    SIZE,
    TEXT,
    ZERO,
    CType,
    Num,
    Ptr,
    State,
    Value,
)  # fmt: skip

Results = list[tuple[State, Value]]


class Text(Expressions):
    """Functions that make text out of text."""

    def _clobbered(self, st: State, region: int) -> None:
        for key in [key for key in st.cells if key[0] == region]:
            del st.cells[key]
        st.lengths.pop(region, None)

    def labels_of(self, st: State, value: Value | None) -> frozenset[str]:
        if isinstance(value, Ptr):
            return st.labels.get(value.region, NONE)
        return value.labels & TEXT if isinstance(value, Num) else NONE

    # --- text ----------------------------------------------------------------------------------

    def length(self, st: State, value: Value, node: Node) -> Num:
        """Length of a text, which is read for it."""
        if not isinstance(value, Ptr):
            if not value.coef and value.off == 0:
                self.report("null", node, "a null pointer is followed")
            return self.fresh(st, SIZE, 0, 2**31 - 2)
        self.alive(st, value, node)
        region = value.region
        known = st.lengths.get(region)
        if known is None:
            if region in st.lengths:
                self.report("read", node, "a text is read that no zero ends")
            size = self.regions[region].size
            known = self.fresh(st, SIZE, 0, 2**31 - 2)
            if size is not None and self.regions[region].unit == 1:
                st.assume_le(known.plus(1), size)
            st.lengths[region] = known
        if not value.off.coef and value.off.off == 0:
            return known
        back = replace(value.off, off=-value.off.off, coef=-value.off.coef)
        rest = self.sum(st, known, back)
        return replace(rest, type=SIZE) if st.lo(rest) >= 0 else self.fresh(st, SIZE, 0, 2**31 - 2)

    def written(
        self, st: State, dst: Value, n: Num, labels: frozenset[str], node: Node,
        bound: Num | None = None, append: bool = False,
    ) -> None:  # fmt: skip
        """A text of `n` characters and its zero are put where `dst` points."""
        if not isinstance(dst, Ptr):
            if not dst.coef and dst.off == 0:
                self.report("null", node, "a null pointer is written through")
            return
        if append:
            dst = replace(dst, off=self.sum(st, replace(dst.off, type=SIZE),
                                            self.length(st, dst, node)), unit=1)  # fmt: skip
        total = n.plus(1)
        if bound is not None and not st.is_le(total, bound):
            low = min(st.lo(n), max(0, st.lo(bound) - 1))
            n = self.fresh(st, SIZE, max(0, low), max(0, min(st.hi(n), st.hi(bound) - 1)))
            st.assume_le(n.plus(1), bound)
            total = bound
        self.span(st, dst, total, node, writes=True)
        region = dst.region
        start = not dst.off.coef and dst.off.off == 0
        st.lengths[region] = n if start else self.sum(st, replace(dst.off, type=SIZE), n)
        st.labels[region] = labels if start else st.labels.get(region, NONE) | labels
        for key in [key for key in st.cells if key[0] == region]:
            del st.cells[key]

    def _print(
        self, st: State, dst: Value | None, template: Value, args: Sequence[Value], node: Node,
        bound: Num | None = None,
    ) -> Num:  # fmt: skip
        """Any of the printf functions; returns how much it writes."""
        text = self.regions[template.region].literal if isinstance(template, Ptr) else None
        if text is None:
            n = self.length(st, template, node)
            self.written(st, dst, n, self.labels_of(st, template), node, bound) if dst else None
            return replace(n, type=INT)
        total = Num(0, type=SIZE)
        labels: frozenset[str] = NONE
        out = ""
        for piece in pieces(text, args):
            if not piece.sign:
                total = total.plus(len(piece.text))
                out += piece.text
            elif piece.sign == "s" and piece.argument is not None:
                if piece.precision is None:
                    n = self.length(st, piece.argument, node)
                else:
                    n = self.fresh(st, SIZE, 0, piece.precision)
                if piece.width:
                    n = self.fresh(st, SIZE, piece.width, max(piece.width, st.hi(n)))
                total = self.sum(st, total, n)
                gained = marked(self.labels_of(st, piece.argument), piece)
                literal = ""
                if isinstance(piece.argument, Ptr):
                    literal = self.regions[piece.argument.region].literal or ""
                out += literal
                labels |= gained - {"abs"} if out else gained
            else:
                low, high = converted_length(st, piece)
                most = self.fresh(st, SIZE, low, high) if low != high else Num(low, type=SIZE)
                total = self.sum(st, total, most)
                if piece.sign == "c" and isinstance(piece.argument, Num):
                    labels |= piece.argument.labels & TEXT
        if dst is not None:
            self.written(st, dst, total, labels, node, bound)
        return replace(total, type=INT)

    def _stream(self, st: State, value: Value, node: Node) -> None:
        if isinstance(value, Ptr):
            self.alive(st, value, node)

    def _on_printf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._print(st, None, a[0], a[1:], node)

    def _on_fprintf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._stream(st, a[0], node)
        return self._print(st, None, a[1], a[2:], node)

    def _on_sprintf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._print(st, a[0], a[1], a[2:], node)

    def _on_snprintf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        bound = a[1] if isinstance(a[1], Num) else None
        dst = None if isinstance(a[0], Num) or (bound and st.hi(bound) <= 0) else a[0]
        return self._print(st, dst, a[2], a[3:], node, bound)

    def _on_asprintf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.text(st, NONE, "heap")
        probe = Ptr(made, ZERO, 1, 0, CHAR)
        self.regions[made].size = None
        self._print(st, probe, a[1], a[2:], node)
        if isinstance(a[0], Ptr):
            self.store(st, a[0], CType("ptr", 8, to=CHAR), probe, node)
        return self.fresh(st, INT, -1)

    def _on_strcpy(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self.written(st, a[0], self.length(st, a[1], node), self.labels_of(st, a[1]), node)
        return a[0]

    def _on_stpcpy(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[1], node)
        self.written(st, a[0], n, self.labels_of(st, a[1]), node)
        return self._moved(st, "+", a[0], n)

    def _on_strcat(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        labels = self.labels_of(st, a[1]) - {"abs"}
        n = self.length(st, a[1], node)
        self.written(st, a[0], n, labels, node, append=True)
        return a[0]

    def _on_strncat(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[1], node)
        bound = a[2].plus(1) if isinstance(a[2], Num) else None
        labels = self.labels_of(st, a[1]) - {"abs"}
        self.written(st, a[0], n, labels, node, bound, append=True)
        return a[0]

    def _on_strlcpy(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[1], node)
        bound = a[2] if isinstance(a[2], Num) else None
        self.written(st, a[0], n, self.labels_of(st, a[1]), node, bound)
        return n

    def _on_strncpy(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[1], node)
        bound = a[2] if isinstance(a[2], Num) else n
        if not isinstance(a[0], Ptr):
            return a[0]
        self.span(st, a[0], bound, node, writes=True)
        region, size = a[0].region, self.regions[a[0].region].size
        labels = self.labels_of(st, a[1])
        start = not a[0].off.coef and a[0].off.off == 0
        st.labels[region] = labels if start else st.labels.get(region, NONE) | labels
        short = st.is_le(n.plus(1), bound)
        tail = region in st.zeroed and size is not None and not st.is_le(size, bound)
        if not start:
            st.lengths.pop(region, None)
        elif short:
            st.lengths[region] = n
        elif tail:
            st.lengths[region] = self.fresh(st, SIZE, 0, st.hi(bound))
        else:
            st.lengths[region] = None
        return a[0]

    def _on_memcpy(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.converted(st, a[2], SIZE)
        if not isinstance(n, Num):
            return a[0]
        if isinstance(a[1], Ptr):
            self.span(st, a[1], n, node, writes=False)
        if not isinstance(a[0], Ptr):
            return a[0]
        self.span(st, a[0], n, node, writes=True)
        if st.hi(n) <= 0:
            return a[0]
        region = a[0].region
        start = not a[0].off.coef and a[0].off.off == 0
        labels = self.labels_of(st, a[1])
        source = st.lengths.get(a[1].region) if isinstance(a[1], Ptr) else None
        was = region in st.zeroed
        self._clobbered(st, region)
        size = self.regions[region].size
        if start and source is not None and st.is_le(source.plus(1), n):
            st.lengths[region] = source
        elif start and was and size is not None and st.is_le(n.plus(1), size):
            st.lengths[region] = replace(n, type=SIZE)
        elif start and source is not None and self.regions[region].kind != "argv":
            st.lengths[region] = None
        st.labels[region] = labels if start else st.labels.get(region, NONE) | labels
        return a[0]

    _on_memmove = _on_memcpy

    def _on_memset(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.converted(st, a[2], SIZE)
        if isinstance(a[0], Ptr) and isinstance(n, Num):
            self.span(st, a[0], n, node, writes=True)
            self._clobbered(st, a[0].region)
            zero = isinstance(a[1], Num) and not a[1].coef and a[1].off == 0
            size = self.regions[a[0].region].size
            if zero and not a[0].off.coef and a[0].off.off == 0:
                st.lengths[a[0].region] = ZERO
                st.labels[a[0].region] = NONE
                if size is not None and st.is_le(size, n):
                    st.zeroed |= {a[0].region}
        return a[0]

    def _on_strlen(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[0], node)
        if isinstance(a[0], Ptr) and n.coef:
            st.facts["strlen", n.sym] = a[0].region
        return n

    def _on_strdup(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.length(st, a[0], node)
        made = self.region("heap", n.plus(1))
        st.lengths[made] = n
        st.labels[made] = self.labels_of(st, a[0])
        return Ptr(made, ZERO, 1, self.new(), CHAR)

    def _on_strndup(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.text(st, self.labels_of(st, a[0]), "heap")
        return Ptr(made, ZERO, 1, self.new(), CHAR)
