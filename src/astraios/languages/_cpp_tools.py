"""The commands that make a C++ program, each called without the compiler driver in front of it.

A program is compiled as `g++ -std=c++11` compiles it, with the same options, and the header block
that the harness puts into every program precompiled. It is linked to a shared object that
`drivers/cpp/driver.c` loads: to read the symbols of the C and C++ libraries for every program would
take the linker ten times as long as the program itself does.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from astraios.errors import WorkError
from astraios.languages._prepared import prepared, run_tool
from astraios.sandbox import Limits, Recipe

__all__ = ["recipe"]

_OPTIONS = ("-std=c++11", "-fPIC")
_HEADER, _DRIVER, _STUBS = "headers.h", "driver", ("stdcxx.so", "gcc_s.so")
_SONAMES = ("libstdc++.so.6", "libgcc_s.so.1")
_SEARCHED = ("/usr/include", "/usr/local/include")

_LIMITS = Limits(cpu_s=20.0, wall_s=80.0, memory_mib=2048, disk_mib=128, n_tasks=16)
"""Of building: a hundred times what a program takes."""

_SCRIPT = """\
{compile} -include "$1/{header}" main.cpp -o main.s &&
{assemble} main.s -o main.o && exec {link}"""


def recipe(versions: Mapping[str, str], headers: str) -> Recipe:
    """How programs are built and run.

    Args:
        versions: of the toolchain.
        headers: text at the beginning of every program.
    """
    source = resources.files("astraios.languages").joinpath("drivers/cpp/driver.c").read_text()
    tools = _Tools()
    facts = {**versions, "headers": headers, "driver": source, "compile": shlex.join(tools.compile)}
    folder = prepared("cpp", facts, lambda folder: _prepare(folder, headers, source))
    script = _SCRIPT.format(
        compile=shlex.join(tools.compile), header=_HEADER,
        assemble=shlex.join(tools.assemble), link=tools.link(),
    )  # fmt: skip
    shell = str(Path(shutil.which("sh") or "/bin/sh").resolve())
    places = [*tools.folders(), Path(shell).parent, *map(Path, _SEARCHED)]
    named = {f"tools{n}": str(path) for n, path in enumerate(dict.fromkeys(places))}
    return Recipe(
        name="cpp",
        source="main.cpp",
        build=((shell, "-c", script, "build", "{prepared}"),),
        run=("{prepared}/" + _DRIVER,),
        folders=(
            ("prepared", str(folder)),
            *((n, p) for n, p in named.items() if Path(p).is_dir()),
        ),
        environment=(("TMPDIR", "."), ("LC_ALL", "C.UTF-8")),
        # Of stacks and of what the allocator takes for threads. Without this bound, memory made
        # writable over reserved memory would escape the limit.
        reserved_mib=768,
        build_limits=_LIMITS,
        error_line=r"main\.cpp:(?P<line>\d+):\d+: (?:fatal )?error",
    )


def _prepare(folder: Path, headers: str, source: str) -> None:
    """Make header, driver and the stand-ins for libraries in `folder`."""
    (folder / _HEADER).write_text(headers + "\n", encoding="utf-8")
    run_tool(("g++", *_OPTIONS, "-x", "c++-header", _HEADER, "-o", f"{_HEADER}.gch"), folder)
    (folder / "driver.c").write_text(source, encoding="utf-8")
    run_tool(("gcc", "-O1", "-Wl,-z,relro,-z,now", "driver.c", "-o", _DRIVER, "-ldl"), folder)
    (folder / "empty.c").write_text("", encoding="utf-8")
    for stub, name in zip(_STUBS, _SONAMES, strict=True):
        options = ("-shared", "-nostdlib", f"-Wl,-soname,{name}")
        run_tool(("gcc", *options, "-x", "c", "empty.c", "-o", stub), folder)


class _Tools:
    """Compiler proper, assembler and linker of this machine's g++."""

    def __init__(self) -> None:
        lines = _dry_run()
        compiler = next(line for line in lines if line[0].endswith("cc1plus"))
        self.compile = [*_plain(compiler), "-Wfatal-errors", "-fno-diagnostics-show-caret"]
        self.assemble = _plain(next(line for line in lines if Path(line[0]).name == "as"))
        self.assemble[0] = _found(self.assemble[0])
        self._linker = _found(_asked("-print-prog-name=ld"))

    def link(self) -> str:
        """The shell's words that link."""
        begin, end = (_asked(f"-print-file-name={name}") for name in ("crtbeginS.o", "crtendS.o"))
        archives = [_asked(f"-print-file-name={n}") for n in ("libgcc.a", "libc_nonshared.a")]
        # Its functions have several versions, and the right ones are recorded only if it is seen.
        math = _asked("-print-file-name=libm.so.6")
        stubs = " ".join(f'"$1/{stub}"' for stub in _STUBS)
        first = [
            self._linker, "-shared", "--eh-frame-hdr", "--hash-style=gnu", "-Bsymbolic",
            "-o", "main.so", begin, "main.o",
        ]  # fmt: skip
        last = [path for path in (math, *archives, end) if Path(path).is_file()]
        return f"{shlex.join(first)} {stubs} {shlex.join(last)}"

    def folders(self) -> list[Path]:
        """Where they lie."""
        tools = (self.compile[0], self.assemble[0], self._linker)
        return [Path(tool).parent for tool in tools]


def _dry_run() -> list[list[str]]:
    """The commands that g++ would run to compile and assemble a program."""
    text = _said("-###", *_OPTIONS, "-c", "-x", "c++", "-", "-o", "main.o")
    return [shlex.split(line) for line in text.splitlines() if line.startswith(" ")]


_NAMES = ("-o", "-dumpdir", "-dumpbase", "-dumpbase-ext", "-auxbase-strip", "-auxbase")
"""Options whose values are names of files, which are given by the script."""


def _plain(command: list[str]) -> list[str]:
    """`command` without names of files."""
    words = iter(command)
    return [word for word in words if not (_is_name(word) and next(words)) and not _is_input(word)]


def _is_name(word: str) -> bool:
    return word in _NAMES


def _is_input(word: str) -> bool:
    return word == "-" or word.endswith(".s")


def _asked(question: str) -> str:
    return _said(question).strip()


def _said(*arguments: str) -> str:
    return run_tool(("sh", "-c", 'exec g++ "$@" 2>&1', "g++", *arguments), Path("/"))


def _found(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        raise WorkError(f"g++ uses {tool!r}, which was not found")
    return path
