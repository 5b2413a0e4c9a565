"""Go, as the BigCode harness cuts and assembles it for HumanEvalPack, and with its faults mended.

A program is one test file: package clause and imports of the problem's `test_setup`, imports that
the candidate needs, candidate, tests. Prompts of some tasks do not show the imports, so packages of
a fixed list are imported where they are used. Go refuses a package that is imported and not used.

Mended, unless assembled as published:

    `math/rand` and `crypto/md5` were added by their last element, which does not compile
    a package named in a string, or in a comment that does not begin its line, counted as used
    imports that nothing uses stayed, which fails the right solution of Go/27
    the stop word `struct` cut `map[int]struct{}`, as in the right solution of Go/90, and
      `construct` in a comment; now a type declared behind the function ends it

The harness took imports that it found in one sample out of the setup of all later samples of that
problem, and added missing ones in no fixed order. Neither can be had again: here every candidate is
assembled alone, in the order of the list.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Self

from astraios.languages import Surroundings
from astraios.languages._braces import BraceLanguage
from astraios.languages._go_harness import harness
from astraios.languages._go_programs import explained, recipe
from astraios.languages._go_source import Import, split_imports, used_names
from astraios.languages._tools import missing, tool_version
from astraios.records import Execution
from astraios.sandbox import Harness, Limits, Recipe

__all__ = ["Go", "language"]

_PACKAGE = "golang"
_TESTIFY = "github.com/stretchr/testify"
_TESTIFY_PACKAGE = "golang-github-stretchr-testify-dev"
_SOURCES = Path("/usr/share/gocode/src")

_KNOWN = (
    "math", "strings", "fmt", "strconv", "time", "bytes", "regexp", "sort", "math/rand",
    "crypto/md5",
)  # fmt: skip
"""The import helper of the harness."""
_KNOWN_NAMES = tuple(path.rpartition("/")[2] for path in _KNOWN)
_FOR_TESTS = ("testing", f"{_TESTIFY}/assert")

_END_OF_TEXT = "<|endoftext|>"
_STOPS = ("\n//", "\nfunc main(", "\ntype ", "\nfunc", _END_OF_TEXT)
_PUBLISHED_STOPS = ("\n//", "\nfunc main(", "struct", "\nfunc", _END_OF_TEXT)

_NOTHING = Surroundings()


class Go(BraceLanguage):
    """Functions of package main, checked by `go test` with testify."""

    name = "go"
    title = "Go"
    # 20 s as in the harness, of CPU instead of wall time.
    limits = Limits(cpu_s=20.0, wall_s=120.0, memory_mib=2048, output_kib=16384, n_tasks=64)

    def __init__(self, stops: tuple[str, ...] = _STOPS) -> None:
        self.stops = stops

    def published(self) -> Self:
        return type(self)(_PUBLISHED_STOPS)

    def candidate(self, code: str, around: Surroundings = _NOTHING) -> str:
        return _as_published(code, around) if around.as_published else _clean(code, around)

    def toolchain(self) -> dict[str, str]:
        versions = {"go": tool_version(self.title, _PACKAGE, "go", "version")}
        if not (_SOURCES / _TESTIFY / "assert").is_dir():
            raise missing(self.title, f"the package {_TESTIFY}", _TESTIFY_PACKAGE)
        return versions

    @functools.cached_property
    def _recipe(self) -> Recipe:
        return recipe(self.toolchain(), _SOURCES.parent)

    def recipe(self) -> Recipe:
        return self._recipe

    def harness(self, tests: str) -> Harness:
        return harness(tests)

    def explain(self, execution: Execution) -> Execution:
        return explained(execution)


def _clean(code: str, around: Surroundings) -> str:
    """One import block with what candidate and tests use, and nothing else."""
    of_setup, setup = split_imports(around.test_setup)
    of_code, body = split_imports(code)
    used = used_names(f"{setup}\n{body}\n{around.tests}")
    wanted = [
        found
        for found in dict.fromkeys((*of_setup, *of_code))
        if found.name in used or found.alias in ("_", ".")
    ]
    named = {found.name for found in wanted}
    for path in (*_KNOWN, *_FOR_TESTS):
        known = Import(path)
        if known.name in used and known.name not in named:
            wanted.append(known)
    lines = "".join(f"    {found}\n" for found in wanted)
    block = f"import (\n{lines})\n" if wanted else ""
    return f"package main\n\n{block}{setup.lstrip()}{body}"


def _as_published(code: str, around: Surroundings) -> str:
    setup = around.test_setup + "\n"
    for line in setup.split("\n"):
        imported = line.replace("import", "").replace("(", "").replace(")", "").strip()
        if imported.startswith('"') and imported in code:
            setup = setup.replace(imported, "")
    program = f"{setup}{code}\n{around.tests}"
    lines = [line for line in program.split("\n") if not line.strip().startswith("//")]
    added = "".join(
        f'    "{name}"\n'
        for path, name in zip(_KNOWN, _KNOWN_NAMES, strict=True)
        if f'"{path}"' not in program and any(f"{name}." in line for line in lines)
    )
    block = f"import (\n{added})\n" if added else ""
    if "package main" in setup:
        code = code.replace("package main", "")
    return setup + block + code


language = Go()
