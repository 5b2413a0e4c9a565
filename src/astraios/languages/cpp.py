"""C++, as the BigCode harness cuts, assembles and runs it for HumanEvalPack."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from astraios.languages import Surroundings, _cpp_harness, _cpp_tools
from astraios.languages._braces import BraceLanguage
from astraios.languages._tools import missing, tool_version
from astraios.records import Execution
from astraios.sandbox import Harness, Limits, Recipe

__all__ = ["Cpp", "language"]

_HEADERS = """
using namespace std;
#include<stdlib.h>
#include<algorithm>
#include<cmath>
#include<math.h>
#include<numeric>
#include<stdio.h>
#include<vector>
#include<set>
#include<map>
#include<queue>
#include<stack>
#include<list>
#include<deque>
#include<boost/any.hpp>
#include<string>
#include<climits>
#include<cstring>
#include<iostream>
#include<sstream>
#include<fstream>
""".strip()
"""The import helper of the harness."""

_MAIN = re.compile(r"\bint\s+main\s*\(")
_FOLDERS = (Path("/usr/include"), Path("/usr/local/include"))
_LIBRARIES = (("boost/any.hpp", "libboost-dev"), ("openssl/md5.h", "libssl-dev"))

_NOTHING = Surroundings()


class Cpp(BraceLanguage):
    """C++11; the tests bring `main`, so a candidate ends where one of its own begins.

    The harness ends it at the letters `int main`, which also begin `int main_diagonal = 0;`. Its
    rule holds for programs assembled as published.
    """

    name = "cpp"
    title = "C++"
    # 60 s as in the harness (which counts wall time), compilation not counted.
    limits = Limits(cpu_s=60.0, wall_s=240.0, memory_mib=2048, output_kib=16384, n_tasks=64)

    def candidate(self, code: str, around: Surroundings = _NOTHING) -> str:
        own = code.partition("int main")[0] if around.as_published else _MAIN.split(code, 1)[0]
        return f"{_HEADERS}\n{own}".strip()

    def toolchain(self) -> dict[str, str]:
        versions = {"g++": tool_version(self.title, "g++", "g++", "--version")}
        for header, package in _LIBRARIES:
            if not any((folder / header).is_file() for folder in _FOLDERS):
                raise missing(self.title, f"the header <{header}>", package)
        return versions

    @cached_property
    def _recipe(self) -> Recipe:
        return _cpp_tools.recipe(self.toolchain(), _HEADERS)

    def recipe(self) -> Recipe:
        return self._recipe

    def harness(self, tests: str) -> Harness:
        return _cpp_harness.harness(tests)

    def explain(self, execution: Execution) -> Execution:
        return _cpp_harness.explain(execution)


language = Cpp()
