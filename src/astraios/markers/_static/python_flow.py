"""Data flow through the statements of a Python program.

Every function that answers requests is followed with its parameters from outside, every other one
with unknown parameters, and each call of a function of the program is followed into it. Branches
are followed both and their states put together; what a test says holds in its branch, and after it
where the other branch returns or raises. A loop's body is followed twice. A check (`Policy`) says
what is a source's harm, what takes it away, and where it would be done.

What it does not see: attributes of objects other than by their written path, code that is built at
run time, decorators, threads, what a library calls back, and flow through files and data bases.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from astraios.markers._static.python_expressions import State, dotted
from astraios.markers._static.python_guards import NONE, Guards, loaded
from astraios.markers._static.python_names import (
    Function,
    functions,
    is_function,
    routed,
    typed_parameters,
)
from astraios.markers._static.python_policy import Policy
from astraios.markers._static.python_values import (
    NOTHING,
    UNKNOWN,
    Mark,
    Value,
    element,
    joined,
)
from astraios.records import Finding

_DEEPEST = 6
"""Calls of functions of the program into each other that are followed."""
_MOST = 2_000
"""Statements after which loops are followed once and calls not at all: long programs of many small
functions would take time that grows with every level."""
_LEAVE = frozenset({"flask.abort", "abort", "sys.exit", "exit", "quit", "os._exit", "os.abort"})


@dataclass
class _Return:
    node: ast.Return | ast.Lambda | ast.Yield
    value: Value
    state: State
    truth: dict[bool, frozenset[Mark]] = field(default_factory=dict)


@dataclass
class _Frame:
    """One function that is being followed."""

    answers: bool = False
    """Whether what it returns is the answer to a request."""
    returns: list[_Return] = field(default_factory=list)
    loops: list[tuple[list[State], list[State]]] = field(default_factory=list)
    """States at `continue` and at `break`, for each loop around."""


def analysed(code: str, policy: Policy, cwe: str) -> list[Finding]:
    """Flaws of a program in the order of lines."""
    flow = followed(code, policy, cwe)
    return [flow.found[key] for key in sorted(flow.found)]


def followed(code: str, policy: Policy, cwe: str) -> Flow:
    """A program that was followed to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes that Python does not know are no flaw of ours
        tree = ast.parse(code)
    flow = Flow(tree, policy, cwe)
    flow.run()
    return flow


