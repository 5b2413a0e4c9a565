"""A slow or busy machine changes no verdict: CPU time decides, not the clock on the wall."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from astraios import tasks
from astraios.checkers.unittests import checker
from astraios.records import Outcome, Program
from astraios.sandbox import Limits, Sandbox

N_LOOPS = 4
LIMITS = Limits(cpu_s=1.0, wall_s=60.0, memory_mib=1024)
TESTS = "assert answer(2) == 3\nassert answer(41) == 42"

WORKS_LONG = """
import time
def answer(n):
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    return n + 1
"""
SLEEPS = """
import time
def answer(n):
    time.sleep(0.5)
    return n + 1
"""
NEVER_ENDS = "def answer(n):\n    while True:\n        n += 1"


def test_verdicts_are_the_same_beside_four_busy_loops(strongest: Sandbox) -> None:
    programs = [
        *_references(),
        *(
            Program(language="python", code=code, tests=TESTS)
            for code in (WORKS_LONG, SLEEPS, NEVER_ENDS, "def answer(n):\n    return n")
        ),
    ]

    alone = _outcomes(programs, strongest)
    with _busy_loops():
        beside = _outcomes(programs, strongest)

    assert beside == alone
    assert alone[-4:] == [Outcome.PASSED, Outcome.PASSED, Outcome.TIMED_OUT, Outcome.FAILED]


def _references() -> list[Program]:
    task = tasks.task("minipack-synthesize")
    pairs = [task.references(problem) for problem in task.problems(None)[:30]]
    return [program for pair in pairs if pair for program in pair]


def _outcomes(programs: list[Program], sandbox: Sandbox) -> list[Outcome]:
    found = dict(checker.check(programs, sandbox, limits=LIMITS))
    return [found[place].outcome for place in range(len(programs))]


@contextmanager
def _busy_loops() -> Iterator[None]:
    command = [sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(command) for _ in range(N_LOOPS)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
