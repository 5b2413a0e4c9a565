"""Statements of C: the paths through functions and branches.

Functions that nobody in the program calls are walked from their start, path by path; calls of
functions that the program defines are walked into. Where a program has more than `MOST` paths, the
rest are not looked at. Loops are in `c_loops`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from astraios.markers._static.c_library import Library
from astraios.markers._static.c_tree import Node, Unit, declared_name, string_text
from astraios.markers._static.c_values import (
    CHAR,
    INT,
    TEXT,
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
MOST = 24
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
        for s, args in paths[:MOST]:
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
        return found[:MOST]

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
                now = going[:MOST]
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

    # --- one round of a loop ---------------------------------------------------------------------

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
        for signal, s in self._each(body, yes[:MOST]):
            s.env = dict(hidden)
            if signal in ("", "continue"):
                going += [u for u, _ in self.ev(update, s)] if update is not None else [s]
            else:
                others.append((signal, s))
        return others, going[:MOST]


def _is_size(name: str) -> bool:
    low = name.lower()
    return low in _SIZES or any(low.endswith(s) for s in ("size", "len", "length", "count"))


def _parameters(function: Node) -> list[Node]:
    for node in function.fields["declarator"].walk():
        if node.kind == "parameter_list":
            return [p for p in node.children if p.kind == "parameter_declaration"
                    and declared_name(p.fields.get("declarator"))]  # fmt: skip
    return []
