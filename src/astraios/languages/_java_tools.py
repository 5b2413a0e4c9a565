"""The commands that compile and run a Java program: one compiler that stays, one JVM a program.

Nine tenths of a short program's time are the JVM's start. It is kept down by an archive of the
library's classes as they lie in memory, mapped where it was made for, and by no more threads,
compilation and heap than a short program uses.
"""

from __future__ import annotations

import logging
import shutil
import struct
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from astraios.errors import WorkError
from astraios.languages._java_harness import LAST_LINE
from astraios.languages._prepared import prepared, run_tool
from astraios.sandbox import Limits, Recipe

__all__ = ["recipe"]

log = logging.getLogger(__name__)

_SOURCES = ("Driver.java", "Compiler.java", "Units.java")
_WARM = "Warm.java"
_END = LAST_LINE.replace("@secret@", "")
_CLASSES, _PROGRAM = "classes", "program"
_COMPILE_CPU_S = 30
"""The harness gives javac 5 s, five times."""

_ANY = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:ArchiveRelocationMode=0",  # or every page of the archive is written to at the start
    "-XX:TieredStopAtLevel=1",
    "-XX:CICompilerCount=1",
    "-XX:-UsePerfData",
    "-XX:+DisableAttachMechanism",
    "-XX:ErrorFile=/dev/null",
    "-XX:-CreateCoredumpOnCrash",
    "-Dfile.encoding=UTF-8",
)
_RUN = (
    *_ANY,
    "-XX:+UseG1GC",  # the only one whose heap is in the archive
    "-XX:ParallelGCThreads=1",
    "-XX:ConcGCThreads=1",
    "-Xmx1g",
    "-Xms8m",
)
_COMPILE = (
    *_ANY,
    "-XX:+UseSerialGC",
    "-Xmx768m",
    "--add-exports=jdk.compiler/com.sun.tools.javac.api=ALL-UNNAMED",
)
_EXPORTS = (
    "--add-exports=jdk.compiler/com.sun.tools.javac.api=ALL-UNNAMED",
    "--add-exports=jdk.compiler/com.sun.tools.javac.util=ALL-UNNAMED",
)


def recipe(versions: Mapping[str, str]) -> Recipe:
    """How programs are compiled and run by the JDK on the path, which has `versions`."""
    home = Path(shutil.which("javac") or "/usr/bin/javac").resolve().parent.parent
    sources = {name: _source(name) for name in (*_SOURCES, _WARM)}
    facts = {**versions, **sources, "home": str(home), "options": " ".join((*_RUN, *_COMPILE))}
    folder = prepared("java", facts, lambda folder: _prepare(folder, home, sources))
    places = {"prepared": folder, "jdk": home}
    places |= {f"settings{n}": path for n, path in enumerate(_settings(home))}
    return Recipe(
        name="java",
        source="Main.java",
        run=("{jdk}/bin/java", *_command("{prepared}", "Driver", _RUN)),
        compiler=("{jdk}/bin/java", *_command("{prepared}", "Compiler", _COMPILE), "{cpu_s}"),
        folders=tuple((name, str(path)) for name, path in places.items()),
        environment=(("LC_ALL", "C.UTF-8"), ("LD_LIBRARY_PATH", "{jdk}/lib")),  # there is no /proc
        build_limits=Limits(cpu_s=_COMPILE_CPU_S, wall_s=240.0, n_tasks=64, memory_mib=2048),
    )  # fmt: skip


def _source(name: str) -> str:
    file = resources.files("astraios.languages").joinpath("drivers", "java", name)
    return file.read_text(encoding="utf-8")


def _settings(home: Path) -> list[Path]:
    """Folders outside of the JDK that its links lead to: Debian keeps its settings in `/etc`."""
    links = (path for name in ("conf", "lib") for path in (home / name, *(home / name).rglob("*")))
    targets = (path.resolve() for path in links if path.is_symlink())
    outside = (path for path in targets if path.exists() and home not in path.parents)
    return sorted({path if path.is_dir() else path.parent for path in outside})


def _command(folder: str, what: str, options: tuple[str, ...]) -> tuple[str, ...]:
    archive = f"-XX:SharedArchiveFile={folder}/{what}.jsa"
    return (*options, archive, "-cp", f"{folder}/{_CLASSES}", f"astraios.{what}")


# --- what is made once ------------------------------------------------------------------------


def _prepare(folder: Path, home: Path, sources: Mapping[str, str]) -> None:
    """Driver, compiler, and archives of the library's classes that each of them loads."""
    for name in _SOURCES:
        (folder / name).write_text(sources[name], encoding="utf-8")
    javac, java = (str(home / "bin" / name) for name in ("javac", "java"))
    run_tool((javac, *_EXPORTS, "-nowarn", "-d", _CLASSES, *_SOURCES), folder)
    (folder / "questions").write_bytes(
        _frame(sources[_WARM] + _END) + _frame("class Wrong {" + _END)
    )
    compiler = _train(folder, java, "Compiler", _COMPILE, "<questions >answers")
    run_tool(compiler, folder)
    (folder / _PROGRAM).write_bytes(_content((folder / "answers").read_bytes()))
    (folder / "token").write_bytes(bytes(17))
    run_tool(_train(folder, java, "Driver", _RUN, "3<>token"), folder)
    for what, options in (("Compiler", _COMPILE), ("Driver", _RUN)):
        command = (
            java, *options, "-Xshare:dump", f"-XX:SharedClassListFile={what}.list",
            f"-XX:SharedArchiveFile={what}.jsa", "-cp", "none",
        )  # fmt: skip
        try:
            run_tool(command, folder)
        except WorkError as error:  # it works without, and takes longer
            log.warning("no archive of Java's classes: %s", error)
    for name in (*_SOURCES, "questions", "answers", "token", _PROGRAM):
        (folder / name).unlink(missing_ok=True)


def _train(
    folder: Path, java: str, what: str, options: tuple[str, ...], redirected: str
) -> tuple[str, ...]:
    """A command that notes which classes are loaded."""
    listed = (*options, "-Xshare:off", f"-XX:DumpLoadedClassList={what}.list")
    script = f'exec "$@" {redirected}'
    command = (java, *listed, "-cp", _CLASSES, f"astraios.{what}", str(_COMPILE_CPU_S))
    return ("sh", "-c", script, "sh", *command)


def _frame(source: str) -> bytes:
    data = source.encode()
    return struct.pack("!I", len(data)) + data


def _content(answer: bytes) -> bytes:
    """The one file of the first answer."""
    if answer[4:5] != b"\0":
        raise WorkError(f"the Java compiler does not work here: {answer[5:300]!r}")
    (name_length,) = struct.unpack_from("!H", answer, 5)
    (length,) = struct.unpack_from("!I", answer, 7 + name_length)
    start = 11 + name_length
    return answer[start : start + length]
