"""Loops of C: an arbitrary round, and what holds after each.

What a loop changes is unknown but for bounds that a first, silent walk has shown to hold after
every round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from astraios.markers._static.c_characters import Characters
from astraios.markers._static.c_expressions import names_assigned
from astraios.markers._static.c_paths import MOST, Ends
from astraios.markers._static.c_searches import DANGEROUS
from astraios.markers._static.c_tree import Node
from astraios.markers._static.c_values import (
    LONG,
    NONE,
    Num,
    Ptr,
    State,
    Value,
)  # fmt: skip

_READS = frozenset({
    "printf", "fprintf", "strlen", "isspace", "isalnum", "isalpha", "isdigit", "puts", "putchar",
    "fputs", "strcmp", "strncmp", "free", "strchr", "strstr", "fwrite", "toupper", "tolower",
    "isprint", "exit", "fputc", "putc", "memcmp", "strrchr",
})  # fmt: skip


class Loops(Characters):
    """Paths through loops."""

    def _do_while_statement(self, node: Node, st: State) -> Ends:
        return self._loop(node.fields["condition"], None, node.fields["body"], st)

    def _do_for_statement(self, node: Node, st: State) -> Ends:
        hidden = dict(st.env)
        states = [st]
        first = node.fields.get("initializer")
        if first is not None:
            states = [s for _, s in self.statement(first, st)]
        ends: Ends = []
        for s in states:
            ends += self._loop(node.fields.get("condition"), node.fields.get("update"),
                               node.fields["body"], s)  # fmt: skip
        for _, end in ends:
            end.env = {n: hidden[n] for n in end.env if n in hidden}
        return ends

    def _do_do_statement(self, node: Node, st: State) -> Ends:
        ends: Ends = []
        body, condition = node.fields["body"], node.fields["condition"]
        for signal, s in self.statement(body, st):
            if signal in ("", "continue"):
                ends += self._loop(condition, None, body, s)
            else:
                ends.append(("" if signal == "break" else signal, s))
        return ends

    def _loop(self, condition: Node | None, update: Node | None, body: Node, st: State) -> Ends:
        parts = (condition, update, body)
        changed = {n: w for n, w in names_assigned(parts).items() if n in st.env}
        self.mute += 1
        self.scanned = set()
        first = self._forget(st.copy(), changed, parts, st)
        self._test(condition, first.copy())
        _, silent = self._round(condition, update, body, first.copy())
        scanned = {r for r in self.scanned if first.labels.get(r, NONE) & set(DANGEROUS)}
        bounds = self._bounds(silent, changed, st)
        order = self._order(changed, parts, st, bounds)
        self.mute -= 1
        start = self._forget(st.copy(), changed, parts, st, bounds, order)
        self.gained = set()
        clean, guarded = self._harmless_after(scanned, parts, start, st)
        gained = self.gained
        others, gone_on = self._round(condition, update, body, start.copy())
        again = [s for s in gone_on if s.freed != st.freed or s.nulls != st.nulls][:4]
        for s in again:
            later = self._forget(s.copy(), changed, parts, st, bounds, order)
            self._round(condition, update, body, later)
        _, at_once = self._test(condition, st.copy())
        left = at_once if condition is not None else []
        for s in gone_on:
            left += self._test(condition, s)[1] if condition is not None else []
        ends: Ends = []
        for s in left:
            for region, labels in clean.items():
                s.labels[region] = s.labels.get(region, NONE) - labels
            self._keep_gained(s, scanned, gained, st)
            ends.append(("", s))
        for s in left:
            for (name, value), (region, labels) in guarded:
                ends += self._flagged(s, name, value, region, labels)
        if guarded:
            ends = ends[len(left) :]
        ends += [("" if signal == "break" else signal, s) for signal, s in others]
        return ends[: 2 * MOST]

    def _flagged(
        self, st: State, name: str, value: Value, region: int, labels: frozenset[str]
    ) -> Ends:
        """A loop that tells by a flag whether a text is harmless: both of its outcomes."""
        good, bad = st.copy(), st
        place = good.env[name][0]
        good.cells[place, 0] = value
        good.labels[region] = good.labels.get(region, NONE) - labels
        ends: Ends = [("", good)]
        bad.cells[place, 0] = Num(1 if isinstance(value, Num) and value.off == 0 else 0)
        ends.append(("", bad))
        return ends

    def _forget(
        self, st: State, changed: dict[str, list[Node]], parts: Sequence[Node | None], entry: State,
        bounds: dict[str, list[tuple[str, Num]]] | None = None,
        order: Sequence[tuple[str, str, float]] = (),
    ) -> State:  # fmt: skip
        """The state at the start of an arbitrary round."""
        for region in self._written(st, parts):
            self._clobbered(st, region)
        for name, where in changed.items():
            region, kind = st.env[name]
            old = entry.cells.get((region, 0))
            way = _direction(where)
            if isinstance(old, Ptr):
                off = self.fresh(st, LONG, -inf, inf)
                self._ordered_from(st, off, old.off, way)
                kept = way or all(_keeps(w, name) for w in where)
                new: Value = replace(old, off=off) if kept else self.unknown(st, kind)
                st.cells[region, 0] = new
                self._limit(st, off, (bounds or {}).get(name, []))
            elif kind.kind == "int":
                low, high = (-inf, inf) if way else (kind.least, kind.most)
                labels = old.labels if isinstance(old, Num) else NONE
                number = self.fresh(st, kind, low, high, labels)
                if isinstance(old, Num):
                    self._ordered_from(st, number, old, way)
                    if way > 0:
                        st.assume_le(number, Num(kind.most))
                    elif way < 0 and kind.signed:
                        st.assume_le(Num(kind.least), number)
                st.cells[region, 0] = number
                self._limit(st, number, (bounds or {}).get(name, []))
            else:
                st.cells.pop((region, 0), None)
        for first, second, gap in order:
            a, b = self._place(st, first), self._place(st, second)
            if a is not None and b is not None:
                st.assume_le(a, b.plus(gap))
        return st

    def _place(self, st: State, name: str) -> Num | None:
        """The value of a number, or how far behind the start a pointer points."""
        return _off(st.cells.get((st.env[name][0], 0)))

    def _order(
        self, changed: dict[str, list[Node]], parts: Sequence[Node | None], entry: State,
        bounds: dict[str, list[tuple[str, Num]]],
    ) -> list[tuple[str, str, float]]:  # fmt: skip
        """What stays true of two counters: (a, b, gap) for a - b <= gap.

        Guessed from the entry and kept if a round keeps it (Houdini: Flanagan and Leino, 2001).
        """
        counters = [n for n, where in changed.items() if _direction(where)][:4]
        guessed: list[tuple[str, str, float]] = []
        for first in counters:
            for second in counters:
                a, b = self._place(entry, first), self._place(entry, second)
                if first == second or a is None or b is None or a.coef != b.coef:
                    continue
                if not a.coef or a.sym == b.sym:
                    guessed.append((first, second, a.off - b.off))
        condition, update, body = parts
        for _ in range(3):
            if not guessed or body is None:
                break
            start = self._forget(entry.copy(), changed, parts, entry, bounds, guessed)
            _, ends = self._round(condition, update, body, start)
            kept = [guess for guess in guessed if all(self._holds(s, guess) for s in ends)]
            if kept == guessed:
                break
            guessed = kept
        return guessed

    def _holds(self, st: State, guess: tuple[str, str, float]) -> bool:
        a, b = self._place(st, guess[0]), self._place(st, guess[1])
        return a is not None and b is not None and st.is_le(a, b.plus(guess[2]))

    def _keep_gained(
        self, st: State, scanned: set[int], gained: set[tuple[int, str]], entry: State
    ) -> None:
        """Of what was copied character by character, only dangerous characters are dangerous."""
        handed = frozenset().union(*(entry.labels.get(r, NONE) for r in scanned))
        for region, labels in list(st.labels.items()):
            if region not in scanned:
                before = entry.labels.get(region, NONE)
                lost = {x for x in labels - before if x in handed and (region, x) not in gained}
                st.labels[region] = labels - lost

    def _ordered_from(self, st: State, new: Num, old: Num, way: int) -> None:
        if way > 0:
            st.assume_le(old, new)
        elif way < 0:
            st.assume_le(new, old)

    def _limit(self, st: State, n: Num, bounds: Sequence[tuple[str, Num]]) -> None:
        for way, bound in bounds:
            if way == "<=":
                st.assume_le(n, bound)
            else:
                st.assume_le(bound, n)

    def _bounds(
        self, ends: Sequence[State], changed: dict[str, list[Node]], entry: State
    ) -> dict[str, list[tuple[str, Num]]]:
        """Bounds that hold at the entry of a loop and after every round."""
        found: dict[str, list[tuple[str, Num]]] = {}
        symbols = [n for n in entry.lengths.values() if n is not None and n.coef == 1]
        symbols += [
            r.size for r in self.regions.values() if r.size is not None and r.size.coef == 1
        ]
        symbols += [v for (r, at), v in entry.cells.items()
                    if at == 0 and isinstance(v, Num) and v.coef == 1]  # fmt: skip
        for name in changed:
            region = entry.env[name][0]
            values = [(s, _off(s.cells.get((region, 0)))) for s in [entry, *ends]]
            if any(v is None for _, v in values) or not ends:
                continue
            known = [(s, v) for s, v in values if v is not None]
            low = min(s.lo(v) for s, v in known)
            high = max(s.hi(v) for s, v in known)
            limits = found.setdefault(name, [])
            if low > -inf:
                limits.append((">=", Num(low)))
            if high < inf:
                limits.append(("<=", Num(high)))
            for sym in {n.sym for n in symbols}:
                for extra in (-1, 0):
                    bound = Num(extra, sym, 1)
                    if all(s.is_le(v, bound) for s, v in known):
                        limits.append(("<=", bound))
                        break
        return found

    def _written(self, st: State, parts: Sequence[Node | None]) -> set[int]:
        """Objects whose content a loop may change."""
        found: set[int] = set()
        for root in parts:
            for node in root.walk() if root is not None else ():
                names: list[Node] = []
                if node.kind in ("assignment_expression", "update_expression"):
                    target = node.fields.get("left") or node.fields.get("argument")
                    if target is not None and target.kind != "identifier":
                        names = [n for n in list(target.walk())[:6] if n.kind == "identifier"][:1]
                elif node.kind == "call_expression" and node.fields["function"].text not in _READS:
                    names = [n for n in node.fields["arguments"].walk() if n.kind == "identifier"]
                for name in names:
                    if name.text in st.env:
                        region, kind = st.env[name.text]
                        value = st.cells.get((region, 0))
                        if kind.kind == "array":
                            found.add(region)
                        elif isinstance(value, Ptr):
                            found.add(value.region)
        return found


def _off(value: Value | None) -> Num | None:
    return value.off if isinstance(value, Ptr) else value


def _direction(where: Sequence[Node]) -> int:
    """1 if a variable only grows, -1 if it only falls, else 0."""
    ways = {_way(node) for node in where}
    return ways.pop() if len(ways) == 1 else 0


def _way(node: Node) -> int:
    if node.kind == "update_expression":
        return 1 if "+" in node.sign else -1
    right = node.fields.get("right")
    if right is None:
        return 0
    if node.sign in ("+=", "-="):
        grows = right.kind == "number_literal" or "sizeof" in right.text
        grows = grows or right.text.startswith(("sprintf", "snprintf", "strlen"))
        return (1 if node.sign == "+=" else -1) if grows else 0
    left = node.fields["left"].text
    if node.sign == "=" and right.kind == "binary_expression" and right.sign in "+-":
        first, second = right.fields["left"], right.fields["right"]
        if first.text == left and second.kind == "number_literal":
            return 1 if right.sign == "+" else -1
    return 0


def _keeps(node: Node, name: str) -> bool:
    right = node.fields.get("right")
    return right is None or right.text.startswith(name)
