"""Spreading programs over servers.

One thread and one selector: every server has its own program running and the next one waiting in
its socket. Programs are taken from the source a few at a time, so memory stays flat, and a server
that has nothing left takes from the one that has most.
"""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from astraios.errors import SandboxError
from astraios.records import Execution, Outcome
from astraios.sandbox import adapters, levels
from astraios.sandbox.levels import LEVELS, LevelReport
from astraios.sandbox.limits import Limits
from astraios.sandbox.recipe import Harness, Recipe
from astraios.sandbox.server import Server, ServerDied

__all__ = ["Job", "Sandbox", "open_sandbox", "probe"]

log = logging.getLogger(__name__)

_AHEAD = 2
"""Programs a server has in its socket: one runs, one waits."""
_LONG_S = 0.2
"""A program that takes longer holds up the one behind it, if other servers are idle."""
_CHUNK = 8
"""Programs taken from the source at once."""
_LARGEST_PROGRAM = 16 << 20
"""Characters; to compile more than this takes more memory than any limit allows."""
_GRACE_S = 20.0
"""A server that is this late with an answer is taken for dead."""


@dataclass(frozen=True)
class Job:
    """What the programs of a batch share."""

    tests: str
    limits: Limits
    preload: tuple[str, ...] = ()
    """Modules that the server imports once, before any program."""
    control: bool = True
    """Whether a pass is checked by tests that nothing honest can pass."""
    preamble: tuple[str, str] = ("", "")
    """What candidates begin with, trusted, and as much of it as they need: that is run once by a
    server instead of by each program."""
    recipe: Recipe | None = None
    """How to build and run the programs; None if the server's interpreter runs them."""
    harness: Harness | None = None
    """What stands around the candidates, for programs with a recipe; `tests` has no say then."""

    @property
    def kind(self) -> tuple[str, tuple[str, ...]]:
        """Jobs of one kind can share a server."""
        return (self.recipe.name if self.recipe else "", self.preload)


@dataclass
class _Item:
    key: int
    job: Job
    code: str
    n_deaths: int = 0
    answered: bool = False
    n_copies: int = 0
    """Servers it was sent to while it waited in another."""


class _Slot:
    """A place for one busy server; idle servers of other kinds are kept beside it."""

    def __init__(self) -> None:
        self.queue: deque[_Item] = deque()
        self.servers: dict[object, Server] = {}
        self.active: Server | None = None

    def open_items(self) -> list[_Item]:
        """What its server was sent and nobody has answered yet."""
        running = self.active.running if self.active is not None else ()
        return [item for item in running if not item.answered]


class Sandbox:
    """Servers that run programs at one level of isolation. Made by `open_sandbox`."""

    def __init__(self, level: str, jobs: int, first: Server) -> None:
        self.level = level
        """Name of the level, one of `LEVELS`."""
        self.jobs = jobs
        """Programs that run at the same time."""
        self._detail = dict(first.detail)
        self._packages = levels.packages()
        self._slots = [_Slot() for _ in range(jobs)]
        self._spare: Server | None = first
        self._is_busy = False

    def describe(self) -> dict[str, str]:
        """Facts for a manifest: the level and what is particular about it here."""
        return {"sandbox": self.level} | {f"sandbox_{k}": v for k, v in self._detail.items()}

    def run(self, programs: Iterable[tuple[int, Job, str]]) -> Iterator[tuple[int, Execution]]:
        """Run `(key, job, candidate)` and yield `(key, execution)` as each one ends.

        Programs of one job should follow each other. `programs` is consumed lazily.

        Raises:
            SandboxError: if servers cannot be started any more.
        """
        if self._is_busy:
            raise SandboxError("this sandbox is running programs already; open another one")
        self._is_busy = True
        try:
            yield from _Run(self._slots, self._start, iter(programs)).results()
        finally:
            self._is_busy = False

    def _start(self, job: Job) -> Server:
        server = None
        if job.recipe is None:
            server, self._spare = self._spare, None
        if server is None:
            server = Server(self.level, self._packages, job.recipe)
            reason = server.wait_until_ready()
            if reason:
                server.close()
                raise levels.refusal(self.level, reason)
        server.kind = job.kind
        if job.recipe is None:
            server.send({"preload": list(job.preload)})
        return server

    def close(self) -> None:
        """End all servers."""
        servers = [server for slot in self._slots for server in slot.servers.values()]
        if self._spare is not None:
            servers.append(self._spare)
            self._spare = None
        for slot in self._slots:
            slot.servers.clear()
            slot.active = None
        for server in servers:
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _ServerEndsError(Exception):
    """The server asks to be replaced."""


