"""What the benchmarks of single languages share: programs, arms taking turns, CPU time.

An arm is a way of judging. All arms judge the same programs in turns of a few, so that a machine
that slows down slows all of them; before the first turn is counted, each has judged one program.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astraios import tasks
from astraios.checkers.unittests import checker
from astraios.config import data_dir
from astraios.records import Outcome, Program
from astraios.sandbox import open_sandbox

TURN = 8
"""Programs of an arm before the next one has its turn."""

LONG_CPU_S = 1.0

Judge = Callable[[Sequence[Program]], list[bool]]
"""Whether each program passes."""


def cpu_s() -> float:
    """CPU seconds so far of this process and of all that it started, also through others."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    total = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    for pid in _descendants():
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # children's too
    return total


def _descendants() -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    todo = [os.getpid()]
    while todo:
        for child in children.get(todo.pop(), ()):
            yield child
            todo.append(child)


def references(language: str, n: int) -> list[Program]:
    """`n` reference solutions of HumanEvalPack, spread over its problems: right and wrong ones."""
    task = tasks.task(f"humanevalsynthesize-{language}")
    problems = task.problems(data_dir(None))
    step = max(1, 2 * len(problems) // n)
    pairs = [task.references(problem) for problem in problems[::step]]
    return [program for pair in pairs if pair is not None for program in pair][:n]


@contextmanager
def ours(control: bool) -> Iterator[Judge]:
    """Judging in the sandbox, by one server that stays."""
    with open_sandbox(jobs=1) as sandbox:

        def judge(programs: Sequence[Program]) -> list[bool]:
            found = sorted(checker.check(programs, sandbox, control=control))
            return [execution.outcome is Outcome.PASSED for _, execution in found]

        yield judge


def without_long(programs: Sequence[Program]) -> list[Program]:
    """Those that end soon: what a long one takes, it takes in every arm."""
    with open_sandbox(jobs=1) as sandbox:
        found = sorted(checker.check(programs, sandbox, control=False))
    return [programs[place] for place, execution in found if execution.cpu_s < LONG_CPU_S]


@dataclass
class _Sum:
    cpu_s: float
    passed: list[bool]


def take_turns(arms: Mapping[str, Judge], programs: Sequence[Program]) -> list[dict[str, Any]]:
    """A row for each arm: its CPU time for all `programs`, what its first one took beyond that."""
    sums, first = {name: _Sum(0.0, []) for name in arms}, {}
    for name, judge in arms.items():
        before = cpu_s()
        judge(programs[:1])
        first[name] = cpu_s() - before
    for start in range(0, len(programs), TURN):
        turn = programs[start : start + TURN]
        for name, judge in arms.items():
            before = cpu_s()
            sums[name].passed += judge(turn)
            sums[name].cpu_s += cpu_s() - before
    return [
        {
            "arm": name,
            "n_programs": len(programs),
            "passed": one.passed,
            "cpu_s": round(one.cpu_s, 3),
            "first_cpu_s": round(first[name], 3),
        }
        for name, one in sums.items()
    ]
