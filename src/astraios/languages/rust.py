"""Rust, as the BigCode harness cuts and assembles it for HumanEvalPack."""

from __future__ import annotations

from functools import cached_property

from astraios.languages import Surroundings, _rust_harness, _rust_programs
from astraios.languages._braces import BraceLanguage
from astraios.languages._rust_programs import REGISTRY
from astraios.languages._tools import missing, tool_version
from astraios.records import Execution
from astraios.sandbox import Harness, Limits, Recipe

__all__ = ["Rust", "language"]

_MAIN = "fn main()"
_EMPTY_MAIN = "fn main(){}\n"
_CRATES = ("rand", "regex", "md5")
"""Every prompt imports them, so nothing compiles without."""

_NOTHING = Surroundings()


class Rust(BraceLanguage):
    """Tests are a module run by the test harness of the compiler, so `main` is empty."""

    name = "rust"
    title = "Rust"
    # The 300 s of the harness are for building crates and program together; a program that is
    # built needs as little as one of C++.
    limits = Limits(cpu_s=60.0, wall_s=240.0, memory_mib=2048, output_kib=16384, n_tasks=64)

    def candidate(self, code: str, around: Surroundings = _NOTHING) -> str:
        """`code` behind an empty `main` and those lines of the declaration that it lacks.

        It ends before a second `main`: models like to show how their function is called.
        """
        front = "" if _MAIN in code else _EMPTY_MAIN
        for line in around.declaration.split("\n"):
            if line.strip() not in code:
                front += line.strip() + "\n"
        return front + _MAIN.join(code.split(_MAIN, 2)[:2])

    def toolchain(self) -> dict[str, str]:
        versions = {
            "rustc": tool_version(self.title, "rustc", "rustc", "--version"),
            "cargo": tool_version(self.title, "cargo", "cargo", "--version"),
            "ld": tool_version(self.title, "binutils", "ld", "--version"),
        }
        for crate in _CRATES:
            found = sorted(folder.name for folder in REGISTRY.glob(f"{crate}-[0-9]*"))
            if not found:
                raise missing(self.title, f"the sources of crate {crate!r}", f"librust-{crate}-dev")
            versions[f"crate {crate}"] = found[-1].removeprefix(f"{crate}-")
        return versions

    def recipe(self) -> Recipe:
        return self._recipe

    @cached_property
    def _recipe(self) -> Recipe:
        return _rust_programs.recipe(self.toolchain())

    def harness(self, tests: str) -> Harness:
        return _rust_harness.harness(tests)

    def explain(self, execution: Execution) -> Execution:
        return _rust_programs.explained(execution)


language = Rust()