class _Run:
    """One pass over a source of programs."""

    def __init__(
        self,
        slots: list[_Slot],
        start: Any,
        source: Iterator[tuple[int, Job, str]],
    ) -> None:
        self._slots = slots
        self._start = start
        self._source = source
        self._next: _Item | None = None
        self._exhausted = False
        self._selector = selectors.DefaultSelector()
        self._ready: deque[tuple[int, Execution]] = deque()

    def results(self) -> Iterator[tuple[int, Execution]]:
        try:
            while True:
                for slot in self._slots:
                    self._feed(slot)
                while self._ready:
                    yield self._ready.popleft()
                open_items = [item for slot in self._slots for item in slot.open_items()]
                if open_items:
                    self._wait()
                elif self._exhausted and not any(slot.queue for slot in self._slots):
                    return
        finally:
            self._selector.close()
            self._drop_busy()

    # --- handing out ---------------------------------------------------------------------------

    def _feed(self, slot: _Slot) -> None:
        """Keep the slot's server supplied."""
        while True:
            if not slot.queue:
                self._fill(slot)
            if not slot.queue and not slot.open_items():
                self._rescue(slot)
            if not slot.queue:
                return
            item = slot.queue[0]
            server = slot.active
            if server is not None and server.running:
                if len(server.running) >= _AHEAD or server.kind != item.job.kind:
                    return
            else:
                server = self._activate(slot, item.job)
            slot.queue.popleft()
            try:
                self._send(server, item)
            except ServerDied as death:
                server.running.append(item)
                self._bury(slot, str(death))

    def _fill(self, slot: _Slot) -> None:
        first = self._take()
        if first is None:
            richest = max(self._slots, key=lambda other: len(other.queue))
            if len(richest.queue) > 1 or (richest is not slot and richest.queue):
                slot.queue.append(richest.queue.pop())
            return
        slot.queue.append(first)
        while len(slot.queue) < _CHUNK:
            item = self._take()
            if item is None:
                return
            if item.job != first.job:
                self._next = item
                return
            slot.queue.append(item)

    def _rescue(self, idle: _Slot) -> None:
        """Let an idle server run what waits behind a long program; the first answer counts."""
        for slot in self._slots:
            items = slot.open_items()
            if len(items) < 2 or items[1].n_copies or slot.active is None:
                continue
            if time.monotonic() > slot.active.began + _LONG_S:
                items[1].n_copies = 1
                idle.queue.append(items[1])
                return

    def _take(self) -> _Item | None:
        if self._next is not None:
            item, self._next = self._next, None
            return item
        while not self._exhausted:
            try:
                key, job, code = next(self._source)
            except StopIteration:
                self._exhausted = True
                break
            if len(code) <= _LARGEST_PROGRAM:
                return _Item(key, job, code)
            self._ready.append((key, _too_large(len(code))))
        return None

    def _activate(self, slot: _Slot, job: Job) -> Server:
        if slot.active is not None:
            self._selector.unregister(slot.active.socket)
            slot.active = None
        server = slot.servers.get(job.kind)
        if server is None:
            server = slot.servers[job.kind] = self._start(job)
        slot.active = server
        self._selector.register(server.socket, selectors.EVENT_READ, slot)
        return server

    def _send(self, server: Server, item: _Item) -> None:
        if server.job is not item.job and server.job != item.job:
            common = {"limits": asdict(item.job.limits), "control": item.job.control}
            if item.job.harness is None:
                preamble = item.job.preamble
                server.send({"tests": item.job.tests, "preamble": preamble, **common})
            else:
                server.send({"harness": asdict(item.job.harness), **common})
        server.job = item.job
        server.send({"run": item.key, "code": item.code})
        if not server.running:
            server.began, server.deadline = time.monotonic(), _deadline(item)
        server.running.append(item)

    # --- collecting ----------------------------------------------------------------------------

    def _wait(self) -> None:
        for slot in self._slots:
            server = slot.active
            if server is not None:
                events = selectors.EVENT_READ
                if server.wants_to_write:
                    events |= selectors.EVENT_WRITE
                self._selector.modify(server.socket, events, slot)
        idle = self._exhausted and not all(slot.open_items() for slot in self._slots)
        for key, _ in self._selector.select(timeout=_LONG_S / 2 if idle else 1.0):
            slot = key.data
            server = slot.active
            if server is None:
                continue
            try:
                server.flush()
                for answer in server.answers():
                    self._accept(server, answer)
            except _ServerEndsError:
                self._bury(slot, "")
            except ServerDied as death:
                self._bury(slot, str(death))
        now = time.monotonic()
        for slot in self._slots:
            if slot.active is not None and slot.active.running and now > slot.active.deadline:
                self._bury(slot, "no answer in time")

    def _accept(self, server: Server, answer: dict[str, Any]) -> None:
        if "died" in answer:
            raise ServerDied(str(answer["died"]))
        if not server.running or answer.get("ran") != server.running[0].key:
            raise ServerDied("an answer to a question that was not asked")
        item = server.running.popleft()
        if not item.answered:
            item.answered = True
            self._ready.append((item.key, _execution(answer)))
        if answer.get("last"):
            raise _ServerEndsError
        if server.running:
            server.began, server.deadline = time.monotonic(), _deadline(server.running[0])

    def _bury(self, slot: _Slot, why: str) -> None:
        """Replace a dead server; its program is tried once more, then it is a fault.

        Without a reason the server has ended in good order, and no program is the suspect.
        """
        server = slot.active
        assert server is not None and server.kind is not None
        self._selector.unregister(server.socket)
        slot.active = None
        del slot.servers[server.kind]
        server.close()
        waiting = [item for item in server.running if not item.answered]
        if waiting and why:
            waiting[0].n_deaths += 1
            if waiting[0].n_deaths > 1:
                text = f"the sandbox server died twice while it ran this program: {why}"
                waiting[0].answered = True
                self._ready.append(
                    (waiting.pop(0).key, Execution(outcome=Outcome.FAULT, message=text))
                )
        slot.queue.extendleft(reversed(waiting))

    def _drop_busy(self) -> None:
        """The caller stopped half-way: what still runs must not answer to the next caller."""
        for slot in self._slots:
            server = slot.active
            slot.queue.clear()
            slot.active = None
            if server is not None and server.running and server.kind is not None:
                del slot.servers[server.kind]
                server.close()


