"""Statements of C: the paths through functions, branches and loops.

Functions that nobody in the program calls are walked from their start, path by path; calls of
functions that the program defines are walked into. A loop is walked for an arbitrary round: what it
changes is unknown but for bounds that a first, silent walk has shown to hold after every round.
Where a program has more than `_MOST` paths, the rest are not looked at.

A loop over the characters of a text from outside is asked about each character that does harm: if
no round in which it is read goes on, or all leave a mark behind, the text behind the loop is
without it. That is how a list of allowed characters is told from a loop that only looks at them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf

from astraios.markers._static.c_expressions import names_assigned
from astraios.markers._static.c_library import DANGEROUS, Library
from astraios.markers._static.c_tree import Node, Unit, declared_name, string_text
from astraios.markers._static.c_values import (
    CHAR,
    INT,
    LONG,
    NONE,
    SIZE,
    TEXT,
    VOID,
    WILD,
    ZERO,
    CType,
    Num,
    Ptr,
    State,
    Value,
)  # fmt: skip

Ends = list[tuple[str, State]]
"""How paths end: `` for going on, break, continue, return, or goto with its label."""
_MOST = 24
_DEEPEST_CALL = 3
_SIZES = ("size", "len", "length", "n", "count", "num", "sz", "cap", "capacity", "max")


class Paths(Library):
    """Walks the functions of one program."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit)
        self.declared_functions: dict[str, CType] = {}
        self.depth = 0
        self.steps_left = 6_000
        self.start = State()
        self.gained: set[tuple[int, str]] = set()
        self._declarations()

    def _declarations(self) -> None:
        for node in self._flat(self.unit.root.children):
            if node.kind == "type_definition":
                base = self.base_type(node.fields.get("type"))
                for child in node.children:
                    if child is not node.fields.get("type") and declared_name(child):
                        self.types[declared_name(child)] = self.declared(base, child)
            elif node.kind in ("struct_specifier", "union_specifier"):
                self.base_type(node)
            elif node.kind == "declaration":
                self._declare(node, [self.start], outer=True)

    def run(self) -> None:
        """Walks every function that no other one calls."""
        called = {
            node.fields["function"].text
            for node in self.unit.root.walk()
            if node.kind == "call_expression" and "function" in node.fields
        }
        for name, function in self.unit.functions.items():
            if name == "main" or name not in called:
                self._walk(function, name)

    def _walk(self, function: Node, name: str) -> None:
        st = self.start.copy()
        names = [(declared_name(p.fields.get("declarator")), p) for p in _parameters(function)]
        kinds = [(n, self.declared(self.base_type(p.fields.get("type")),
                                   p.fields.get("declarator"))) for n, p in names]  # fmt: skip
        values: list[Value] = []
        if name == "main" and len(kinds) >= 2:
            argc = self.fresh(st, INT, 1)
            made = self.region("argv", argc, 8)
            values = [argc, Ptr(made, ZERO, 8, 0, CType("ptr", 8, to=CHAR))]
            kinds = kinds[:2]
        else:
            values = self._arguments(st, kinds)
        for (parameter, kind), value in zip(kinds, values, strict=False):
            self._bind(st, parameter, kind, value)
        for _, end in self.block(function.fields["body"], [st]):
            self.leaves(end)

    def _arguments(self, st: State, kinds: Sequence[tuple[str, CType]]) -> list[Value]:
        """Parameters of a function that someone else calls."""
        values: list[Value] = []
        numbers = {n: self.fresh(st, k, labels=frozenset({WILD}))
                   for n, k in kinds if k.kind == "int"}  # fmt: skip
        for name, kind in kinds:
            to = kind.to
            if kind.kind == "int":
                values.append(numbers[name])
            elif kind.kind in ("ptr", "array") and to is not None and to == CHAR:
                values.append(Ptr(self.text(st, TEXT, "outside"), ZERO, 1, 0, CHAR))
                self.regions[values[-1].region].size = None  # type: ignore[union-attr]
            elif kind.kind in ("ptr", "array"):
                size = next((v for n, v in numbers.items() if _is_size(n)), None)
                made = self.region("outside", size, max(1, to.size if to else 1))
                values.append(Ptr(made, ZERO, max(1, to.size if to else 1), 0, to))
            else:
                values.append(self.unknown(st, kind))
        return values

    def _bind(self, st: State, name: str, kind: CType, value: Value) -> None:
        if kind.kind == "array":
            kind = CType("ptr", 8, to=kind.to)
        region = self.region("scalar", Num(1), max(1, kind.size))
        st.env[name] = (region, kind)
        st.cells[region, 0] = self.converted(st, value, kind)

    # --- calls ---------------------------------------------------------------------------------

    def call(self, node: Node, st: State) -> list[tuple[State, Value]]:
        target = node.fields.get("function")
        name = target.text if target is not None else ""
        arguments = node.fields["arguments"].children if "arguments" in node.fields else []
        paths: list[tuple[State, list[Value]]] = [(st, [])]
        if name == "assert" and arguments:
            yes, _ = self.cond(arguments[0], st)
            return [(s, ZERO) for s in yes]
        for argument in arguments:
            paths = [(s2, [*got, v]) for s1, got in paths for s2, v in self.ev(argument, s1)]
        found: list[tuple[State, Value]] = []
        for s, args in paths[:_MOST]:
            function = self.unit.functions.get(name)
            if function is not None and self.depth < _DEEPEST_CALL:
                found += self._into(function, s, args)
            else:
                found += self.library(name, node, s, args)
        return found

    def _into(self, function: Node, st: State, args: Sequence[Value]) -> list[tuple[State, Value]]:
        outer = st.env
        st.env = {n: v for n, v in outer.items() if n in self.start.env} | dict(self.start.env)
        for parameter, value in zip(_parameters(function), args, strict=False):
            declarator = parameter.fields.get("declarator")
            kind = self.declared(self.base_type(parameter.fields.get("type")), declarator)
            self._bind(st, declared_name(declarator), kind, value)
        self.depth += 1
        found: list[tuple[State, Value]] = []
        for _, end in self.block(function.fields["body"], [st]):
            value = end.result if end.result is not None else self.fresh(end, INT)
            end.result = None
            end.env = dict(outer)
            found.append((end, value))
        self.depth -= 1
        return found[:_MOST]

    # --- statements ----------------------------------------------------------------------------

    def _flat(self, nodes: Iterable[Node]) -> list[Node]:
        """Statements, of conditional parts those that are compiled."""
        found: list[Node] = []
        for node in nodes:
            if node.kind in ("preproc_ifdef", "preproc_if"):
                name = node.fields.get("name")
                known = name is not None and (
                    name.text in self.unit.macros or name.text in ("__linux__", "__unix__", "linux")
                )
                positive = not node.text.startswith("#ifndef")
                skipped = (name, node.fields.get("condition"), node.fields.get("alternative"))
                if known == positive:
                    found += self._flat(c for c in node.children if c not in skipped)
                elif "alternative" in node.fields:
                    found += self._flat(node.fields["alternative"].children)
            elif node.kind == "labeled_statement":
                found.append(node)
            else:
                found.append(node)
        return found

    def block(self, node: Node, states: list[State]) -> Ends:
        """Statements one after the other; jumps to a label among them are followed."""
        statements = self._flat(node.children)
        labels = {s.fields["label"].text: n for n, s in enumerate(statements)
                  if s.kind == "labeled_statement" and "label" in s.fields}  # fmt: skip
        ends: Ends = []
        left = [(0, states)]
        while left:
            at, now = left.pop()
            for n in range(at, len(statements)):
                if not now:
                    break
                going: list[State] = []
                for signal, end in self._each(statements[n], now):
                    label = signal[5:] if signal.startswith("goto ") else ""
                    if not signal:
                        going.append(end)
                    elif label in labels:
                        end.jumps += 1
                        if end.jumps < 4:
                            left.append((labels[label], [end]))
                    else:
                        ends.append((signal, end))
                now = going[:_MOST]
            ends += [("", s) for s in now]
        return ends

    def _each(self, node: Node, states: list[State]) -> Ends:
        return [end for st in states for end in self.statement(node, st)]

    def statement(self, node: Node, st: State) -> Ends:
        self.steps_left -= 1
        if self.steps_left < 0:
            return []
        handler = getattr(self, f"_do_{node.kind}", None)
        if handler is not None:
            ends: Ends = handler(node, st)
            return ends
        if node.kind.endswith(("_expression", "identifier", "literal")):
            return [("", s) for s, _ in self.ev(node, st)]
        return [("", st)]

    def _do_compound_statement(self, node: Node, st: State) -> Ends:
        outer = set(st.env)
        hidden = dict(st.env)
        ends = self.block(node, [st])
        for _, end in ends:
            end.env = {n: hidden[n] for n in end.env if n in outer}
        return ends

    def _do_else_clause(self, node: Node, st: State) -> Ends:
        return self.statement(node.children[0], st) if node.children else [("", st)]

    def _do_labeled_statement(self, node: Node, st: State) -> Ends:
        return self._each(node.children[-1], [st]) if len(node.children) > 1 else [("", st)]

    def _do_expression_statement(self, node: Node, st: State) -> Ends:
        return [("", s) for s, _ in self.ev(node.children[0], st)] if node.children else [("", st)]

    def _do_return_statement(self, node: Node, st: State) -> Ends:
        if not node.children:
            return [("return", st)]
        ends: Ends = []
        for s, value in self.ev(node.children[0], st):
            s.result = value
            ends.append(("return", s))
        return ends

    def _do_break_statement(self, node: Node, st: State) -> Ends:
        return [("break", st)]

    def _do_continue_statement(self, node: Node, st: State) -> Ends:
        return [("continue", st)]

    def _do_goto_statement(self, node: Node, st: State) -> Ends:
        return [(f"goto {node.fields['label'].text}", st)]

    def _do_if_statement(self, node: Node, st: State) -> Ends:
        yes, no = self.cond(node.fields["condition"], st)
        ends = self._each(node.fields["consequence"], yes)
        other = node.fields.get("alternative")
        return ends + (self._each(other, no) if other is not None else [("", s) for s in no])

    def _do_switch_statement(self, node: Node, st: State) -> Ends:
        ends: Ends = []
        cases = [c for c in node.fields["body"].children if c.kind == "case_statement"]
        for s, value in self.ev(node.fields["condition"], st):
            rest, entered = s, []
            for n, case in enumerate(cases):
                wanted = case.fields.get("value")
                if wanted is None:
                    continue
                known = self.one(wanted, rest)
                one = rest.copy()
                if self.assume(one, "==", value, known):
                    entered.append((n, one))
                if not self.assume(rest, "!=", value, known):
                    break
            else:
                default = next((n for n, c in enumerate(cases) if "value" not in c.fields), None)
                if default is None:
                    ends.append(("", rest))
                else:
                    entered.append((default, rest))
            for n, one in entered:
                body: list[Node] = []
                for case in cases[n:]:
                    body += [c for c in case.children if c is not case.fields.get("value")]
                ends += self.block(Node("block", "", node.line, body), [one])
        return [("" if signal == "break" else signal, s) for signal, s in ends]

    # --- declarations --------------------------------------------------------------------------

    def _do_declaration(self, node: Node, st: State) -> Ends:
        return [("", s) for s in self._declare(node, [st])]

    def _do_type_definition(self, node: Node, st: State) -> Ends:
        return [("", st)]

    def _declare(self, node: Node, states: list[State], outer: bool = False) -> list[State]:
        base = self.base_type(node.fields.get("type"))
        for child in node.children:
            name = declared_name(child)
            if child is node.fields.get("type") or not name or "specifier" in child.kind:
                continue
            if child.kind == "type_qualifier":
                continue
            declarator = child.fields["declarator"] if child.kind == "init_declarator" else child
            if any(d.kind == "function_declarator" for d in declarator.walk()):
                kind = base
                if declarator.kind == "pointer_declarator":
                    kind = CType("ptr", 8, to=base)
                self.declared_functions[name] = kind
                continue
            value = child.fields.get("value") if child.kind == "init_declarator" else None
            states = [s for st in states
                      for s in self._define(st, name, base, declarator, value, outer)]  # fmt: skip
        return states

    def _define(
        self, st: State, name: str, base: CType, declarator: Node, value: Node | None, outer: bool
    ) -> list[State]:
        kind = self.declared(base, declarator)
        if kind.kind == "array":
            return self._define_array(st, name, kind, declarator, value, outer)
        region = self.region("scalar" if kind.kind != "struct" else "local", Num(1), kind.size or 1)
        st.env[name] = (region, kind)
        if value is None or value.kind == "initializer_list":
            if outer and kind.kind == "int":
                st.cells[region, 0] = self.fresh(st, kind)
            return [st]
        found = []
        for s, got in self.ev(value, st):
            if kind.kind != "struct":
                s.cells[region, 0] = self.converted(s, got, kind)
            found.append(s)
        return found

    def _define_array(
        self, st: State, name: str, kind: CType, declarator: Node, value: Node | None, outer: bool
    ) -> list[State]:
        to = kind.to or CHAR
        size = Num(kind.count) if kind.count is not None else None
        text = string_text(value, self.unit) if value is not None else None
        if size is None and value is not None:
            size = Num(len(text) + 1 if text is not None else len(value.children))
        if size is None and declarator.fields.get("size") is not None:
            got = self.one(declarator.fields["size"], st)
            if isinstance(got, Num):
                size = got
        region = self.region("local", size, max(1, to.size))
        if size is not None and not size.coef:
            kind = replace(kind, count=int(size.off), size=int(size.off) * to.size)
        st.env[name] = (region, kind)
        if outer or value is not None:
            st.zeroed |= {region}
            if to.size == 1:
                st.lengths[region] = Num(len(text)) if text is not None else ZERO
            for n, item in enumerate(value.children if value is not None and text is None else ()):
                got = self.one(item, st)
                if to.kind in ("int", "ptr", "float") and not (outer and to.kind == "int"):
                    st.cells[region, n * to.size] = self.converted(st, got, to)
        elif to.size == 1:
            st.lengths[region] = None
        return [st]

    # --- loops ---------------------------------------------------------------------------------

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
        return ends[: 2 * _MOST]

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

    def _test(self, condition: Node | None, st: State) -> tuple[list[State], list[State]]:
        return self.cond(condition, st) if condition is not None else ([st], [])

    def _round(
        self, condition: Node | None, update: Node | None, body: Node, st: State
    ) -> tuple[Ends, list[State]]:
        """One round: paths that leave the loop from inside, and those that come to its end."""
        yes, _ = self._test(condition, st)
        hidden = dict(st.env)
        others: Ends = []
        going: list[State] = []
        for signal, s in self._each(body, yes[:_MOST]):
            s.env = dict(hidden)
            if signal in ("", "continue"):
                going += [u for u, _ in self.ev(update, s)] if update is not None else [s]
            else:
                others.append((signal, s))
        return others, going[:_MOST]

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

    # --- loops over characters -------------------------------------------------------------------

    def _harmless_after(
        self, scanned: set[int], parts: Sequence[Node | None], start: State, entry: State
    ) -> tuple[
        dict[int, frozenset[str]], list[tuple[tuple[str, Value], tuple[int, frozenset[str]]]]
    ]:
        clean: dict[int, frozenset[str]] = {}
        guarded: list[tuple[tuple[str, Value], tuple[int, frozenset[str]]]] = []
        for region in sorted(scanned):
            gone: set[str] = set()
            by_flag: dict[str, set[str]] = {}
            for label in sorted(start.labels.get(region, NONE)):
                how = self._refuses(region, label, parts, start, entry)
                if how == "":
                    gone.add(label)
                elif how is not None:
                    by_flag.setdefault(how, set()).add(label)
            clean[region] = frozenset(gone)
            for name, labels in by_flag.items():
                value = entry.cells[entry.env[name][0], 0]
                guarded.append(((name, value), (region, frozenset(labels))))
        return clean, guarded

    def _refuses(
        self, region: int, label: str, parts: Sequence[Node | None], start: State, entry: State
    ) -> str | None:
        """How the loop treats each character that does harm: `` if none gets behind it."""
        if label == "dotdot":
            outer, kept = self.gained, []
            ways = []
            for sign in "/.":
                self.gained = set()
                ways.append(self._rejected(region, sign, label, parts, start, entry))
                kept.append(self.gained)
            self.gained = outer | (kept[0] & kept[1])
            return next((way for way in ways if way is not None), None)
        if label not in DANGEROUS:
            return None
        ways = [
            self._rejected(region, sign, label, parts, start, entry) for sign in DANGEROUS[label]
        ]
        return None if None in ways else max(way or "" for way in ways)

    def _rejected(
        self, region: int, sign: str, label: str, parts: Sequence[Node | None], start: State,
        entry: State,
    ) -> str | None:  # fmt: skip
        condition, update, body = parts
        st = start.copy()
        st.probe = (region, sign, label)
        st.facts.pop(("replaced", region), None)
        self.mute += 1
        _, ends = self._round(condition, update, body, st) if body is not None else ([], [])
        self.mute -= 1
        for s in ends:
            self.gained |= {
                (r, label) for r, held in s.labels.items()
                if label in held and label not in start.labels.get(r, NONE)
            }  # fmt: skip
        left = [s for s in ends if not self._replaced(s, region, label)]
        if not left:
            return ""
        for name, (place, kind) in entry.env.items():
            before = entry.cells.get((place, 0))
            if kind.kind != "int" or not isinstance(before, Num) or before.coef:
                continue
            after = [s.cells.get((place, 0)) for s in left]
            if all(isinstance(v, Num) and not v.coef and v.off != before.off for v in after):
                return name
        return None

    def _replaced(self, st: State, region: int, label: str) -> bool:
        value = st.facts.get(("replaced", region))
        if not isinstance(value, Num) or value.coef:
            return False
        return label != "dotdot" and chr(int(value.off) & 255) not in DANGEROUS.get(label, "")


_READS = frozenset({
    "printf", "fprintf", "strlen", "isspace", "isalnum", "isalpha", "isdigit", "puts", "putchar",
    "fputs", "strcmp", "strncmp", "free", "strchr", "strstr", "fwrite", "toupper", "tolower",
    "isprint", "exit", "fputc", "putc", "memcmp", "strrchr",
})  # fmt: skip


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


def _is_size(name: str) -> bool:
    low = name.lower()
    return low in _SIZES or any(low.endswith(s) for s in ("size", "len", "length", "count"))


def _parameters(function: Node) -> list[Node]:
    for node in function.fields["declarator"].walk():
        if node.kind == "parameter_list":
            return [p for p in node.children if p.kind == "parameter_declaration"
                    and declared_name(p.fields.get("declarator"))]  # fmt: skip
    return []


__all__ = ["SIZE", "VOID", "Paths"]
