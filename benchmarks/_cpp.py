"""C++: `g++` and the program it makes for each program, ours, and the floor below both.

g++ + a.out     the commands of the BigCode metric, with nothing around them
ours            the sandbox, with a precompiled header; passes are not checked twice
ours, control   the same, and each pass must fail tests that nothing can pass
floor           our commands without any sandbox
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from _commands import floor, plain
from _measuring import Judge, ours, references, take_turns, without_long

from astraios.languages.cpp import language

COMPILE = ("g++", "-std=c++11", "test.cpp", "-lcrypto", "-lssl")


def measure(n: int) -> list[dict[str, Any]]:
    """A row for each way of judging `n` programs: right and wrong reference solutions."""
    programs = without_long(references("cpp", n))
    with ExitStack() as stack:
        arms: dict[str, Judge] = {
            "g++ + a.out": plain("test.cpp", (COMPILE, ("./a.out",))),
            "ours": stack.enter_context(ours(control=False)),
            "ours, control": stack.enter_context(ours(control=True)),
            "floor": stack.enter_context(floor(language)),
        }
        return take_turns(arms, programs)
