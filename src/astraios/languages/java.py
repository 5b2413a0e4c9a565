"""Java, as the BigCode harness cuts and assembles it for HumanEvalPack."""

from __future__ import annotations

from functools import cached_property

from astraios.languages import Surroundings, _java_harness, _java_tools
from astraios.languages._braces import BraceLanguage, up_to_last_brace
from astraios.languages._tools import tool_version
from astraios.records import Execution
from astraios.sandbox import Harness, Limits, Recipe

__all__ = ["Java", "language"]

_PACKAGE = "default-jdk-headless"
_MAIN = "public static void main"
_EMPTY_MAIN = "public class Main {\n    }"

_NOTHING = Surroundings()


class Java(BraceLanguage):
    """Methods in a class `Solution`; the tests are the class `Main`."""

    name = "java"
    title = "Java"
    n_open = 2
    # 10 s as in the harness, of CPU instead of wall time. The JVM starts some twenty threads.
    limits = Limits(cpu_s=10.0, wall_s=60.0, memory_mib=2048, output_kib=16384, n_tasks=64)

    def unclosed(self, text: str) -> str:
        head, main, _ = text.partition(_MAIN)
        kept = up_to_last_brace(head + "}" if main else text)
        lacks_one = kept.count("{") == kept.count("}") + 1
        return kept + "\n}" if lacks_one else kept

    def candidate(self, code: str, around: Surroundings = _NOTHING) -> str:
        return code.replace(_EMPTY_MAIN, "").strip()

    def toolchain(self) -> dict[str, str]:
        return {
            "javac": tool_version(self.title, _PACKAGE, "javac", "-version"),
            "java": tool_version(self.title, _PACKAGE, "java", "--version"),
        }

    @cached_property
    def _recipe(self) -> Recipe:
        return _java_tools.recipe(self.toolchain())

    def recipe(self) -> Recipe:
        return self._recipe

    def harness(self, tests: str) -> Harness:
        return _java_harness.harness(tests)

    def explain(self, execution: Execution) -> Execution:
        return _java_harness.explain(execution)


language = Java()
