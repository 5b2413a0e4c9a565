"""Tests of text of C, and what they make harmless on the path behind them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from astraios.markers._static.c_text import Text
from astraios.markers._static.c_tree import Node
from astraios.markers._static.c_values import (
    CHAR,
    INT,
    LONG,
    NONE,
    SIZE,
    ZERO,
    Num,
    Ptr,
    State,
    Value,
)  # fmt: skip

DANGEROUS = {
    "shell": ";|&$`\n<>", "quote": "'", "quoted": "'", "html": "<", "sql": "'", "abs": "/",
}  # fmt: skip
"""Characters, of which each one does harm; `dotdot` needs a dot and a slash."""
Results = list[tuple[State, Value]]


class Searches(Text):
    """Functions that look into a text, compare texts, or clean one."""

    # --- tests of text -------------------------------------------------------------------------

    def _found(self, st: State, a: Sequence[Value], what: str, node: Node) -> Value:
        """A search: null if nothing was found, and what that says of the text."""
        if not isinstance(a[0], Ptr):
            return self.fresh(st, INT)
        self.alive(st, a[0], node)
        question = self.new()
        st.facts["told", question] = (what, a[0].region)
        off = self.fresh(st, LONG, 0)
        known = st.lengths.get(a[0].region)
        if known is not None:
            st.assume_le(off, known.plus(0 if what == "strchr:\0" else -1))
        return Ptr(a[0].region, off, 1, question, CHAR)

    def _literal(self, value: Value) -> str | None:
        if isinstance(value, Ptr):
            return self.regions[value.region].literal
        return chr(int(value.off)) if not value.coef and 0 <= value.off < 256 else None

    def _on_strchr(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        sign, text = self._literal(a[1]), self._literal(a[0])
        if sign is not None and text is not None and isinstance(a[0], Ptr):
            held = sign in text + "\0"
            return replace(a[0], off=Num((text + "\0").index(sign))) if held else ZERO
        if text is not None and isinstance(a[1], Num):
            return self.fresh(st, INT)
        return self._found(st, a, f"none:{sign or ''}", node)

    _on_index = _on_memchr = _on_strchr

    def _on_strrchr(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        sign = self._literal(a[1])
        found = self._found(st, a, f"none:{sign or ''}", node)
        if sign == "/" and isinstance(found, Ptr):
            made = self.text(st, self.labels_of(st, found) - {"dotdot", "abs"})
            return Ptr(made, ZERO, 1, found.null, CHAR)
        return found

    def _on_basename(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        made = self.text(st, self.labels_of(st, a[0]) - {"dotdot", "abs"})
        return Ptr(made, ZERO, 1, 0, CHAR)

    def _on_strstr(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._found(st, a, f"substring:{self._literal(a[1]) or ''}", node)

    def _on_strpbrk(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._found(st, a, f"none:{self._literal(a[1]) or ''}", node)

    def _spanning(self, node: Node, st: State, a: Sequence[Value], kind: str) -> Value:
        n = self.length(st, a[0], node)
        made = self.fresh(st, SIZE, 0, 2**31 - 2)
        st.assume_le(made, n)
        if isinstance(a[0], Ptr):
            st.facts["span", made.sym] = (f"{kind}:{self._literal(a[1]) or ''}", a[0].region)
        return made

    def _on_strspn(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._spanning(node, st, a, "only")

    def _on_strcspn(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        return self._spanning(node, st, a, "none")

    def _on_strcmp(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        for value in a[:2]:
            self.length(st, value, node)
        return self._compared_texts(st, a, None)

    _on_strcasecmp = _on_strcmp

    def _on_strncmp(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        for value in a[:2]:
            if isinstance(value, Ptr):
                self.alive(st, value, node)
        return self._compared_texts(st, a, a[2])

    _on_strncasecmp = _on_memcmp = _on_strncmp

    def _compared_texts(self, st: State, a: Sequence[Value], n: Value | None) -> Value:
        made = self.fresh(st, INT)
        for x, y in ((a[0], a[1]), (a[1], a[0])):
            text = self._literal(y)
            if isinstance(x, Ptr) and text is not None and self._literal(x) is None:
                if n is None:
                    st.facts["told", made.sym] = ("equal", x.region)
                elif isinstance(n, Num) and not n.coef:
                    whole = text + "\0" if n.off > len(text) else text[: int(n.off)]
                    st.facts["told", made.sym] = (f"begins:{whole}", x.region)
        return made

    def tested(self, st: State, fact: object, is_true: bool) -> None:
        if not isinstance(fact, tuple):
            return
        if isinstance(fact[0], tuple):  # a span that equals a length
            (kind, region), other = fact
            owner = st.facts.get(("strlen", other.sym))
            if owner == region or (not other.coef and other.off > 0):
                self._harmless(st, kind, region)
            return
        kind, region = fact
        positive = kind.startswith(("equal", "begins", "allowed"))
        if kind.startswith("resolved"):
            return
        if not is_true:
            # null: nothing was found; zero: the texts are equal
            self._harmless(st, kind, region)
        elif positive:
            return

    def _harmless(self, st: State, kind: str, region: int) -> None:
        what, _, signs = kind.partition(":")
        labels = st.labels.get(region, NONE)
        gone: set[str] = set()
        if what == "equal":
            gone = set(labels)
        elif what in ("none", "only"):

            def refused(sign: str) -> bool:
                return (sign in signs) == (what == "none")

            gone = {x for x, bad in DANGEROUS.items() if all(refused(sign) for sign in bad)}
            if refused("/") or refused("."):
                gone |= {"dotdot"}
        elif what == "substring":
            gone = {"dotdot"} if signs and signs in "../" and signs != "./" else set()
            if signs == "/":
                gone = {"dotdot", "abs"}
        elif what == "begins" and (signs.endswith(("/", "\0"))):
            gone = {"abs"}
            source = st.facts.get(("resolves", region))
            if isinstance(source, int):
                st.labels[source] = st.labels.get(source, NONE) - {"dotdot", "abs"}
        st.labels[region] = labels - gone

    def _on_realpath(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        labels = self.labels_of(st, a[0])
        out = a[1] if len(a) > 1 and isinstance(a[1], Ptr) else None
        made = out.region if out is not None else self.text(st, kind="heap")
        path = labels & {"dotdot", "abs"}
        st.lengths[made] = self.fresh(st, SIZE, 0, 4095)
        st.labels[made] = labels - path | ({"abs"} if path else NONE)
        if isinstance(a[0], Ptr):
            st.facts["resolves", made] = a[0].region
        return Ptr(made, ZERO, 1, self.new(), CHAR)

    def _on_mysql_real_escape_string(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        if isinstance(a[1], Ptr):
            st.labels[a[1].region] = self.labels_of(st, a[2]) - {"sql"}
            st.lengths.pop(a[1].region, None)
        return self.fresh(st, SIZE, 0, 2**31)

    def _on_sqlite3_mprintf(self, node: Node, st: State, a: Sequence[Value]) -> Value:
        text = self._literal(a[0]) or ""
        raw = re.findall(r"%[-0-9.]*([a-zA-Z])", text)
        labels: frozenset[str] = NONE
        for sign, value in zip(raw, a[1:], strict=False):
            labels |= self.labels_of(st, value) - ({"sql"} if sign in "qQw" else set())
        return Ptr(self.text(st, labels, "heap"), ZERO, 1, self.new(), CHAR)
