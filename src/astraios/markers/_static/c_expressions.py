"""Expressions of C along one path: values, places and conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from astraios.markers._static.c_arithmetic import Arithmetic
from astraios.markers._static.c_memory import pointer_to
from astraios.markers._static.c_tree import Node, declared_name, number, string_text, unescaped
from astraios.markers._static.c_values import (
    CHAR,
    DOUBLE,
    INT,
    LONG,
    NONE,
    SIZE,
    UINT,
    VOID,
    ZERO,
    CType,
    Num,
    Ptr,
    State,
    Value,
)  # fmt: skip

Results = list[tuple[State, Value]]
Places = list[tuple[State, Ptr, CType]]

CONSTANTS: dict[str, float] = {
    "NULL": 0, "INT_MAX": 2**31 - 1, "INT_MIN": -(2**31), "RAND_MAX": 2**31 - 1, "EOF": -1,
    "UINT_MAX": 2**32 - 1, "LONG_MAX": 2**63 - 1, "LONG_MIN": -(2**63), "LLONG_MAX": 2**63 - 1,
    "LLONG_MIN": -(2**63), "ULONG_MAX": 2**64 - 1, "SIZE_MAX": 2**64 - 1, "CHAR_MAX": 127,
    "SHRT_MAX": 32767, "INT32_MAX": 2**31 - 1, "INT32_MIN": -(2**31), "INT64_MAX": 2**63 - 1,
    "__INT_MAX__": 2**31 - 1, "UINT32_MAX": 2**32 - 1, "true": 1, "false": 0,
    "EXIT_SUCCESS": 0, "EXIT_FAILURE": 1, "PATH_MAX": 4096, "BUFSIZ": 8192, "FILENAME_MAX": 4096,
    "STDIN_FILENO": 0, "STDOUT_FILENO": 1, "STDERR_FILENO": 2, "MAXPATHLEN": 4096,
    "O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2, "O_CREAT": 0o100, "O_EXCL": 0o200,
    "O_TRUNC": 0o1000, "O_APPEND": 0o2000, "O_SYNC": 0o4010000, "O_CLOEXEC": 0o2000000,
    "O_NONBLOCK": 0o4000, "O_NOFOLLOW": 0o400000, "O_TMPFILE": 0o20200000,
    "S_IRWXU": 0o700, "S_IRUSR": 0o400, "S_IWUSR": 0o200, "S_IXUSR": 0o100,
    "S_IRWXG": 0o070, "S_IRGRP": 0o040, "S_IWGRP": 0o020, "S_IXGRP": 0o010,
    "S_IRWXO": 0o007, "S_IROTH": 0o004, "S_IWOTH": 0o002, "S_IXOTH": 0o001,
    "S_IREAD": 0o400, "S_IWRITE": 0o200, "S_ISUID": 0o4000, "S_ISGID": 0o2000,
    "DEFFILEMODE": 0o666, "ACCESSPERMS": 0o777, "ALLPERMS": 0o7777,
}  # fmt: skip
_COMPARED = ("<", "<=", ">", ">=", "==", "!=")
_FLIPPED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


class Expressions(Arithmetic):
    """Values and conditions."""

    def call(self, node: Node, st: State) -> Results:
        raise NotImplementedError

    def constant(self, node: Node | None) -> int | None:
        if node is None:
            return None
        self.mute += 1
        found = self.ev(node, State())
        self.mute -= 1
        value = found[0][1] if found else None
        return int(value.off) if isinstance(value, Num) and not value.coef else None

    # --- values --------------------------------------------------------------------------------

    def ev(self, node: Node, st: State) -> Results:
        handler = getattr(self, f"_ev_{node.kind}", None)
        if handler is not None:
            found: Results = handler(node, st)
            return found
        if node.kind in ("binary_expression", "unary_expression") or not node.children:
            return [(st, self.fresh(st, INT))]
        for child in node.children:
            results = self.ev(child, st)
            st = results[0][0] if results else st
        return [(st, self.fresh(st, INT))]

    def _ev_number_literal(self, node: Node, st: State) -> Results:
        value, end = number(node.text)
        if end == "f":
            return [(st, Num(value, type=DOUBLE))]
        kind = LONG if "l" in end or value > INT.most else INT
        if "u" in end:
            kind = SIZE if "l" in end or value > UINT.most else UINT
        return [(st, Num(value, type=kind))]

    def _ev_char_literal(self, node: Node, st: State) -> Results:
        text = unescaped(node.text.lstrip("LuU")[1:-1])
        return [(st, Num(ord(text[0]) if text else 0))]

    def _ev_true(self, node: Node, st: State) -> Results:
        return [(st, Num(1))]

    def _ev_false(self, node: Node, st: State) -> Results:
        return [(st, Num(0))]

    def _ev_null(self, node: Node, st: State) -> Results:
        return [(st, Num(0))]

    def _ev_string_literal(self, node: Node, st: State) -> Results:
        text = string_text(node, self.unit)
        if text is None:
            return [(st, Ptr(self.text(st, NONE), ZERO, 1, 0, CHAR))]
        made = self.region("literal", Num(len(text) + 1), 1, text)
        st.lengths[made] = Num(text.find("\0") if "\0" in text else len(text), type=SIZE)
        return [(st, Ptr(made, ZERO, 1, 0, CHAR))]

    _ev_concatenated_string = _ev_string_literal

    def _ev_identifier(self, node: Node, st: State) -> Results:
        name = node.text
        if name in st.env:
            region, kind = st.env[name]
            place = Ptr(region, ZERO, max(1, kind.size), 0, kind)
            return [(st, self.load(st, place, kind, node))]
        if name in self.unit.macros:
            return self.ev(self.unit.macros[name], st)
        if name in CONSTANTS:
            value = CONSTANTS[name]
            wide = abs(value) > UINT.most or name in ("SIZE_MAX", "ULONG_MAX")
            kind = (SIZE if value > LONG.most else LONG) if wide else INT
            return [(st, Num(value, type=UINT if value > INT.most and not wide else kind))]
        return [(st, self.unknown(st, INT))]

    def _ev_parenthesized_expression(self, node: Node, st: State) -> Results:
        return self.ev(node.children[0], st) if node.children else [(st, ZERO)]

    def _ev_comma_expression(self, node: Node, st: State) -> Results:
        return [r for s, _ in self.ev(node.fields["left"], st)
                for r in self.ev(node.fields["right"], s)]  # fmt: skip

    def _ev_sizeof_expression(self, node: Node, st: State) -> Results:
        kind = self.type_of(node.fields.get("type"), node.fields.get("value"), st)
        name = node.fields["value"].text.strip("() ") if "value" in node.fields else ""
        if kind.kind == "array" and not kind.count and name in st.env:
            size = self.regions[st.env[name][0]].size
            if size is not None:
                return [(st, replace(size, type=SIZE))]
        return [(st, Num(kind.size, type=SIZE))]

    def type_of(self, described: Node | None, value: Node | None, st: State) -> CType:
        """The type that is named, or that a value has."""
        if described is not None:
            base = self.base_type(described.fields.get("type"))
            return self.declared(base, described.fields.get("declarator"))
        while value is not None and value.kind == "parenthesized_expression" and value.children:
            value = value.children[0]
        if value is None:
            return INT
        if value.kind == "identifier" and value.text not in st.env:
            if value.text in self.types:
                return self.types[value.text]
            if value.text in self.unit.macros:
                return self.type_of(None, self.unit.macros[value.text], st)
        text = string_text(value, self.unit)
        if text is not None:
            return CType("array", len(text) + 1, to=CHAR, count=len(text) + 1)
        self.mute += 1
        try:
            places = self.lv(value, st.copy())
            if places:
                return places[0][2]
            found = self.ev(value, st.copy())
            got = found[0][1] if found else ZERO
            return got.type if isinstance(got, Num) else pointer_to(got.to or CHAR)
        finally:
            self.mute -= 1

    def _ev_cast_expression(self, node: Node, st: State) -> Results:
        kind = self.type_of(node.fields["type"], None, st)
        return [(s, self.converted(s, v, kind)) for s, v in self.ev(node.fields["value"], st)]

    def _ev_conditional_expression(self, node: Node, st: State) -> Results:
        yes, no = self.cond(node.fields["condition"], st)
        first = node.fields.get("consequence", node.fields["condition"])
        return [r for s in yes for r in self.ev(first, s)] + [
            r for s in no for r in self.ev(node.fields["alternative"], s)
        ]

    def _ev_call_expression(self, node: Node, st: State) -> Results:
        return self.call(node, st)

    def _ev_binary_expression(self, node: Node, st: State) -> Results:
        if node.sign in ("&&", "||", *_COMPARED):
            yes, no = self.cond(node, st)
            return [*((s, Num(1)) for s in yes), *((s, Num(0)) for s in no)]
        return [
            (s2, self.computed(s2, node.sign, a, b, node))
            for s1, a in self.ev(node.fields["left"], st)
            for s2, b in self.ev(node.fields["right"], s1)
        ]

    def _truth(self, yes: list[State], no: list[State]) -> Results:
        found: Results = [(s, Num(1)) for s in yes]
        return found + [(s, Num(0)) for s in no]

    def one(self, node: Node, st: State) -> Value:
        """The value on the first path, where the others do not matter."""
        found = self.ev(node, st)
        return found[0][1] if found else self.fresh(st, INT)

    def _ev_unary_expression(self, node: Node, st: State) -> Results:
        if node.sign == "!":
            yes, no = self.cond(node, st)
            return [*((s, Num(1)) for s in yes), *((s, Num(0)) for s in no)]
        found: Results = []
        for s, value in self.ev(node.fields["argument"], st):
            if not isinstance(value, Num) or node.sign == "+":
                found.append((s, value))
            elif node.sign == "-":
                found.append((s, replace(value, off=-value.off, coef=-value.coef)))
            elif node.sign == "~" and not value.coef:
                kind = value.type
                found.append((s, self.converted(s, Num(~int(value.off)), kind)))
            else:
                found.append((s, self.fresh(s, value.type, labels=value.labels)))
        return found

    # --- places --------------------------------------------------------------------------------

    def lv(self, node: Node, st: State) -> Places:
        """Where the object is that an expression names; none if it names none."""
        kind = node.kind
        if kind == "parenthesized_expression" and node.children:
            return self.lv(node.children[0], st)
        if kind == "identifier" and node.text in st.env:
            region, ctype = st.env[node.text]
            return [(st, Ptr(region, ZERO, max(1, ctype.size), 0, ctype), ctype)]
        if kind == "subscript_expression":
            index = node.fields.get("index") or node.children[-1]
            return self._places(node, [
                (s2, self._moved(s2, "+", a, b))
                for s1, a in self.ev(node.fields["argument"], st)
                for s2, b in self.ev(index, s1)
            ])  # fmt: skip
        if kind == "pointer_expression" and node.sign == "*":
            return self._places(node, self.ev(node.fields["argument"], st))
        if kind == "field_expression":
            return self._member(node, st)
        return []

    def _places(self, node: Node, found: Results) -> Places:
        places: Places = []
        for s, value in found:
            if isinstance(value, Ptr):
                places.append((s, value, value.to or CHAR))
            elif not value.coef and value.off == 0:
                self.report("null", node, "a null pointer is followed")
            else:
                made = self.region("unknown")
                places.append((s, Ptr(made, ZERO, 4, 0, INT), INT))
        return places

    def _member(self, node: Node, st: State) -> Places:
        arrow = node.sign == "->"
        bases: Places = []
        if arrow:
            bases = self._places(node, self.ev(node.fields["argument"], st))
        else:
            bases = self.lv(node.fields["argument"], st)
        found: Places = []
        for s, ptr, kind in bases:
            if arrow:
                self.alive(s, ptr, node)
            name = node.fields["field"].text
            at, member = next(((o, k) for n, o, k in kind.members if n == name), (0, INT))
            if not kind.members:
                made = self.region("unknown")
                found.append((s, Ptr(made, ZERO, 4, 0, INT), INT))
            elif ptr.off.coef:
                self.touch(s, ptr, min(kind.size, ptr.unit), node, writes=False)
                made = self.region("unknown", parent=ptr.region)
                found.append((s, Ptr(made, ZERO, 1, 0, member), member))
            else:
                off = Num(ptr.off.off * ptr.unit + at)
                found.append((s, Ptr(ptr.region, off, 1, ptr.null, member), member))
        return found

    def _ev_place(self, node: Node, st: State) -> Results:
        return [(s, self.load(s, ptr, kind, node)) for s, ptr, kind in self.lv(node, st)]

    _ev_subscript_expression = _ev_field_expression = _ev_place

    def _ev_pointer_expression(self, node: Node, st: State) -> Results:
        if node.sign == "*":
            return self._ev_place(node, st)
        places = self.lv(node.fields["argument"], st)
        if not places:
            return [(st, self.unknown(st, CType("ptr", 8, to=VOID)))]
        return [(s, replace(ptr, to=kind)) for s, ptr, kind in places]

    def _ev_assignment_expression(self, node: Node, st: State) -> Results:
        found: Results = []
        for s1, value in self.ev(node.fields["right"], st):
            for s2, ptr, kind in self.lv(node.fields["left"], s1):
                new = value
                if node.sign not in ("=", ""):
                    old = self.load(s2, ptr, kind, node)
                    new = self.computed(s2, node.sign[:-1], old, value, node)
                new = self.converted(s2, new, kind)
                self.store(s2, ptr, kind, new, node)
                found.append((s2, new))
        return found

    def _ev_update_expression(self, node: Node, st: State) -> Results:
        found: Results = []
        step = Num(1)
        for s, ptr, kind in self.lv(node.fields["argument"], st):
            old = self.load(s, ptr, kind, node)
            new = self.computed(s, "+" if "+" in node.sign else "-", old, step, node)
            if isinstance(new, Num):
                new = replace(new, type=kind)
            self.store(s, ptr, kind, new, node)
            found.append((s, new if node.sign.endswith("pre") else old))
        return found

    # --- conditions ----------------------------------------------------------------------------

    def cond(self, node: Node, st: State) -> tuple[list[State], list[State]]:
        """The paths on which a condition holds, and those on which it does not."""
        if node.kind in ("parenthesized_expression",) and len(node.children) == 1:
            return self.cond(node.children[0], st)
        if node.kind == "unary_expression" and node.sign == "!":
            yes, no = self.cond(node.fields["argument"], st)
            return no, yes
        if node.kind == "binary_expression" and node.sign in ("&&", "||"):
            return self._joined(node, st)
        if node.kind == "binary_expression" and node.sign in _COMPARED:
            return self._compared(node, st)
        trues: list[State] = []
        falses: list[State] = []
        for s, value in self.ev(node, st):
            other = s.copy()
            if self.assume(other, "!=", value, ZERO):
                trues.append(other)
            if self.assume(s, "==", value, ZERO):
                falses.append(s)
        return trues, falses

    def _joined(self, node: Node, st: State) -> tuple[list[State], list[State]]:
        yes, no = self.cond(node.fields["left"], st)
        go_on, done = (yes, no) if node.sign == "&&" else (no, yes)
        trues: list[State] = []
        falses: list[State] = []
        for s in go_on:
            more, less = self.cond(node.fields["right"], s)
            trues += more
            falses += less
        return (trues, done + falses) if node.sign == "&&" else (done + trues, falses)

    def _compared(self, node: Node, st: State) -> tuple[list[State], list[State]]:
        trues: list[State] = []
        falses: list[State] = []
        for s1, a in self.ev(node.fields["left"], st):
            for s2, b in self.ev(node.fields["right"], s1):
                yes, no = s2.copy(), s2
                if self.assume(yes, node.sign, a, b):
                    trues.append(yes)
                if self.assume(no, _FLIPPED[node.sign], a, b):
                    falses.append(no)
        return trues, falses


def names_assigned(nodes: Sequence[Node | None]) -> dict[str, list[Node]]:
    """Variables that are assigned somewhere below, with where."""
    found: dict[str, list[Node]] = {}
    for root in nodes:
        for node in root.walk() if root is not None else ():
            target: Node | None = None
            if node.kind == "assignment_expression":
                target = node.fields.get("left")
            elif node.kind == "update_expression" or (
                node.kind == "pointer_expression" and node.sign == "&"
            ):
                target = node.fields.get("argument")
            if target is not None and target.kind == "identifier":
                found.setdefault(target.text, []).append(node)
    return found


__all__ = ["Expressions", "Places", "Results", "declared_name", "names_assigned"]
