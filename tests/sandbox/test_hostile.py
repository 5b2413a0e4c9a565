"""Hostile programs: none gets a pass it did not earn, gets out, or leaves anything behind.

The programs lie in `hostile/<language>/`, one family a file. Each runs at every level that works
here and is strong enough for it (at weaker ones it might really do harm), then an honest program is
judged by the same server.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from astraios import languages, registry
from astraios.checkers.unittests import checker
from astraios.errors import MissingToolError, SandboxError
from astraios.languages import Language, Surroundings
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import LEVELS, Limits, Sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the attacks are made for Linux")

HOSTILE = Path(__file__).with_name("hostile")
FAMILIES = ("forging", "exhaustion", "escape", "residue")
LIMITS = Limits(cpu_s=0.2, wall_s=3.0, memory_mib=512, output_kib=1024, disk_mib=8, n_tasks=8)
COMMAND_LIMITS = replace(LIMITS, cpu_s=2.0, wall_s=6.0, n_tasks=64)
"""For languages whose runtime takes some of it before the program begins."""
BUILD_CPU_S = 3.0
"""For compilers: far above what an honest program takes, and soon over for a bomb."""
KEY = 0x41535452
SECRET = "correct-horse-battery"
REPEATED = re.compile(r"\{(\d+) times: (.*?) :\}")
"""What stands for a long text in a program."""


@dataclass(frozen=True)
class Case:
    """One program of `hostile/`."""

    language: str
    family: str
    name: str
    weakest: str
    """The weakest level that holds it."""
    outcome: str
    """An outcome, `not` for anything but a pass, `any`."""
    code: str


def read_cases(path: Path) -> Iterator[Case]:
    """Programs of one file, each below a header `=== name | weakest level | outcome`."""
    _, *parts = path.read_text(encoding="utf-8").split("\n=== ")
    for part in parts:
        header, _, code = part.partition("\n")
        name, weakest, outcome = header.split(" | ")
        yield Case(path.parent.name, path.stem, name, weakest, outcome, code.rstrip("\n"))


def text_of(language: str, stem: str) -> str:
    """The tests of a language, or its honest program."""
    (path,) = (HOSTILE / language).glob(f"{stem}.*")
    return path.read_text(encoding="utf-8")


LANGUAGES = sorted(path.name for path in HOSTILE.iterdir())
CASES = [
    case
    for language in LANGUAGES
    for family in FAMILIES
    for case in read_cases(HOSTILE / language / f"{family}.txt")
]


@dataclass(frozen=True)
class Bait:
    """What programs try to reach, and how to see whether they did."""

    home: Path
    port: int
    abstract: str
    socket: Path
    victim: subprocess.Popen[bytes]
    reached: list[str]

    def fill(self, code: str) -> str:
        values = {
            "home": self.home, "secret": SECRET, "port": self.port, "abstract": self.abstract,
            "socket": self.socket, "victim": self.victim.pid, "key": KEY, "null": "\0",
        }  # fmt: skip
        for name, value in values.items():
            code = code.replace("{" + name + "}", str(value))
        return REPEATED.sub(lambda found: int(found[1]) * found[2], code)

    def state(self) -> dict[str, object]:
        """Everything that a program must leave as it is."""
        return {
            "home": {str(p): p.read_bytes() for p in sorted(self.home.rglob("*")) if p.is_file()},
            "victim": self.victim.poll(),
            "reached": list(self.reached),
            "ipc": [Path(f"/proc/sysvipc/{kind}").read_text().count("\n") for kind in IPC],
            "shared memory": hostile_files("/dev/shm"),
            "other places": hostile_files("/var/tmp"),
            "listeners": listeners(),
        }


IPC = ("shm", "msg", "sem")


def hostile_files(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir() if "hostile" in path.name]


def listeners() -> list[str]:
    """Local addresses that our processes listen on, and those that lost their parent.

    Other processes of the machine come and go, another test worker's bait among them.
    """
    parents = parents_of_processes()
    ours = {os.getpid(), *descendants(parents)}
    sockets = set()
    for pid in ours | {pid for pid, above in parents.items() if above == 1}:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.add(str(entry.readlink()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sorted(row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets)


def parents_of_processes() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents


def descendants(parents: dict[int, int]) -> set[int]:
    """Processes that come from this one."""
    found: set[int] = set()
    todo = [os.getpid()]
    while todo:
        parent = todo.pop()
        children = {pid for pid, above in parents.items() if above == parent} - found
        found |= children
        todo += children
    return found


def n_descendants() -> int:
    return len(descendants(parents_of_processes()))


@pytest.fixture(scope="module", autouse=True)
def brief_builds() -> Iterator[None]:
    """Less time for compilers; other limits are the languages' own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in LANGUAGES:
            language: Language = registry.load(languages, "language", name)
            with contextlib.suppress(MissingToolError):
                recipe = language.recipe()
                if recipe is not None:
                    limits = replace(recipe.build_limits, cpu_s=BUILD_CPU_S)
                    brief = replace(recipe, build_limits=limits)
                    patch.setattr(language, "recipe", lambda brief=brief: brief)
        yield


