"""How Go programs are built and run: compiler and linker called without the `go` command.

The packages that programs import are compiled once. Most tests only compare plain values; for them
a package of ours takes the place of testify and a small one that of `testing`, so that the linker,
which takes most of the time, has less to read. What needs more is built with the real ones.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from astraios.languages._prepared import prepared, run_tool
from astraios.records import Execution, Outcome
from astraios.sandbox import Limits, Recipe

__all__ = ["explained", "recipe"]

log = logging.getLogger(__name__)

_PACKAGES = ("std", "github.com/stretchr/testify/assert", "github.com/stretchr/testify/require")
_PLAIN, _FULL, _STANDARD = "plain", "full", "std"
_TESTING, _ASSERT, _DRIVER = "testing", _PACKAGES[1], "astraios/driver"
_SOURCES = (
    "begin.go", "build.sh", "plain/testing.go", "plain/assert.go", "plain/driver.go",
    "full/driver.go",
)  # fmt: skip
_ASKED = ("GOTOOLDIR", "GOROOT", "GOOS", "GOARCH")
_EXPORTS = "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}"


def recipe(versions: Mapping[str, str], go_path: Path) -> Recipe:
    """How programs are built and run.

    Args:
        versions: of the toolchain.
        go_path: the folder above `src`, where the packages of others lie.
    """
    asked = run_tool(["go", "env", *_ASKED], Path("/"), **_environment(go_path)).splitlines()
    tools, root, target = Path(asked[0]), Path(asked[1]), "_".join(asked[2:])
    shipped = root / "pkg" / target
    home = resources.files("astraios.languages").joinpath("drivers/go")
    texts = {name: home.joinpath(name).read_text(encoding="utf-8") for name in _SOURCES}
    facts = {**versions, **texts, "tools": str(tools), "runtime": str(_PATCHES)}
    folder = prepared("go", facts, lambda folder: _prepare(folder, texts, tools, shipped, go_path))
    shell = str(Path(shutil.which("sh") or "/bin/sh").resolve())
    return Recipe(
        name="go",
        source="main.go",
        build=(("{shell}", "{made}/build.sh", "{made}", "{shipped}", "{tools}"),),
        run=("./main",),
        folders=(
            ("made", str(folder)),
            ("tools", str(tools)),
            ("shell", shell),
            # since Go 1.20 there is none, and all of the library is made here
            ("shipped", str(shipped if (shipped / "fmt.a").is_file() else folder)),
        ),
        environment=(("GOMAXPROCS", "1"),),
        reserved_mib=640,  # of its heap, which it makes writable in place
        error_line=r"main\.go:(?P<line>\d+)",
        build_limits=Limits(cpu_s=60.0, wall_s=240.0, memory_mib=4096, n_tasks=64, disk_mib=128),
    )


def _environment(go_path: Path) -> dict[str, str]:
    return {
        "GOPATH": str(go_path), "GO111MODULE": "off", "CGO_ENABLED": "0", "GOFLAGS": "",
        "GOENV": "off", "GOCACHE": "off",
    }  # fmt: skip


def _prepare(
    folder: Path, texts: Mapping[str, str], tools: Path, shipped: Path, go_path: Path
) -> None:
    """Fill `folder` with archives that are not shipped: libraries, and our own of each kind."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="astraios-go-") as scratch:
        environment = {**_environment(go_path), "GOCACHE": f"{scratch}/cache"}
        options = _same_order_each_time(Path(scratch), shipped.parents[1])
        for more, packages in (([], _PACKAGES), (options, ("runtime",))):
            command = ["go", "list", "-export", "-deps", *more, "-f", _EXPORTS, *packages]
            for line in run_tool(command, folder, **environment).splitlines():
                name, _, archive = line.partition("=")
                if not archive.startswith(str(shipped)):
                    _copy(archive, folder / _STANDARD / f"{name}.a")
    for kind, path in (
        (_PLAIN, _TESTING), (_PLAIN, _ASSERT), (_PLAIN, _DRIVER), (_FULL, _DRIVER),
    ):  # fmt: skip
        made = folder / kind / f"{path}.a"
        made.parent.mkdir(parents=True, exist_ok=True)
        source = f"{kind}/{path.rpartition('/')[2]}.go"
        run_tool(
            [str(tools / "compile"), "-p", path, "-complete", "-dwarf=false", "-pack",
             "-o", str(made), "-I", kind, "-I", _STANDARD, "-I", str(shipped), source],
            folder,
        )  # fmt: skip


_PATCHES = (
    ("map.go", "r = uintptr(fastrand())\n", "r = 0\n"),
    ("proc.go", "int64Hash(uint64(cputicks()), ^fastrandseed)",
     "int64Hash(uint64(mp.id), ^fastrandseed)"),
    ("os_linux.go", "func getRandomData(r []byte) {",
     "func getRandomData(r []byte) { for i := range r { r[i] = byte(37*i + 11) }; return"),
)  # fmt: skip


def _same_order_each_time(scratch: Path, root: Path) -> list[str]:
    """Options for a Go runtime whose maps are ranged over in the same order by every run.

    The order is random, so that nobody counts on it; the right solution of Go/95 does, and would
    fail one time in five. Verdicts must not be a matter of luck. A small map now begins with what
    was put into it first, the likeliest of its orders.
    """
    home, patched = root / "src" / "runtime", scratch / "runtime"
    patched.mkdir()
    for name, old, new in _PATCHES:
        text = (home / name).read_text(encoding="utf-8") if (home / name).is_file() else ""
        if text.count(old) != 1:
            log.warning("this Go (%s) keeps its random order of maps: %s is another", root, name)
            return []
        (patched / name).write_text(text.replace(old, new), encoding="utf-8")
    replaced = {str(home / name): str(patched / name) for name, _, _ in _PATCHES}
    (scratch / "overlay.json").write_text(json.dumps({"Replace": replaced}), encoding="utf-8")
    # With the paths that it was shipped with it fits to the packages that import it.
    flags = f"-dwarf=false -trimpath={patched}=>$GOROOT/src/runtime"
    return ["-overlay", f"{scratch}/overlay.json", f"-gcflags={flags}"]


def _copy(source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


# --- what became of a program ---------------------------------------------------------------------

_TELLING = re.compile(
    r"^\s*(?P<line>--- FAIL: .*|panic: .*|fatal error: .*|runtime: .*out of memory.*)$",
    re.MULTILINE,
)
_NO_MEMORY = re.compile(r"out of memory|cannot allocate memory|failed to reserve|errno=12")
_STATUS_OF_PANIC = 2
_MESSAGE = 200


def explained(execution: Execution) -> Execution:
    """`execution` with the line that says what went wrong in front."""
    if execution.phase == "compile":
        return _with(execution, Outcome.COMPILE_ERROR, _first_line(execution.stderr))
    found = _TELLING.search(execution.stderr)
    if found is None:
        return execution
    line = found["line"].strip()
    if line.startswith("--- FAIL"):
        return _with(execution, Outcome.FAILED, line)
    if execution.exit_code != _STATUS_OF_PANIC:
        return execution
    if _NO_MEMORY.search(execution.stderr):
        return _with(execution, Outcome.OUT_OF_MEMORY, line)
    return _with(execution, Outcome.FAILED, line.replace(" [recovered]", ""))


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _with(execution: Execution, outcome: Outcome, line: str) -> Execution:
    line = line[:_MESSAGE]
    message = line or execution.message
    return execution.model_copy(update={"outcome": outcome, "message": message, "stderr": line})
