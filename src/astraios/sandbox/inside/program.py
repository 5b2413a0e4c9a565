"""Candidate and tests as one Python program, and the driver that runs it.

The original executes one text, candidate + newline + tests. Compiling the tests once for many
candidates gives the same program, except in the cases that `_compiled` names; those are compiled
as one text.

A pass is reported by one expression whose first part is a token that the server made after the
fork. It lies on the interpreter's value stack while the program runs: in no variable, no constant
and no object that `gc` lists. A failure is reported without it.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import os
import struct
import sys
from dataclasses import dataclass
from types import CodeType
from typing import Any

from . import control as negative
from . import original
from .confine import Child

TOKEN_BYTES = 16
NO_TOKEN = bytes(TOKEN_BYTES)
HEAD = struct.Struct("!BHH")
"""What follows the token: kind, bytes of the message, bytes of the error line."""

PASSED, FAILED, COMPILE_ERROR, OUT_OF_MEMORY, FLOODED, TAMPERED, UNCONFINED = range(7)

LONGEST_MESSAGE = 200
"""Characters of a message that are kept."""

_FILE = "<string>"
# The program's module frame lies as deep in the stack as in the original (a thread of a pool that
# starts a `multiprocessing.Process`), so recursion ends at the same depth.
_EXTRA_FRAMES = 10

_FUTURE = 0
for _feature in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _feature).compiler_flag


Watched = list[tuple[dict[str, Any], str, Any]]
"""Namespace, name and value of functions that the tests rely on."""


class DoesNotCompileError(Exception):
    """Carries what `compile` raised."""


class Preamble:
    """What all candidates begin with, such as imports: executed once, in the server."""

    def __init__(self, text: str, needed: str) -> None:
        """
        Args:
            text: what they begin with.
            needed: as much of it as they need.
        """
        self.given = [text, needed]
        self.text = text
        self.names: dict[str, Any] = {}
        # Cut off, its lines stay, so that errors name the same lines; the statement keeps a text
        # that comes next from being the program's documentation.
        self.instead = "pass" + "\n" * (text.count("\n") + 1)
        try:
            exec(compile(needed, _FILE, "exec", dont_inherit=True), self.names)  # noqa: S102
        except Exception:  # each program will say so
            self.text = ""

    def shorten(self, candidate: str) -> str | None:
        """`candidate` without it; None if it does not begin with it, or could tell."""
        if not self.text or not candidate.startswith(self.text + "\n"):
            return None
        if "__future__" in candidate:
            return None
        return self.instead + candidate[len(self.text) + 1 :]


class Tests:
    """Trusted tests, compiled once for all candidates of a batch."""

    def __init__(self, text: str) -> None:
        """Compile `text`.

        Raises:
            SyntaxError: if the tests are wrong by themselves.
        """
        self.text = text
        self.tree = ast.parse(text, _FILE)
        self.code = _compile_apart(self.tree)
        self.modules = tuple(_imported(self.tree))
        # Constants are shared inside one compilation, so `is` may differ between two.
        self.by_identity = any(
            isinstance(node, ast.Compare) and _compares_identity(node)
            for node in ast.walk(self.tree)
        )
        self.watched: Watched = []
        self._control: tuple[ast.Module, CodeType] | None = None

    def watch(self) -> None:
        """Note the functions of the built-ins and of the modules that the tests import."""
        modules = (builtins, *(sys.modules.get(name) for name in self.modules))
        self.watched = [
            (vars(module), name, value)
            for module in modules
            if module is not None
            for name, value in vars(module).items()
            if callable(value)
        ]

    def control(self) -> tuple[ast.Module, CodeType]:
        """The same tests with impossible expectations."""
        if self._control is None:
            tree = negative.impossible(self.tree)
            self._control = (tree, _compile_apart(tree))
        return self._control


@dataclass(frozen=True)
class Task:
    """What a child process has to run."""

    candidate: str
    preamble: Preamble
    tests: Tests
    is_control: bool


def _compile_apart(tree: ast.Module) -> CodeType:
    body = list(tree.body)
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body.insert(0, ast.Pass())  # not the first statement of the program: no docstring
    whole = ast.fix_missing_locations(ast.Module(body, []))
    return compile(whole, _FILE, "exec", dont_inherit=True)


def _imported(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def _compares_identity(node: ast.Compare) -> bool:
    singletons = (None, True, False, ...)
    sides = [node.left, *node.comparators]
    plain = [isinstance(side, ast.Constant) and side.value in singletons for side in sides]
    return any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops) and not any(plain)


def refuse_tracing() -> None:
    """Forbid what lets a program choose which of the tests' statements run; for good.

    A trace function may move to another line, and a function may be given other code: with either,
    a program could answer the one case it knows and skip the rest, and no control would show it.
    """

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("sys.settrace", "sys.setprofile"):
            raise RuntimeError("tracing is not allowed")
        if event == "object.__setattr__" and arguments[1] == "__code__":
            raise RuntimeError("changing the code of a function is not allowed")

    sys.addaudithook(refuse)


# --- in the child ------------------------------------------------------------------------------


def confine_or_end(child: Child, channel: int, folder: str) -> None:
    """Give up everything; if that fails, say so (with the token: it is no verdict) and end."""
    try:
        child.confine(channel, folder)
    except BaseException as error:
        os.write(channel, os.read(channel, TOKEN_BYTES) + _report(UNCONFINED, str(error)))
        os._exit(1)


def drive(held: list[Task], streams: original.Streams, channel: int) -> None:
    """Run the one task in `held`, report on descriptor `channel`, and end the process.

    The list is emptied on the way, so that no frame holds the task while the program runs.
    """
    original.hide_resource()
    original.swap_streams(streams)
    del streams
    try:
        os.write(channel, os.read(channel, TOKEN_BYTES) + _run_deep(_EXTRA_FRAMES, held))
    except BaseException as error:
        os.write(channel, NO_TOKEN + _failure(error))
    finally:
        os._exit(0)


def _run_deep(n_frames: int, held: list[Task]) -> bytes:
    return _run_deep(n_frames - 1, held) if n_frames else _run(held)


def _run(held: list[Task]) -> bytes:
    codes, names, watched = _compiled(held.pop())
    while codes:
        exec(codes.pop(), names)  # noqa: S102
    same = all(space.get(name) is value for space, name, value in watched)
    return _report(PASSED if same else TAMPERED)


def _compiled(task: Task) -> tuple[list[CodeType], dict[str, Any], Watched]:
    """Code to execute, last first, where to, and what must be the same at the end."""
    tests = task.tests
    tree, code = tests.control() if task.is_control else (tests.tree, tests.code)
    codes: list[CodeType] | None = None
    names: dict[str, Any] = {}
    if not tests.by_identity and "__builtins__" not in task.candidate:
        shorter = task.preamble.shorten(task.candidate)
        try:
            first = compile(shorter or task.candidate, _FILE, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            pass  # an open bracket, string or decorator may go on into the tests
        except BaseException as error:
            raise DoesNotCompileError(error) from None
        else:
            if not first.co_flags & _FUTURE:  # else it would hold for the tests too
                codes = [code, first]
                names = dict(task.preamble.names) if shorter else {}
    if codes is None:
        try:
            codes = [_one_text(task, tree)]
        except BaseException as error:
            raise DoesNotCompileError(error) from None
    return codes, names, tests.watched


def _one_text(task: Task, control_tree: ast.Module) -> CodeType:
    """The program compiled as the original does."""
    text = f"{task.candidate}\n{task.tests.text}"
    if not task.is_control:
        return compile(text, _FILE, "exec", dont_inherit=True)
    tree = ast.parse(text, _FILE)
    expected = task.tests.tree.body
    found = tree.body[len(tree.body) - len(expected) :]
    if [_dump(node) for node in found] != [_dump(node) for node in expected]:
        # Not the tests any more. Whatever they have become decided about the pass.
        return compile("", _FILE, "exec")
    ours = ast.parse(ast.unparse(control_tree)).body
    ahead = tree.body[: len(tree.body) - len(expected)]
    if found:  # a dangling decorator of the candidate sits on the first statement
        decorators = getattr(found[0], "decorator_list", [])
        first = next((node for node in ours if _name(node) == _name(found[0])), None)
        if first is not None and decorators:
            first.decorator_list = decorators  # type: ignore[attr-defined]
    whole = ast.fix_missing_locations(ast.Module([*ahead, *ours], []))
    return compile(whole, _FILE, "exec", dont_inherit=True)


def _name(node: ast.stmt) -> str | None:
    return getattr(node, "name", None)


def _dump(node: ast.stmt) -> str:
    decorators = getattr(node, "decorator_list", [])
    if decorators:
        node.decorator_list = []  # type: ignore[attr-defined]
    try:
        return ast.dump(node)
    finally:
        if decorators:
            node.decorator_list = decorators  # type: ignore[attr-defined]


def _failure(error: BaseException) -> bytes:
    kind = FAILED
    if isinstance(error, DoesNotCompileError):
        kind, error = COMPILE_ERROR, error.args[0]
    if isinstance(error, MemoryError):
        return _report(OUT_OF_MEMORY, "", "MemoryError")
    try:
        message, name = str(error), str(type(error).__name__)
    except BaseException:  # the program's own `__str__`
        message, name = "", "an exception without text"
    return _report(kind, message, f"{name}: {message}" if message else name)


def end_flooded(channel: int) -> None:
    """Report that the program printed too much, and end the process."""
    os.write(channel, NO_TOKEN + _report(FLOODED))
    os._exit(1)


def _report(kind: int, message: str = "", error: str = "") -> bytes:
    encoded = [
        text[:LONGEST_MESSAGE].encode("utf-8", "backslashreplace") for text in (message, error)
    ]
    return HEAD.pack(kind, *map(len, encoded)) + b"".join(encoded)
