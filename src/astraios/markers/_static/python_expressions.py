"""Expressions of a Python program as values; see `python_values`."""

from __future__ import annotations

import ast
import operator
import stat
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from astraios.markers._static.python_names import Function, imported, outside
from astraios.markers._static.python_policy import Policy
from astraios.markers._static.python_values import (
    NOTHING,
    UNKNOWN,
    Mark,
    Value,
    concatenated,
    constant,
    element,
    joined,
    words,
)
from astraios.records import Finding


@dataclass
class State:
    """What holds at one point of the program."""

    values: dict[str, Value] = field(default_factory=dict)
    cleared: frozenset[Mark] = frozenset()
    """Marks that a test has shown to be harmless from here on."""

    def copy(self) -> State:
        """A state of its own with the same content."""
        return State(dict(self.values), self.cleared)

    def settled(self) -> dict[str, Value]:
        """The values without what was cleared."""
        if not self.cleared:
            return self.values
        return {
            name: replace(value, taint=value.taint - self.cleared)
            if value.taint & self.cleared
            else value
            for name, value in self.values.items()
        }


_ARITHMETIC = MappingProxyType(
    {
        ast.Add: operator.add, ast.Sub: operator.sub, ast.BitOr: operator.or_,
        ast.BitAnd: operator.and_, ast.BitXor: operator.xor,
    }
)  # fmt: skip
_EXACT = words("strip lstrip rstrip lower upper casefold decode encode")
"""Methods that leave a text what it was, as far as harm goes."""
_TRUTHS = words(
    "startswith endswith isalnum isdigit isalpha isnumeric isdecimal isidentifier isspace find "
    "index count has_key exists isfile isdir issuperset issubset"
)
_CLEAN = words("int float bool len hash id ord abs round type range isinstance")
_PASS_ON = words("""
    str repr bytes bytearray list tuple set dict sorted reversed iter next map filter format
    ascii copy deepcopy loads load dumps safe_load full_load b64decode b64encode urlsafe_b64decode
    unquote unquote_plus urlparse urlsplit urljoin parse_qs parse_qsl BytesIO StringIO dedent
    enumerate zip join joinpath PurePath Path PosixPath PurePosixPath abspath realpath normpath
    relpath dirname basename expanduser expandvars splitext split normcase fsencode fsdecode
    fspath sub subn compile literal_eval split Template from_string Markup text TextClause
    commonpath commonprefix min max sum
    """)
"""Functions that give back, in some form, what they are given."""