class Flow(Guards):
    """Follows a program; see the module."""

    def __init__(self, tree: ast.Module, policy: Policy, cwe: str) -> None:
        super().__init__(tree, policy, cwe)
        self.frames = [_Frame()]
        self.stack: list[ast.AST] = []
        self.n_steps = 0

    def run(self) -> None:
        """Follow the whole program."""
        self.functions = functions(self.tree)
        self._block(self.tree.body)
        self.outer = self.state.values if self.state else {}
        answering = {id(one) for one in routed(self.tree)}
        for function in self.functions.values():
            self._entry(function, id(function) in answering)

    def _entry(self, function: Function, answers: bool) -> None:
        self.state = State()
        numbers = typed_parameters(function)
        for parameter in _parameters(function):
            if parameter == "request":
                value = Value(name="flask.request")
            elif answers and parameter not in numbers and parameter not in ("self", "cls"):
                value = self.source(f"route.{parameter}")
            else:
                value = Value(name=parameter)
            self.state.values[parameter] = value
        self.frames.append(_Frame(answers=answers))
        self.stack.append(function)
        self._block(function.body)
        self.stack.pop()
        self.frames.pop()

    # --- calls of functions of the program ---

    def called(
        self, function: Function | ast.Lambda, args: list[Value], named: dict[str, Value]
    ) -> Value:
        returns, _ = self._followed(function, args, named)
        found = joined([one.value for one in returns])
        harmless = NONE
        if returns:
            harmless = returns[0].state.cleared.intersection(*(r.state.cleared for r in returns))
        self.state.cleared |= harmless
        return found

    def _followed(
        self, function: Function | ast.Lambda, args: list[Value], named: dict[str, Value]
    ) -> tuple[list[_Return], State | None]:
        """The returns of a call; the caller's state is left as it is."""
        if function in self.stack or len(self.stack) >= _DEEPEST or self.n_steps > _MOST:
            return [], None
        kept, self.state = self.state, State(cleared=self.state.cleared)
        self._bind_parameters(function, args, named, kept)
        self.frames.append(_Frame())
        self.stack.append(function)
        if isinstance(function, ast.Lambda):
            value = self.value(function.body)
            self.frames[-1].returns.append(_Return(function, value, self.state.copy()))
        elif self._block(function.body):
            end = ast.copy_location(ast.Return(value=None), function)
            self.frames[-1].returns.append(_Return(end, Value(const=None), self.state.copy()))
        for one in self.frames[-1].returns:
            one.value = replace(one.value, taint=one.value.taint - one.state.cleared)
            one.truth = {truth: self._when(one, truth) for truth in (True, False)}
        self.stack.pop()
        returns = self.frames.pop().returns
        self.state = kept
        return returns, kept

    def _bind_parameters(
        self,
        function: Function | ast.Lambda,
        args: list[Value],
        named: dict[str, Value],
        caller: State,
    ) -> None:
        names = _parameters(function)
        if names and names[0] in ("self", "cls"):
            names = names[1:]
        defaults = function.args.defaults
        for name, default in zip(names[len(names) - len(defaults) :], defaults, strict=False):
            self.state.values[name] = self.value(default)
        self.state.values.update(zip(names, args, strict=False))
        self.state.values.update({name: one for name, one in named.items() if name in names})
        if isinstance(function, ast.Lambda):
            self.state.values = {**caller.values, **self.state.values}
        if function.args.vararg is not None:
            rest = tuple(args[len(names) :])
            self.state.values[function.args.vararg.arg] = Value(items=rest)

    def _when(self, one: _Return, truth: bool) -> frozenset[Mark]:
        """What is cleared if this return's value is `truth`; all marks if it cannot be."""
        kept, self.state = self.state, one.state.copy()
        node = one.node.body if isinstance(one.node, ast.Lambda) else one.node.value
        found = one.state.cleared
        if node is not None:
            found |= self.guarded(node, truth)
        self.state = kept
        return found

    def _own_test(
        self,
        function: Function | ast.Lambda,
        args: list[Value],
        named: dict[str, Value],
        truth: bool,
    ) -> frozenset[Mark]:
        kept = dict(self.found)
        returns, _ = self._followed(function, args, named)
        self.found = kept
        possible = [one.truth[truth] for one in returns if not _is_other(one.value, truth)]
        return possible[0].intersection(*possible) if possible else NONE

    def yielded(self, node: ast.Yield, value: Value) -> None:
        self.frames[-1].returns.append(_Return(node, value, self.state.copy()))

    # --- statements ---

    def _block(self, body: Iterable[ast.stmt]) -> bool:
        """Follow statements; whether control comes out at their end."""
        return all(self._statement(node) for node in body)

    def _statement(self, node: ast.stmt) -> bool:
        self.n_steps += 1
        method = getattr(self, f"_do_{type(node).__name__.lower()}", None)
        if method is not None:
            return bool(method(node))
        for one in ast.iter_child_nodes(node):
            if isinstance(one, ast.expr):
                self.value(one)
        return True

    def _do_expr(self, node: ast.Expr) -> bool:
        found = self.value(node.value)
        if isinstance(node.value, ast.Call):
            called = found.name or self._called_name(node.value)
            if called.removesuffix("()") in _LEAVE:
                return False
        return True

    def _called_name(self, call: ast.Call) -> str:
        return self.value(call.func).name if isinstance(call.func, ast.Name) else ""

    def _do_assign(self, node: ast.Assign) -> bool:
        value = self._tested(node.value)
        for target in node.targets:
            self.bind(target, value)
        return True

    def _do_annassign(self, node: ast.AnnAssign) -> bool:
        if node.value is not None:
            self.bind(node.target, self._tested(node.value))
        return True

    def _tested(self, node: ast.expr) -> Value:
        value = self.value(node)
        is_test = isinstance(node, ast.Compare | ast.BoolOp | ast.Call | ast.UnaryOp)
        return replace(value, test=node) if is_test and value.test is None else value

    def _do_augassign(self, node: ast.AugAssign) -> bool:
        whole = ast.BinOp(left=loaded(node.target), op=node.op, right=node.value)
        self.bind(node.target, self.value(ast.copy_location(whole, node)))
        return True

    def bind(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Starred):
            target, value = target.value, Value(taint=value.taint)
        if isinstance(target, ast.Name):
            self._forget(target.id)
            self.state.values[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            for at, part in enumerate(target.elts):
                self.bind(part, self._unpacked(value, at))
        else:
            path = dotted(target)
            if path:
                self.state.values[path] = value
            self._store(target, path, value)

    def _unpacked(self, value: Value, at: int) -> Value:
        one = element(value, at)
        return one if value.items is not None else replace(one, name=f"{value.name}[{at}]")

    def _store(self, target: ast.expr, path: str, value: Value) -> None:
        if not isinstance(target, ast.Attribute | ast.Subscript):
            return
        self.policy.stored(self, path, value, target)
        holder = dotted(target.value)
        if isinstance(target, ast.Subscript) and holder in self.state.values:
            held = self.state.values[holder]
            key = self.value(target.slice).const
            fields = held.fields
            if fields is not None and isinstance(key, str | int):
                fields = {**fields, key: value}
            taint = held.taint | self.deep(value).taint if fields is None else held.taint
            self.state.values[holder] = replace(held, fields=fields, taint=taint)

    def _forget(self, name: str) -> None:
        """Paths below a name that is given another value."""
        for path in [one for one in self.state.values if one.startswith((f"{name}.", f"{name}["))]:
            del self.state.values[path]

    def _do_functiondef(self, node: Function) -> bool:
        for decorator in node.decorator_list:
            self.value(decorator)
        return True

    _do_asyncfunctiondef = _do_functiondef

    def _do_classdef(self, node: ast.ClassDef) -> bool:
        self._block(one for one in node.body if not is_function(one))
        return True

    def _do_return(self, node: ast.Return) -> bool:
        frame = self.frames[-1]
        value = self.value(node.value)
        frame.returns.append(_Return(node, value, self.state.copy()))
        if frame.answers and node.value is not None:
            self.policy.returned(self, node, value)
        return False

    def _do_raise(self, node: ast.Raise) -> bool:
        self.value(node.exc)
        return False

    def _do_assert(self, node: ast.Assert) -> bool:
        self.value(node.test)
        self.state.cleared |= self.guarded(node.test, True)
        return True

    def _do_continue(self, node: ast.Continue) -> bool:
        return self._leave_loop(0)

    def _do_break(self, node: ast.Break) -> bool:
        return self._leave_loop(1)

    def _leave_loop(self, how: int) -> bool:
        if self.frames[-1].loops:
            self.frames[-1].loops[-1][how].append(self.state.copy())
        return False

    def _do_if(self, node: ast.If) -> bool:
        self.value(node.test)
        before = self.state
        ends: list[State] = []
        for body, truth in ((node.body, True), (node.orelse, False)):
            self.state = before.copy()
            self.state.cleared |= self.guarded(node.test, truth)
            if self._block(body):
                ends.append(self.state)
        return self._meet(ends, before)

    def _meet(self, ends: list[State], before: State) -> bool:
        """Go on with what holds at all of `ends`."""
        if not ends:
            self.state = before
            return False
        self.state = merged(ends)
        return True

    def _do_match(self, node: ast.Match) -> bool:
        self.value(node.subject)
        before, ends = self.state, [self.state.copy()]
        for case in node.cases:
            self.state = before.copy()
            if self._block(case.body):
                ends.append(self.state)
        return self._meet(ends, before)

    def _do_while(self, node: ast.While) -> bool:
        self.value(node.test)
        return self._loop(node, None)

    def _do_for(self, node: ast.For | ast.AsyncFor) -> bool:
        return self._loop(node, self.value(node.iter))

    _do_asyncfor = _do_for

    def _loop(self, node: ast.While | ast.For | ast.AsyncFor, over: Value | None) -> bool:
        ends = [self.state.copy()]
        left: list[State] = []
        rounds: list[State] = []
        for _ in range(2 if self.n_steps <= _MOST else 1):
            start = merged(ends)
            self.state = start
            if isinstance(node, ast.While):
                self.state.cleared |= self.guarded(node.test, True)
            elif over is not None:
                self.bind(node.target, self.each(over))
            again: tuple[list[State], list[State]] = ([], [])
            self.frames[-1].loops.append(again)
            through = self._block(node.body)
            self.frames[-1].loops.pop()
            rounds = [*([self.state] if through else []), *again[0]]
            left += again[1]
            ends += rounds
        after = merged(ends)
        if rounds and over is not None and over.taint:
            # What was asked of each element holds of all that were there.
            after.cleared |= merged(rounds).cleared
        if isinstance(node, ast.While):
            self.state = after
            after.cleared |= self.guarded(node.test, False)
        self.state = after
        if isinstance(node, ast.While) and self.value(node.test).const is True:
            return self._meet(left, after)
        goes_on = self._block(node.orelse) if node.orelse else True
        return self._meet([*([self.state] if goes_on else []), *left], after)

    def _do_with(self, node: ast.With | ast.AsyncWith) -> bool:
        for item in node.items:
            value = self.value(item.context_expr)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value)
        return self._block(node.body)

    _do_asyncwith = _do_with

    def _do_try(self, node: ast.Try) -> bool:
        before = self.state.copy()
        states = [before]
        through = True
        for statement in node.body:
            through = self._statement(statement)
            if not through:
                break
            states.append(self.state.copy())
        ends = []
        if through and self._block(node.orelse):
            ends.append(self.state)
        for handler in node.handlers:
            self.state = merged(states)
            if handler.name:
                self.state.values[handler.name] = Value(name="exception")
            if self._block(handler.body):
                ends.append(self.state)
        goes_on = self._meet(ends, merged(states))
        return self._block(node.finalbody) and goes_on

    _do_trystar = _do_try

    def _do_delete(self, node: ast.Delete) -> bool:
        for target in node.targets:
            self.state.values.pop(dotted(target), None)
        return True


def merged(states: list[State]) -> State:
    """What holds whichever of `states` was reached."""
    if len(states) == 1:
        return states[0].copy()
    cleared = states[0].cleared.intersection(*(one.cleared for one in states))
    settled = [
        State(one.values, one.cleared - cleared).settled() if one.cleared != cleared else one.values
        for one in states
    ]
    names = dict.fromkeys(name for values in settled for name in values)
    found = {name: joined([values[name] for values in settled if name in values]) for name in names}
    return State(found, cleared)


def _parameters(function: Function | ast.Lambda) -> list[str]:
    given = function.args
    return [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def _is_other(value: Value, truth: bool) -> bool:
    """Whether a value that is known has the other truth."""
    if value.const is UNKNOWN:
        return False
    return bool(value.const) != truth


__all__ = ["NOTHING", "Flow", "analysed"]
