"""Go: `go test` for each program, ours, and the floor below both.

go test         the command of the BigCode metric, with the packages of earlier runs in its cache
ours            the sandbox, compiler and linker called directly; passes are not checked twice
ours, control   the same, and each pass must fail tests that nothing can pass
floor           our commands without any sandbox
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from typing import Any

from _commands import floor, plain
from _measuring import Judge, ours, references, take_turns, without_long

from astraios.languages.go import language

TEST = ("go", "test", "-timeout=20s", "main_test.go")
BY_LUCK = "func CheckDictCase("
"""The right solution of Go/95 needs one order of a map: `go test` fails it one time in five."""


def measure(n: int) -> list[dict[str, Any]]:
    """A row for each way of judging `n` programs: right and wrong reference solutions."""
    programs = [one for one in references("go", n) if BY_LUCK not in one.code]
    programs = without_long(programs)
    with ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        environment = {
            **os.environ, "GOCACHE": cache, "GOPATH": "/usr/share/gocode", "GO111MODULE": "off",
        }  # fmt: skip
        arms: dict[str, Judge] = {
            "go test": plain("main_test.go", (TEST,), environment),
            "ours": stack.enter_context(ours(control=False)),
            "ours, control": stack.enter_context(ours(control=True)),
            "floor": stack.enter_context(floor(language)),
        }
        return take_turns(arms, programs)