class Expressions:
    """Reads expressions; statements and tests are added by its heirs."""

    def __init__(self, tree: ast.Module, policy: Policy, cwe: str) -> None:
        self.tree = tree
        self.policy = policy
        self.cwe = cwe
        self.imports = imported(tree)
        self.functions: dict[str, Function] = {}
        self.state = State()
        self.outer: dict[str, Value] = {}
        self.found: dict[tuple[int, str], Finding] = {}
        self.asked: set[int] = set()

    # --- for checks ---

    def report(self, node: ast.AST, rule: str, message: str) -> None:
        """Note a flaw at `node`."""
        line = int(getattr(node, "lineno", 1))
        self.found.setdefault(
            (line, rule),
            Finding(rule=rule, cwe=self.cwe, file="scenario.py", line=line, message=message),
        )

    def harms(self, value: Value, *labels: str) -> bool:
        """Whether `value` can do harm in one of these ways; in any way if none is named."""
        left = value.taint - self.state.cleared
        return any(not labels or label in labels for _, label in left)

    def deep(self, value: Value) -> Value:
        """`value` with the marks of all that it holds."""
        inner = [*(value.items or ()), *(value.fields or {}).values()]
        if not inner:
            return value
        taint = frozenset().union(value.taint, *(self.deep(one).taint for one in inner))
        return replace(value, taint=taint)

    # --- expressions ---

    def value(self, node: ast.expr | None) -> Value:
        """What is known of `node`; calls in it are shown to the check."""
        if node is None:
            return NOTHING
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is not None:
            found: Value = method(node)
            return found
        inner = [self.value(one) for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr)]
        return Value(taint=frozenset().union(*(one.taint for one in inner)))

    def _constant(self, node: ast.Constant) -> Value:
        return constant(node.value)

    def _name(self, node: ast.Name) -> Value:
        for scope in (self.state.values, self.outer):
            if node.id in scope:
                return scope[node.id]
        if node.id in self.functions:
            return Value(name=node.id, function=self.functions[node.id])
        return self._named(self.imports.get(node.id, node.id), node)

    def _named(self, name: str, node: ast.AST) -> Value:
        if name.startswith(("stat.S_I", "S_I")):
            return constant(getattr(stat, name.removeprefix("stat."), UNKNOWN))
        if outside(name):
            return self.source(name)
        return Value(name=name)

    def source(self, name: str) -> Value:
        """A value from outside; the name tells it from others."""
        taint = frozenset((name, label) for label in self.policy.labels)
        return Value(taint=taint, name=name, exact=True)

    def _attribute(self, node: ast.Attribute) -> Value:
        path = dotted(node)
        if path and path in self.state.values:
            return self.state.values[path]
        base = self.value(node.value)
        name = f"{base.name}.{node.attr}"
        if not base.taint:
            known = self._named(name, node)
            return replace(known, local=known.local | base.local, args=(base,))
        taint = base.taint
        if node.attr in ("hostname", "netloc") and self.policy.parts_are_sources:
            left = taint - self.state.cleared
            taint = frozenset((f"{source}.{node.attr}", label) for source, label in left)
            return Value(taint=taint, name=name, exact=True, args=(base,))
        return Value(taint=taint, name=name, local=base.local, args=(base,))

    def _subscript(self, node: ast.Subscript) -> Value:
        base = self.value(node.value)
        path = dotted(node)
        if path and path in self.state.values:
            return self.state.values[path]
        if isinstance(node.slice, ast.Slice):
            for part in (node.slice.lower, node.slice.upper, node.slice.step):
                self.value(part)
            return Value(taint=base.taint, name=f"{base.name}[:]", local=base.local, args=(base,))
        key = self.value(node.slice)
        if self._is_request(base):
            return self.source(f"{_family(base.name)}[{key.const}]")
        return element(base, key.const)

    @staticmethod
    def _is_request(base: Value) -> bool:
        return bool(base.taint) and outside(_family(base.name))

    def _joinedstr(self, node: ast.JoinedStr) -> Value:
        return self.policy.joined(self, concatenated(self.value(part) for part in node.values))  # type: ignore[arg-type]

    def _formattedvalue(self, node: ast.FormattedValue) -> Value:
        found = self.value(node.value)
        self.value(node.format_spec)
        return constant(str(found.const)) if found.is_literal and not node.format_spec else found

    def _binop(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(left.const, int) and isinstance(right.const, int):
            return constant(_computed(node.op, left.const, right.const))
        if isinstance(node.op, ast.Mod):
            return self._formatted(left, [right])
        if isinstance(node.op, ast.Add):
            if left.items is not None and right.items is not None:
                return Value(items=(*left.items, *right.items))
            return self.policy.joined(self, concatenated([left, right]))  # type: ignore[arg-type]
        if isinstance(node.op, ast.Div):  # pathlib
            return Value(
                taint=left.taint | right.taint, name="pathlib.Path.joinpath()", args=(left, right)
            )
        kind = type(node.op).__name__
        return Value(taint=left.taint | right.taint, name=kind, args=(left, right))

    def _formatted(self, form: Value, given: list[Value]) -> Value:
        """`form % given` and `form.format(given)`: as the pieces that it is made of."""
        flat: list[Value] = []
        for value in given:
            flat += value.items or (value.fields or {}).values() or (value,)
        if not isinstance(form.const, str):
            return self.policy.joined(self, concatenated([form, *flat]))  # type: ignore[arg-type]
        if all(value.is_literal for value in flat):
            return replace(constant(_filled(form.const, [value.const for value in flat])))
        head = form.const.partition("%")[0].partition("{")[0]
        whole = concatenated([constant(head), *flat])
        pieces = (constant(form.const), *flat)
        return self.policy.joined(self, replace(whole, const=UNKNOWN, args=pieces))  # type: ignore[arg-type]

    def _list(self, node: ast.List | ast.Tuple | ast.Set) -> Value:
        if any(isinstance(one, ast.Starred) for one in node.elts):
            plain = [one.value if isinstance(one, ast.Starred) else one for one in node.elts]
            inner = [self.value(one) for one in plain]
            return joined([Value(taint=one.taint | self.deep(one).taint) for one in inner])
        return Value(items=tuple(self.value(one) for one in node.elts))

    _tuple = _set = _list

    def _dict(self, node: ast.Dict) -> Value:
        fields: dict[Any, Value] = {}
        for key, one in zip(node.keys, node.values, strict=True):
            found = self.value(one)
            if key is None:
                fields.update(found.fields or {})
                continue
            name = self.value(key).const
            fields[name if isinstance(name, str | int | bytes) else (len(fields),)] = found
        return Value(fields=fields)

    def _ifexp(self, node: ast.IfExp) -> Value:
        self.value(node.test)
        kept = self.state
        found = []
        for branch, truth in ((node.body, True), (node.orelse, False)):
            self.state = kept.copy()
            self.state.cleared |= self.guarded(node.test, truth)
            one = self.value(branch)
            found.append(replace(one, taint=one.taint - (self.state.cleared - kept.cleared)))
        self.state = kept
        return joined(found)

    def _boolop(self, node: ast.BoolOp) -> Value:
        found = [self.value(one) for one in node.values]
        return replace(joined(found), test=node)

    def _unaryop(self, node: ast.UnaryOp) -> Value:
        found = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            return Value(test=node)
        if isinstance(found.const, int):
            return constant(-found.const if isinstance(node.op, ast.USub) else ~found.const)
        return Value(taint=found.taint)

    def _compare(self, node: ast.Compare) -> Value:
        left = self.value(node.left)
        for op, one in zip(node.ops, node.comparators, strict=True):
            right = self.value(one)
            self.policy.compared(self, op, left, right, node)  # type: ignore[arg-type]
            left = right
        return Value(test=node)

    def _namedexpr(self, node: ast.NamedExpr) -> Value:
        found = self.value(node.value)
        self.state.values[node.target.id] = replace(found, test=found.test or node.value)
        return found

    def _lambda(self, node: ast.Lambda) -> Value:
        return Value(function=node)

    def _await(self, node: ast.Await | ast.YieldFrom) -> Value:
        return self.value(node.value)

    _yieldfrom = _await

    def _yield(self, node: ast.Yield) -> Value:
        self.yielded(node, self.value(node.value))
        return NOTHING

    def _generatorexp(
        self, node: ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp
    ) -> Value:
        kept = self.state
        self.state = kept.copy()
        for part in node.generators:
            self.bind(part.target, self.each(self.value(part.iter)))
            for test in part.ifs:
                self.value(test)
                self.state.cleared |= self.guarded(test, True)
        inner = [node.value] if isinstance(node, ast.DictComp) else [node.elt]
        found = joined([self.value(one) for one in inner])
        found = replace(found, taint=found.taint - (self.state.cleared - kept.cleared))
        self.state = kept
        return Value(taint=self.deep(found).taint, test=node, local=found.local, name="[*]")

    _listcomp = _setcomp = _dictcomp = _generatorexp

    def each(self, value: Value) -> Value:
        """What iterating over `value` gives."""
        if value.items is not None or value.fields is not None:
            return joined(
                value.items if value.items is not None else map(constant, value.fields or {})
            )
        kept = replace(value, items=None, const=UNKNOWN, name=f"{value.name}[*]")
        return replace(kept, args=(value,))

    # --- calls ---

    def _call(self, node: ast.Call) -> Value:
        base = NOTHING
        if isinstance(node.func, ast.Attribute):
            base = self.value(node.func.value)
            function = self._attribute(node.func)
            name = f"{base.name}.{node.func.attr}"
            method = self.functions.get(node.func.attr)
            if method is not None and method.args.args[:1] and method.args.args[0].arg == "self":
                function = Value(function=method, name=name)
        else:
            function = self.value(node.func)
            name = function.name
        args, named = self._given(node)
        found = Value(name=f"{name}()", args=tuple(args), named=named, local=base.local)
        decided = self.policy.call(self, node, found, base)  # type: ignore[arg-type]
        if decided is not None:
            return decided if decided.test else replace(decided, test=node)
        if function.function is not None:
            return replace(self.called(function.function, args, named), test=node)
        return replace(self._result(node, found, base), test=node)

    def _given(self, node: ast.Call) -> tuple[list[Value], dict[str, Value]]:
        args: list[Value] = []
        for one in node.args:
            if isinstance(one, ast.Starred):
                inner = self.value(one.value)
                args += inner.items if inner.items is not None else [element(inner)]
            else:
                args.append(self.value(one))
        named: dict[str, Value] = {}
        for keyword in node.keywords:
            found = self.value(keyword.value)
            if keyword.arg is not None:
                named[keyword.arg] = found
            else:
                named |= {str(key): one for key, one in (found.fields or {}).items()}
        return args, named

    def _result(self, node: ast.Call, found: Value, base: Value) -> Value:
        """What a function gives that is not in the program."""
        name, args = found.name, found.args
        last = name.removesuffix("()").rpartition(".")[2]
        given = [*args, *found.named.values()]
        if outside(name.removesuffix("()")):
            return self.source(name)
        if self._is_request(base) and last in ("get", "getlist", "pop"):
            key = args[0].const if args else ""
            return self.source(f"{_family(base.name)}[{key}]")
        if name == "int()" and args and args[0].is_literal:
            return constant(_integer(*(one.const for one in args)))
        if last in _CLEAN or last in _TRUTHS:
            return replace(found, taint=frozenset())
        if last in _EXACT and base.exact:
            return replace(base, items=None)
        if last == "format" and isinstance(node.func, ast.Attribute):
            return self._formatted(base, given)
        if last == "join" and args and isinstance(node.func, ast.Attribute) and _is_text(base):
            parts = args[0].items
            pieces = parts if parts is not None else (self.deep(args[0]),)
            return self.policy.joined(self, concatenated(pieces))  # type: ignore[arg-type]
        if last == "get" and base.fields is not None and args:
            return element(base, args[0].const) if args[0].is_literal else element(base)
        if last in ("append", "add", "insert", "extend", "update", "write") and args:
            self._added(node, base, given)
            return NOTHING
        if last == "str" and len(args) == 1:
            return args[0] if args[0].exact or args[0].is_literal else replace(args[0], items=None)
        if last in ("list", "tuple", "sorted") and args and args[0].items is not None:
            return args[0]
        taint = base.taint
        if last in _PASS_ON:
            taint = frozenset().union(taint, *(self.deep(one).taint for one in given))
        prefix = base.prefix if last in ("encode", "strip", "rstrip", "lower") else ""
        return replace(found, taint=taint, prefix=prefix)

    def _added(self, node: ast.Call, base: Value, given: list[Value]) -> None:
        """`parts.append(x)`: the list holds `x` too."""
        given = [replace(one, taint=one.taint - self.state.cleared) for one in given]
        target = node.func.value if isinstance(node.func, ast.Attribute) else None
        path = dotted(target) if target is not None else ""
        if path and path in self.state.values:
            taint = frozenset().union(base.taint, *(self.deep(one).taint for one in given))
            is_append = isinstance(node.func, ast.Attribute) and node.func.attr == "append"
            items = (*base.items, given[0]) if is_append and base.items is not None else None
            self.state.values[path] = replace(
                base, taint=base.taint if items else taint, items=items, const=UNKNOWN
            )

    # --- what heirs add ---

    def yielded(self, node: ast.Yield, value: Value) -> None:
        """Note what a generator gives."""
        raise NotImplementedError

    def bind(self, target: ast.expr, value: Value) -> None:
        """Give `target` a value."""
        raise NotImplementedError

    def called(
        self, function: Function | ast.Lambda, args: list[Value], named: dict[str, Value]
    ) -> Value:
        """What a function of the program gives."""
        raise NotImplementedError

    def guarded(self, test: ast.expr, truth: bool) -> frozenset[Mark]:
        """Marks that are harmless where `test` is `truth`."""
        raise NotImplementedError


def dotted(node: ast.AST) -> str:
    """`a.b['c']` as a path to look values up by; empty if it is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        inner = dotted(node.value)
        return f"{inner}[{node.slice.value!r}]" if inner else ""
    return ""


def _family(name: str) -> str:
    return name.removesuffix("()").removesuffix(".get")


def _is_text(value: Value) -> bool:
    return isinstance(value.const, str | bytes)


def _computed(op: ast.operator, left: int, right: int) -> Any:
    function = _ARITHMETIC.get(type(op))
    return UNKNOWN if function is None else function(left, right)


def _integer(text: Any, base: Any = 10) -> Any:
    try:
        return int(text, base) if isinstance(text, str) else int(text)
    except (ValueError, TypeError, OverflowError):
        return UNKNOWN


def _filled(form: str, given: list[Any]) -> Any:
    """`form` with constants in it; the formats of C and of `str.format`, as far as that works."""
    if any(isinstance(one, str) and len(one) > 1000 for one in given) or len(form) > 10_000:
        return UNKNOWN
    plain = form.replace("%s", "\0").replace("%d", "\0").replace("{}", "\0")
    if plain.count("\0") != len(given) or "%" in plain or "{" in plain:
        return UNKNOWN
    pieces = plain.split("\0")
    return "".join(a + str(b) for a, b in zip(pieces, [*given, ""], strict=True))