@pytest.fixture(scope="module")
def bait() -> Iterator[Bait]:
    reached: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bait-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        home.parent.chmod(0o777)
        home.chmod(0o777)
        for name, text in (("secret.txt", SECRET), ("keep.txt", "keep")):
            (home / name).write_text(text)
            (home / name).chmod(0o666)
        inet = socket.create_server(("127.0.0.1", 0))
        abstract, named = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        name = f"bait-{os.getpid()}"
        abstract.bind(f"\0{name}")
        named.bind(f"{folder}/socket")
        Path(folder, "socket").chmod(0o777)
        for listener in (inet, abstract, named):
            listener.listen()
            threading.Thread(target=accept, args=(listener, reached), daemon=True).start()
        victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        os.environ["HOSTILE_SECRET"] = SECRET
        try:
            yield Bait(home, inet.getsockname()[1], name, Path(folder, "socket"), victim, reached)
        finally:
            del os.environ["HOSTILE_SECRET"]
            victim.kill()
            victim.wait()
            for listener in (inet, abstract, named):
                listener.shutdown(socket.SHUT_RDWR)
                listener.close()


def accept(listener: socket.socket, reached: list[str]) -> None:
    try:
        while True:
            listener.accept()[0].close()
            reached.append(str(listener.family))
    except OSError:
        return  # closed


def judge(sandbox: Sandbox, name: str, *codes: str) -> list[Execution]:
    """What became of programs in language `name`; skips where it cannot run."""
    language: Language = registry.load(languages, "language", name)
    try:
        language.toolchain()
        recipe = language.recipe()
    except MissingToolError as error:
        pytest.skip(str(error))
    tests = "\n" + text_of(name, "tests")
    if recipe is not None:
        around = Surroundings(tests=tests)  # what they use is imported (Go)
        codes = tuple(language.candidate(code, around) for code in codes)
    programs = [Program(language=name, code=code, tests=tests) for code in codes]
    limits = LIMITS if recipe is None else COMMAND_LIMITS
    try:
        return [e for _, e in sorted(checker.check(programs, sandbox, limits=limits))]
    except (MissingToolError, SandboxError) as error:
        if "private folder" not in str(error):
            raise
        pytest.skip(str(error))


def is_held(case: Case, level: str) -> bool:
    """Whether `level` promises to hold it: bubblewrap promises what `namespaces` does."""
    level = "namespaces" if level == "bubblewrap" else level
    return LEVELS.index(level) <= LEVELS.index(case.weakest)


def is_python(case: Case) -> bool:
    return case.language == "python"


def memory_limit(language: str, phase: str) -> int:
    recipe = registry.load(languages, "language", language).recipe()
    if recipe is None:
        return LIMITS.memory_mib
    limits = recipe.build_limits if phase == "compile" else LIMITS
    return int(limits.memory_mib + recipe.reserved_mib)


def ids(case: Case) -> str:
    return f"{case.language}-{case.family}-{case.name}"


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_hostile_program_gains_nothing_and_leaves_nothing(
    case: Case, sandbox: Sandbox, bait: Bait
) -> None:
    if not is_held(case, sandbox.level):
        pytest.skip(f"not held below level {case.weakest}")
    right = text_of(case.language, "honest")
    # Every server that either program can need: Python has one with numpy and one without.
    judge(sandbox, case.language, right, *([f"import numpy\n{right}"] if is_python(case) else []))
    before, n_before = bait.state(), n_descendants()
    started = time.monotonic()

    hostile, honest = judge(sandbox, case.language, bait.fill(case.code), right)

    if case.outcome == "not":
        assert hostile.outcome is not Outcome.PASSED, hostile
        assert hostile.outcome is not Outcome.FAULT, hostile
    elif case.outcome != "any":
        assert hostile.outcome == case.outcome, hostile
    assert honest.outcome is Outcome.PASSED, honest
    assert bait.state() == before
    assert n_descendants() == n_before
    # A bound that a hung engine breaks, not a measure of speed: limits of building and running.
    assert time.monotonic() - started < 300
    assert hostile.peak_mib < memory_limit(case.language, hostile.phase) + 64
    assert len(hostile.message) <= 200
    hostile.model_dump_json().encode("utf-8")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_family_is_tried(language: str) -> None:
    cases = [case for case in CASES if case.language == language]

    assert {case.family for case in cases} == set(FAMILIES)
    assert len({case.name for case in cases}) == len(cases) >= 12


def test_at_least_sixty_programs_are_tried() -> None:
    assert len(CASES) >= 60