def _deadline(item: _Item) -> float:
    n_runs = 2 if item.job.control else 1
    wall_s = item.job.limits.wall_s
    if item.job.recipe is not None:
        wall_s += 2 * (len(item.job.recipe.build) or 1) * item.job.recipe.build_limits.wall_s
    return time.monotonic() + n_runs * (wall_s + _GRACE_S)


def _too_large(n_characters: int) -> Execution:
    text = f"{n_characters} characters; more than {_LARGEST_PROGRAM} are not compiled"
    return Execution(outcome=Outcome.COMPILE_ERROR, phase="compile", message=text)


def _execution(answer: dict[str, Any]) -> Execution:
    return Execution(
        outcome=Outcome(answer["outcome"]),
        phase=answer.get("phase", "run"),
        message=answer.get("message", ""),
        exit_code=answer.get("exit_code"),
        signal=answer.get("signal"),
        stderr=answer.get("error", ""),
        cpu_s=answer.get("cpu_s", 0.0),
        wall_s=answer.get("wall_s", 0.0),
        peak_mib=answer.get("peak_mib", 0.0),
    )


def open_sandbox(level: str = "auto", jobs: int | None = None) -> Sandbox:
    """Start a sandbox; use it in a `with` statement.

    Args:
        level: one of `LEVELS`; or `auto` for one that holds all that can be held; or `best` for the
            strongest that a harmless program shows to work on this machine, with a warning if it
            is a weaker one. Containers (`podman`, `docker`) are used only if named.
        jobs: programs to run at the same time; by default one for each usable core.

    Raises:
        UnknownNameError: for another level.
        MissingToolError: if the level asked for does not work here; says why and what helps.
        SandboxError: if `auto` finds none that holds everything, or `best` none at all.
    """
    levels.check_name(level)
    n_jobs = _cores() if jobs is None else jobs
    if n_jobs < 1:
        raise SandboxError(f"a sandbox runs at least one program at a time, not {n_jobs}")
    reasons: dict[str, str] = {}
    for candidate in levels.tried(level):
        server, reason = _try(candidate)
        if server is not None:
            for stronger, why in reasons.items():
                log.warning("sandbox level %r does not work here: %s", stronger, why)
            return Sandbox(candidate, n_jobs, server)
        reasons[candidate] = reason
    if level in LEVELS:
        raise levels.refusal(level, reasons[level])
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    if level == levels.AUTO:
        raise SandboxError(
            f"nothing here isolates programs completely ({listed}). `astraios doctor` shows what "
            "would help; --sandbox best takes the strongest level that works, docs/security.md "
            "says what it does not hold"
        )
    raise SandboxError(f"no sandbox level works here ({listed})")


def probe() -> list[LevelReport]:
    """Every level, strongest first: whether it works here, and if not why and what would help."""
    reports = []
    for level in LEVELS:
        server, reason = _try(level)
        if server is not None:
            server.close()
        else:
            reason = f"{reason}; {levels.remedy(level)}"
        reports.append(LevelReport(level, levels.TITLES[level], server is not None, reason))
    return reports


def _try(level: str) -> tuple[Server | None, str]:
    """A server of `level` that has run a harmless program, or why there is none."""
    reason = levels.unavailable_by_platform(level)
    if not reason and level in adapters.LEVELS:
        reason = adapters.missing(level)
    if reason:
        return None, reason
    server = Server(level, levels.packages())
    try:
        reason = server.wait_until_ready() or _harmless(server)
    except ServerDied as error:
        reason = f"a harmless program ended the server ({error})"
    if reason:
        server.close()
        return None, reason
    return server, ""


def _harmless(server: Server) -> str:
    """Empty if a right program passes and a wrong one fails."""
    limits = asdict(Limits(cpu_s=5.0, wall_s=20.0, memory_mib=1024))
    server.send(
        {"tests": "assert answer() == 42", "preamble": ("", ""), "limits": limits, "control": True}
    )
    expected = {"def answer(): return 42": "passed", "def answer(): return 41": "failed"}
    for code, outcome in expected.items():
        server.send({"run": 0, "code": code})
        answer = server.wait_for_answer()
        if answer.get("outcome") != outcome:
            return f"a harmless program was {answer.get('outcome')}: {answer.get('message')}"
    return ""


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
