"""How Rust programs are built and run: one call of the compiler, without cargo.

The crates are compiled once, with cargo, from the sources that the distribution packages. Programs
are compiled as `cargo test` compiles them (not optimised, overflow and assertions checked), but to
an object file: linking it to a shared library takes no more than the linker alone, as all that it
needs is in the process that loads it (`drivers/rust`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from astraios.errors import WorkError
from astraios.languages._prepared import prepared, run_tool
from astraios.languages._rust_harness import as_written
from astraios.records import Execution, Outcome
from astraios.sandbox import Limits, Recipe

__all__ = ["REGISTRY", "explained", "recipe"]

REGISTRY = Path("/usr/share/cargo/registry")
"""Where Debian's packages of crates put their sources."""

_SOURCES = (
    "Cargo.toml", "src/main.rs", "src/lib.rs", "src/seq.rs", "src/distributions.rs", "src/warm.rs",
)  # fmt: skip
_CARGO = f"""\
[source.crates-io]
replace-with = "packaged"
[source.packaged]
directory = "{REGISTRY}"
[build]
rustflags = ["-Cprefer-dynamic"]
"""
_OPTIONS = (
    "--edition=2021", "--cfg=test", "-Awarnings", "-Aexplicit_builtin_cfgs_in_flags",
    "--crate-name=program", "--crate-type=cdylib", "-Cprefer-dynamic", "-Ccodegen-units=1",
    "-Cembed-bitcode=no", "--color=never",
    "--extern=rand={made}/librand.rlib", "--extern=rand={made}/librand.so",
    "--extern=regex={made}/libregex.rlib", "--extern=md5={made}/libmd5.rlib",
    "-Ldependency={made}/deps",
)  # fmt: skip


def recipe(versions: Mapping[str, str]) -> Recipe:
    """How programs are built and run.

    Args:
        versions: of the toolchain.
    """
    home = resources.files("astraios.languages").joinpath("drivers/rust")
    texts = {name: home.joinpath(name).read_text(encoding="utf-8") for name in _SOURCES}
    system_root = Path(_asked("--print=sysroot"))
    libraries = Path(_asked("--print=target-libdir"))
    compiler, root, folders = _compiler(system_root, libraries)
    facts = {**versions, **texts, "root": str(system_root), "about": _asked("--verbose", "-V")}
    folder = prepared("rust", facts, lambda folder: _prepare(folder, texts, system_root))
    return Recipe(
        name="rust",
        source="main.rs",
        build=(("{made}/driver", "build", compiler, "{linker}", f"--sysroot={root}", *_OPTIONS),),
        run=("{made}/driver", "run"),
        folders=(
            ("made", str(folder)), ("libraries", str(libraries)), *folders,
            ("linker", str(_found("ld"))),
        ),
        environment=(
            # Nobody finds libraries relative to itself where there is no /proc.
            ("LD_LIBRARY_PATH", f"{{made}}:{{libraries}}:{root}/lib"),
            ("TMPDIR", "."), ("LC_ALL", "C"),
        ),
        # A limit on writable memory misses what is made writable over memory that was reserved, as
        # the compiler's allocator does it; the address space beyond it is the compiler's libraries.
        reserved_mib=768,
        error_line=r"^ *--> <anon>:(?P<line>\d+):",
        build_limits=Limits(cpu_s=30.0, wall_s=120.0, memory_mib=1536, n_tasks=64, disk_mib=128),
    )  # fmt: skip


def _compiler(system_root: Path, libraries: Path) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """The compiler proper, not what chooses between versions of it; its root; what it reads."""
    if system_root == Path("/usr"):
        folders = (("rustc", "/usr/bin/rustc"), ("rustlib", str(libraries.parents[1])))
        return "{rustc}", "/usr", folders
    return "{root}/bin/rustc", "{root}", (("root", str(system_root)),)


def _prepare(folder: Path, texts: Mapping[str, str], system_root: Path) -> None:
    """Compile crates and driver into `folder`."""
    for name, text in {**texts, ".cargo/config.toml": _CARGO}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    tools = {name: str(_proper(name, system_root)) for name in ("cargo", "rustc")}
    run_tool(
        (tools["cargo"], "build", "--offline", "--quiet"), folder,
        RUSTC=tools["rustc"], CARGO_HOME=str(folder / "cargo"), CARGO_TARGET_DIR="target",
    )  # fmt: skip
    made = folder / "target" / "debug"
    (folder / "deps").mkdir()
    for library in (made / "deps").glob("lib*-*.rlib"):
        library.rename(folder / "deps" / library.name)
    for crate in ("regex", "md5"):
        (library,) = (folder / "deps").glob(f"lib{crate}-*.rlib")
        (folder / f"lib{crate}.rlib").symlink_to(f"deps/{library.name}")
    for name in ("librand.rlib", "librand.so", "driver"):
        shutil.copy(made / name, folder / name)
    for name in ("target", "cargo"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _proper(name: str, system_root: Path) -> Path:
    own = system_root / "bin" / name
    return own if own.is_file() else _found(name)


def _found(tool: str) -> Path:
    path = shutil.which(tool)
    if path is None:
        raise WorkError(f"building Rust programs takes {tool!r}, which was not found")
    return Path(path).resolve()


def _asked(*arguments: str) -> str:
    return run_tool(("rustc", *arguments), Path("/")).strip()


# --- what became of a program ---------------------------------------------------------------------

_PANIC = re.compile(
    r"^thread '[^']*'[^\n]* panicked at "
    r"(?:'(?P<quoted>.*?)', [^\n]*:\d+:\d+$|[^\n]*:\d+:\d+:\n)"
    r"(?P<text>.*?)(?=\n+note: |\n+thread '|\Z)",
    re.MULTILINE | re.DOTALL,
)
_ERROR = re.compile(r"^error(?:\[\w+\])?: .*$", re.MULTILINE)
_NO_MEMORY = re.compile(r"memory allocation of \d+ bytes failed|capacity overflow\b.*abort")
_OVERFLOWED = "has overflowed its stack"
_STATUS_OF_PANIC, _STATUS_OF_UNRESOLVED = 101, 95
"""Exit statuses of `drivers/rust`."""
_MESSAGE = 200


def explained(execution: Execution) -> Execution:
    """`execution` with the line that says what went wrong in front."""
    said = execution.stderr
    if execution.phase == "compile" or execution.exit_code == _STATUS_OF_UNRESOLVED:
        error = _ERROR.search(said)
        return _with(execution, Outcome.COMPILE_ERROR, error.group() if error else "")
    if _NO_MEMORY.search(said):
        return _with(execution, Outcome.OUT_OF_MEMORY, "memory allocation failed")
    if _OVERFLOWED in said:
        return _with(execution, Outcome.CRASHED, "stack overflow")
    if execution.exit_code == _STATUS_OF_PANIC:
        return _with(execution, Outcome.FAILED, _panic(said))
    return execution


def _panic(said: str) -> str:
    """What the last panic says, on one line."""
    panics = list(_PANIC.finditer(said))
    if not panics:
        return "panicked"
    last = panics[-1]
    words = (last["quoted"] or last["text"]).replace("`", "").split()
    text = as_written(" ".join(words))
    return text if text.startswith("assertion") else f"panicked: {text}"


def _with(execution: Execution, outcome: Outcome, line: str) -> Execution:
    line = line[:_MESSAGE]
    phase = "compile" if outcome is Outcome.COMPILE_ERROR else "run"
    changes = {"outcome": outcome, "message": line or execution.message, "stderr": line}
    return execution.model_copy(update={**changes, "phase": phase})
