"""Programs to a checker, evidence back: each one once, faults tried again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from astraios.checkers import Checker
from astraios.errors import SandboxError
from astraios.records import Execution, Findings, Outcome, Program
from astraios.sandbox import Sandbox

N_TRIES = 3
"""Runs of one program before a fault of ours is reported."""


@dataclass(eq=False)
class Slot:
    """A program to run once, for all answers that come to it."""

    program: Program | None
    """None once it has run."""
    evidence: Execution | Findings | None = None
    is_ready: bool = False
    n_tries: int = 0


class Checking:
    """Feeds slots to the checker and takes the evidence back; tries faults again."""

    def __init__(self, checker: Checker, sandbox: Sandbox) -> None:
        self.checker = checker
        self.sandbox = sandbox
        self._again: deque[Slot] = deque()
        self._out: dict[int, Slot] = {}

    def run(self, slots: Iterable[Slot]) -> Iterator[Slot]:
        """Yield every slot once, when its evidence is there."""
        yield from self._pass(slots)
        while self._again:  # faults that came back when nothing was left to feed
            yield from self._pass(())

    def _pass(self, slots: Iterable[Slot]) -> Iterator[Slot]:
        self._out.clear()
        for position, evidence in self.checker.check(self._programs(slots), self.sandbox):
            slot = self._out.pop(position)
            slot.n_tries += 1
            if _is_fault(evidence) and slot.n_tries < N_TRIES:
                self._again.append(slot)
                continue
            slot.evidence, slot.is_ready, slot.program = evidence, True, None
            yield slot
        if self._out:
            raise SandboxError(
                f"the checker left {len(self._out)} programs without an answer; "
                "run the same command again to judge them"
            )

    def _programs(self, slots: Iterable[Slot]) -> Iterator[Program]:
        for position, slot in enumerate(self._with_second_tries(slots)):
            assert slot.program is not None
            self._out[position] = slot
            yield slot.program

    def _with_second_tries(self, slots: Iterable[Slot]) -> Iterator[Slot]:
        for slot in slots:
            while self._again:
                yield self._again.popleft()
            yield slot
        while self._again:
            yield self._again.popleft()


def _is_fault(evidence: Execution | Findings) -> bool:
    return isinstance(evidence, Execution) and evidence.outcome is Outcome.FAULT
