"""Hostile programs: none gets a pass it did not earn, gets out, or leaves anything behind.

The programs lie in `hostile/`, one family a file. Each runs at every level that works here and is
strong enough for it (at weaker ones it might really do harm), then an honest program is judged by
the same server.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from astraios.checkers.unittests import checker
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import LEVELS, Limits, Sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the attacks are made for Linux")

TESTS = """
def check(answer):
    assert answer(2) == 3
    assert answer(41) == 42
    assert answer(-1) == 0

check(answer)
"""
HONEST = "def answer(n):\n    return n + 1"
LIMITS = Limits(cpu_s=0.2, wall_s=3.0, memory_mib=512, output_kib=1024, disk_mib=8, n_tasks=8)
KEY = 0x41535452
SECRET = "correct-horse-battery"


@dataclass(frozen=True)
class Case:
    """One program of `hostile/`."""

    family: str
    name: str
    weakest: str
    """The weakest level that holds it."""
    outcome: str
    """An outcome, `not` for anything but a pass, `any`."""
    code: str


def read_cases(family: Path) -> Iterator[Case]:
    """Programs of one file, each below a header `=== name | weakest level | outcome`."""
    _, *parts = family.read_text(encoding="utf-8").split("\n=== ")
    for part in parts:
        header, _, code = part.partition("\n")
        name, weakest, outcome = header.split(" | ")
        yield Case(family.stem, name, weakest, outcome, code.rstrip("\n"))


CASES = [
    case
    for family in sorted((Path(__file__).parent / "hostile").glob("*.txt"))
    for case in read_cases(family)
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
        return code

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


def judge(sandbox: Sandbox, *codes: str) -> list[Execution]:
    programs = [Program(language="python", code=code, tests=TESTS) for code in codes]
    return [e for _, e in sorted(checker.check(programs, sandbox, limits=LIMITS))]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.family}-{case.name}" for case in CASES])
def test_hostile_program_gains_nothing_and_leaves_nothing(
    case: Case, sandbox: Sandbox, bait: Bait
) -> None:
    if LEVELS.index(sandbox.level) > LEVELS.index(case.weakest):
        pytest.skip(f"not held below level {case.weakest}")
    judge(sandbox, HONEST)
    before, n_before = bait.state(), n_descendants()
    started = time.monotonic()

    hostile, honest = judge(sandbox, bait.fill(case.code), HONEST)

    if case.outcome == "not":
        assert hostile.outcome is not Outcome.PASSED, hostile
        assert hostile.outcome is not Outcome.FAULT, hostile
    elif case.outcome != "any":
        assert hostile.outcome == case.outcome, hostile
    assert honest.outcome is Outcome.PASSED, honest
    assert bait.state() == before
    assert n_descendants() == n_before
    # A bound that a hung engine breaks, not a measure of speed: twice the wall limit, and reserve.
    assert time.monotonic() - started < 60
    assert hostile.peak_mib < LIMITS.memory_mib + 64
    assert len(hostile.message) <= 200
    hostile.model_dump_json().encode("utf-8")


def test_at_least_sixty_programs_are_tried() -> None:
    assert len(CASES) >= 60
    assert len({(case.family, case.name) for case in CASES}) == len(CASES)
