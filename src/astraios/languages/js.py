"""JavaScript, as the BigCode harness cuts and runs it for HumanEvalPack."""

from __future__ import annotations

from astraios.languages import Surroundings
from astraios.languages._braces import BraceLanguage
from astraios.languages._tools import tool_version
from astraios.sandbox import Limits

__all__ = ["JavaScript", "language"]

_NOTHING = Surroundings()


class JavaScript(BraceLanguage):
    """Arrow functions run by Node.js; a program that prints anything does not pass."""

    name = "js"
    title = "JavaScript"
    tests_are_statements = True
    # 10 s as in the harness, of CPU instead of wall time.
    limits = Limits(cpu_s=10.0, wall_s=60.0, memory_mib=2048, output_kib=16384, n_tasks=64)

    def candidate(self, code: str, around: Surroundings = _NOTHING) -> str:
        return code

    def toolchain(self) -> dict[str, str]:
        return {"node": tool_version(self.title, "nodejs", "node", "--version")}


language = JavaScript()
