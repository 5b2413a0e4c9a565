"""JavaScript, as the BigCode harness cuts and runs it for HumanEvalPack."""

from __future__ import annotations

import re
import shutil
from functools import cached_property
from importlib import resources
from pathlib import Path

from astraios.languages import Surroundings, _js_harness
from astraios.languages._braces import BraceLanguage
from astraios.languages._prepared import prepared
from astraios.languages._tools import tool_version
from astraios.records import Execution
from astraios.sandbox import Harness, Limits, Recipe

__all__ = ["JavaScript", "language"]

_NOTHING = Surroundings()

_FILES = ("driver.js", "js-md5/index.js")
# What starts Node.js fastest: a hash seed needs a second pass over its start-up image, which
# nothing here is worth (it is against web clients that choose keys). One thread does it all, so
# that CPU time is the program's own and few tasks are needed. Memory is bounded from outside; the
# last option lets the heap grow that far.
_OPTIONS = (
    "--no-rehash-snapshot", "--no-verify-snapshot-checksum", "--single-threaded",
    "--v8-pool-size=1", "--max-old-space-size=2048", "--no-addons",
)  # fmt: skip


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

    @cached_property
    def _recipe(self) -> Recipe:
        versions = self.toolchain()
        node = Path(shutil.which("node") or "node").resolve()
        home = resources.files("astraios.languages").joinpath("drivers/js")
        texts = {name: home.joinpath(name).read_text(encoding="utf-8") for name in _FILES}
        folder = prepared("js", {**versions, **texts}, lambda folder: _write(folder, texts))
        return Recipe(
            name="js",
            source="main.js",
            run=("{node}", *_OPTIONS, *_more_options(versions["node"]), "{prepared}/driver.js"),
            folders=(("prepared", str(folder)), ("node", str(node))),
            environment=(("NODE_PATH", "{prepared}"), ("OPENSSL_CONF", "/dev/null")),
            silent=True,
        )

    def recipe(self) -> Recipe:
        return self._recipe

    def harness(self, tests: str) -> Harness:
        return _js_harness.harness(tests)

    def explain(self, execution: Execution) -> Execution:
        return _js_harness.explain(execution)


def _more_options(version: str) -> tuple[str, ...]:
    """What only some versions know: `require` of a module in the other format would go past the
    driver, which refuses some modules."""
    major, minor, *_ = (int(part) for part in re.findall(r"\d+", version))
    return ("--no-experimental-require-module",) if (major, minor) >= (20, 17) else ()


def _write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


language = JavaScript()
