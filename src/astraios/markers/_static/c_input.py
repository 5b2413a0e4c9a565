"""Functions of C that read: text and numbers from outside."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from astraios.markers._static.c_searches import Searches
from astraios.markers._static.c_tree import Node
from astraios.markers._static.c_values import (
    CHAR,
    INT,
    LONG,
    NONE,
    SIZE,
    TEXT,
    WILD,
    ZERO,
    CType,
    Num,
    Ptr,
    State,
    Value,
)  # fmt: skip

_CONVERSION = re.compile(r"%(\*)?(\d+)?(?:hh|h|ll|l|z|j|L)?(\[\^?\]?[^\]]*\]|[a-zA-Z])")
"""Of scanf: star, width, kind."""
Results = list[tuple[State, Value]]


class Input(Searches):
    """Sources of text, and its way into numbers."""

    # --- input ---------------------------------------------------------------------------------

    def _read_text(self, node: Node, st: State, dst: Value, n: Num | None) -> None:
        if isinstance(dst, Ptr):
            most = self.fresh(st, SIZE, 0, 2**31 - 2)
            if n is not None:
                st.assume_le(most.plus(1), n)
                self.span(st, dst, n, node, writes=True)
            else:
                self.span(st, dst, most.plus(1), node, writes=True)
            self._clobbered(st, dst.region)
            if not dst.off.coef and dst.off.off == 0:
                st.lengths[dst.region] = most
            st.labels[dst.region] = TEXT

    def _on_fgets(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._stream(st, a[2], node) if len(a) > 2 else None
        self._read_text(node, st, a[0], a[1] if isinstance(a[1], Num) else None)
        return replace(a[0], null=self.new()) if isinstance(a[0], Ptr) else a[0]

    def _on_gets(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._read_text(node, st, a[0], None)
        return a[0]

    def _on_fread(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._stream(st, a[3], node)
        if not isinstance(a[1], Num) or not isinstance(a[2], Num):
            return self.fresh(st, SIZE)
        self.mute += 1
        total = self.computed(st, "*", self.converted(st, a[1], SIZE),
                              self.converted(st, a[2], SIZE), node)  # fmt: skip
        self.mute -= 1
        made = self.fresh(st, SIZE, 0)
        st.assume_le(made, a[2])
        if isinstance(a[0], Ptr) and isinstance(total, Num):
            one = not a[1].coef and a[1].off == 1
            self.span(st, a[0], a[2] if one else total, node, writes=True)
            zeroed = a[0].region in st.zeroed
            self._clobbered(st, a[0].region)
            if not zeroed:
                st.lengths[a[0].region] = None
            st.labels[a[0].region] = TEXT
        return made

    def _on_read(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.fresh(st, LONG, -1)
        if isinstance(a[2], Num):
            n = self.converted(st, a[2], SIZE)
            if isinstance(a[1], Ptr) and isinstance(n, Num):
                self.span(st, a[1], n, node, writes=True)
                zeroed = a[1].region in st.zeroed
                self._clobbered(st, a[1].region)
                if not zeroed:
                    st.lengths[a[1].region] = None
                st.labels[a[1].region] = TEXT
                st.assume_le(made, n)
        return made

    def _on_recv(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._on_read(node, st, a)

    def _on_fwrite(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._stream(st, a[3], node)
        if isinstance(a[0], Ptr) and isinstance(a[1], Num) and isinstance(a[2], Num):
            one = not a[1].coef and a[1].off == 1
            total = a[2] if one else a[1] if not a[2].coef and a[2].off == 1 else None
            if total is not None:
                self.span(st, a[0], total, node, writes=False)
            else:
                self.alive(st, a[0], node)
        return self.fresh(st, SIZE)

    def _on_write(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        n = self.converted(st, a[2], SIZE)
        if isinstance(a[1], Ptr) and isinstance(n, Num):
            self.span(st, a[1], n, node, writes=False)
        return self.fresh(st, LONG, -1)

    def _on_fputs(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self.length(st, a[0], node)
        self._stream(st, a[1], node)
        return self.fresh(st, INT)

    def _on_puts(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self.length(st, a[0], node)
        return self.fresh(st, INT)

    def _scan(self, node: Node, st: State, text: str, targets: Sequence[Value]) -> Value:
        specs = [found for found in _CONVERSION.finditer(text) if not found[1]]
        for spec, target in zip(specs, targets, strict=False):
            if not isinstance(target, Ptr):
                continue
            if spec[3][0] in "s[":
                width = Num(int(spec[2]) + 1, type=SIZE) if spec[2] else None
                self._read_text(node, st, target, width)
            elif target.to is not None and target.to.kind in ("int", "float"):
                value = self.fresh(st, target.to, labels=frozenset({WILD}))
                self.store(st, target, target.to, value, node)
        return self.fresh(st, INT, -1, len(specs))

    def _on_scanf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._scan(node, st, self._literal(a[0]) or "", a[1:])

    def _on_fscanf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        self._stream(st, a[0], node)
        return self._scan(node, st, self._literal(a[1]) or "", a[2:])

    def _on_sscanf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._scan(node, st, self._literal(a[1]) or "", a[2:])

    def _on_getenv(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return Ptr(self.text(st, kind="outside"), ZERO, 1, self.new(), CHAR)

    def _on_getline(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.text(st, kind="heap")
        if isinstance(a[0], Ptr):
            value = Ptr(made, ZERO, 1, 0, CHAR)
            self.store(st, a[0], CType("ptr", 8, to=CHAR), value, node)
        return self.fresh(st, LONG, -1)

    def _number(self, node: Node, st: State, a: Sequence[Value], kind: CType) -> Value:
        if isinstance(a[0], Ptr):
            self.alive(st, a[0], node)
        if len(a) > 1 and isinstance(a[1], Ptr):
            end = Ptr(self.text(st, NONE), ZERO, 1, 0, CHAR)
            self.store(st, a[1], CType("ptr", 8, to=CHAR), end, node)
        return self.fresh(st, kind, labels=frozenset({WILD}))

    def _on_atoi(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._number(node, st, a[:1], INT)

    def _on_strtol(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._number(node, st, a[:2], LONG)

    _on_strtoll = _on_strtol

    def _on_atol(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._number(node, st, a[:1], LONG)

    _on_atoll = _on_atol

    def _on_strtoul(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._number(node, st, a[:2], SIZE)

    _on_strtoull = _on_strtoul

    def _on_rand(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self.fresh(st, INT, 0, labels=frozenset({WILD}))

    def _on_random(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self.fresh(st, LONG, 0, 2**31 - 1, labels=frozenset({WILD}))

    def _on_getchar(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self.fresh(st, INT, -1, 255, TEXT)

    _on_fgetc = _on_getc = _on_getchar

    def _on_isalnum(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        name = node.fields["function"].text
        if isinstance(a[0], Num) and not a[0].coef and 0 <= a[0].off < 128:
            return Num(int(_CLASSES[name](chr(int(a[0].off)))))
        return self.fresh(st, INT)

    _on_isalpha = _on_isdigit = _on_isspace = _on_isupper = _on_islower = _on_isalnum
    _on_isprint = _on_ispunct = _on_isxdigit = _on_isgraph = _on_iscntrl = _on_isalnum


_CLASSES: dict[str, Callable[[str], bool]] = {
    "isalnum": str.isalnum, "isalpha": str.isalpha, "isdigit": str.isdigit,
    "isspace": str.isspace, "isupper": str.isupper, "islower": str.islower,
    "isprint": str.isprintable, "ispunct": lambda c: c.isprintable() and not c.isalnum()
    and c != " ", "isxdigit": lambda c: c in "0123456789abcdefABCDEF",
    "isgraph": lambda c: c.isprintable() and c != " ", "iscntrl": lambda c: not c.isprintable(),
}  # fmt: skip
