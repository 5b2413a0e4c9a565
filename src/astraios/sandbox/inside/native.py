"""Programs that commands build and run: every language but the interpreter's own.

A program is one source file, made of a candidate and the harness around it (`Harness` in
`sandbox/recipe.py` says what its driver does). It is built and run in the work folder, each
command in a process of its own; nothing is left of one when the next begins. It passes if the
driver's token came, the process ended by itself with status 0, and, where the recipe says so,
nothing was printed. Exit status 0 alone means nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import signal
import socket
import string
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import frames
from .confine import CHANNEL, Child, Limits
from .processes import cpu_s, end_all, kill, kill_group, signal_name
from .workfolder import MemoryFolder, PlainFolder, contents, put

TOKEN_BYTES = 16
PASSED = bytes(5)
REAL, IMPOSSIBLE = b"\x00", b"\x01"
SECRET = "@secret@"

_KEPT_BYTES = 8192
"""Of what a command prints."""
_CLIPPED = 200
_TICK_S = 0.05
_MIB = 1 << 20

Answer = dict[str, Any]


class ConfinementError(Exception):
    """A command's process could not be confined: our failure, and no verdict."""


class CompilerDiedError(Exception):
    """The resident compiler is gone; this server has to be replaced."""


@dataclass
class Ended:
    """How a command ended."""

    status: int
    stopped: str
    """Why the server ended it: `cpu`, `wall`, `disk`, `flood`, or nothing."""
    has_token: bool
    printed: bool
    error: str
    """What it printed, clipped: on standard error, or else on standard output."""
    cpu_s: float
    wall_s: float
    peak_mib: float

    @property
    def went_well(self) -> bool:
        """Whether it ended by itself with status 0."""
        return not self.stopped and self.status == 0


@dataclass
class _Print:
    """One stream of a command: its beginning is kept, all of it is counted."""

    descriptor: int
    n_bytes: int = 0
    kept: bytearray = field(default_factory=bytearray)

    def read(self) -> bool:
        """Take what is there; whether more may come."""
        part = os.read(self.descriptor, 1 << 16)
        self.n_bytes += len(part)
        self.kept += part[: max(0, _KEPT_BYTES - len(self.kept))]
        return bool(part)


class Workshop:
    """Builds and runs the programs of one recipe."""

    def __init__(
        self,
        recipe: dict[str, Any],
        folders: dict[str, str],
        children: dict[str, Child],
        folder: MemoryFolder | PlainFolder,
        control: frames.Channel,
        alone: bool,
        compiler: Any = None,
    ) -> None:
        """
        Args:
            recipe: fields of a `Recipe`.
            folders: recipe's name of a folder -> where it lies here.
            children: kind of filter -> what confines such a process.
            folder: the work folder.
            control: the socket to the grading process.
            alone: whether this is process 1.
            compiler: the resident compiler, if the recipe has one.
        """

        self._source = Path(folder.path, recipe["source"])
        self._build = [placed(command, folders) for command in recipe["build"]]
        self._run = placed(recipe["run"], folders)
        self._environment = environment_of(recipe, folders)
        self._error_line = re.compile(recipe["error_line"]) if recipe["error_line"] else None
        self._silent = recipe["silent"]
        self._reserved_mib = recipe["reserved_mib"]
        self._children = children
        self._folder = folder
        self._control = control
        self._alone = alone
        self._compiler = compiler
        self._build_limits = limits_of(recipe["build_limits"], recipe["reserved_mib"])
        children["build"].prepare(self._build_limits)
        self._limits = self._build_limits
        self._harness: dict[str, str] = {}
        self._wants_control = True

    def begin(self, message: dict[str, Any]) -> None:
        """Take harness and limits of the programs that follow."""
        self._harness = message["harness"]
        self._limits = limits_of(message["limits"], self._reserved_mib)
        self._children["run"].prepare(self._limits)
        self._wants_control = message["control"]

    def judge(self, candidate: str) -> Answer:
        """Evidence of one program."""
        try:
            return self._judge(candidate)
        except ConfinementError as error:
            return {"outcome": "fault", "message": f"the sandbox did not hold: {error}"[:_CLIPPED]}
        except CompilerDiedError as error:
            answer = clipped_answer("compile_error", "compile", str(error))
            return {**answer, "last": True}

    def _judge(self, candidate: str) -> Answer:
        harness = self._harness
        joint = bool(harness["joint"])
        problem = self._make(candidate, harness["joint"] or harness["after"])
        if problem is not None and joint and not self._is_sure(problem, candidate):
            # The impossible tests may be what does not compile: then it takes two programs.
            joint = False
            problem = self._make(candidate, harness["after"])
        if problem is not None:
            return problem
        made = contents(self._folder.path) if joint and self._wants_control else []
        ended = self._execute(self._run, "run", self._limits, REAL)
        answer = self._verdict(ended)
        if answer["outcome"] == "passed" and self._wants_control:
            if joint:  # a file that the first run left, or a file's age, would tell it the second
                self._folder.prepare(self._build_limits.disk_mib)
                put(self._folder.path, made)
            elif self._make(candidate, harness["impossible"]) is not None:
                answer["outcome"] = "forged"
                answer["message"] = "tests with other expectations do not compile with it"
                return answer
            again = self._execute(self._run, "run", self._limits, IMPOSSIBLE)
            if self._verdict(again)["outcome"] == "passed":
                answer["outcome"] = "forged"
                answer["message"] = "it passes tests that no program can pass"
        return answer

    # --- building ------------------------------------------------------------------------------

    def _make(self, candidate: str, after: str) -> Answer | None:
        """Put the program into an empty work folder and build it; what is wrong with it, if so."""
        self._folder.prepare(self._build_limits.disk_mib)
        secret = "".join(secrets.choice(string.ascii_lowercase) for _ in range(20))
        before = self._harness["before"].replace(SECRET, secret)
        text = f"{before}{candidate}\n{after.replace(SECRET, secret)}"
        data = text.encode("utf-8", "surrogatepass")
        if self._compiler is not None:
            problem: Answer | None = self._compiler.make(data, Path(self._folder.path))
            return problem
        try:
            self._source.write_bytes(data)
        except OSError as error:
            return clipped_answer("compile_error", "compile", f"the source file: {error.strerror}")
        for command in self._build:
            ended = self._execute(command, "build", self._build_limits)
            if ended.went_well:
                continue
            why = _stopped(ended, self._build_limits, "the compiler ")
            if why is not None:
                return {**why, "phase": "compile", "outcome": "compile_error", "final": True}
            answer = clipped_answer("compile_error", "compile", first_line(ended.error))
            return {**answer, **_facts(ended), "error": ended.error}
        if self._build:
            self._source.unlink(missing_ok=True)
        return None

    def _is_sure(self, problem: Answer, candidate: str) -> bool:
        """Whether the compiler would complain about the candidate whatever the tests are."""
        if problem.pop("final", False):
            return True
        found = self._error_line and self._error_line.search(problem.get("error", ""))
        if not found:
            return False
        last = self._harness["before"].count("\n") + candidate.count("\n") + 1
        return int(found["line"]) <= last

    # --- running -------------------------------------------------------------------------------

    def _verdict(self, ended: Ended) -> Answer:
        answer = clipped_answer("crashed", "run", "") | _facts(ended)
        why = _stopped(ended, self._limits, "")
        if why is not None:
            return answer | why
        answer["error"] = ended.error
        if os.WIFSIGNALED(ended.status):
            number = os.WTERMSIG(ended.status)
            if number == signal.SIGXCPU or ended.cpu_s >= self._limits.cpu_s:
                message = f"used its {self._limits.cpu_s:g} s of CPU time"
                return answer | {"outcome": "timed_out", "message": message}
            answer["signal"] = number
            answer["message"] = f"ended by {signal_name(number)} before the tests were over"
            return answer
        answer["exit_code"] = os.waitstatus_to_exitcode(ended.status)
        if not ended.has_token:
            answer["message"] = "ended before the tests were over"
        elif answer["exit_code"]:
            answer["message"] = f"ended with status {answer['exit_code']} after the tests"
        elif self._silent and ended.printed:
            answer["outcome"], answer["message"] = "failed", first_line(ended.error)
        else:
            answer["outcome"] = "passed"
        return answer

    def _execute(
        self, command: list[str], kind: str, limits: Limits, mode: bytes | None = None
    ) -> Ended:
        """Run `command` in a confined process and end whatever it leaves.

        Raises:
            ConfinementError: if its process could not be confined.
        """
        started = time.monotonic()
        ours, theirs = socket.socketpair()
        out, err, failure = os.pipe(), os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become(command, kind, (theirs.fileno(), out[1], err[1], failure[1]))
        theirs.close()
        for pipe in (out, err, failure):
            os.close(pipe[1])
        token = os.urandom(TOKEN_BYTES)
        try:
            problem = os.read(failure[0], 4096)
            if problem:
                raise ConfinementError(problem.decode("utf-8", "replace"))
            if mode is not None:
                with contextlib.suppress(OSError):  # it died at once
                    ours.sendall(token + mode)
            watch = _Watch(pid, ours, _Print(out[0]), _Print(err[0]), self._control)
            watch.until_end(limits, self._folder, started)
        finally:
            kill(pid)
            kill_group(pid)
            _, status, usage = os.wait4(pid, 0)
            end_all(self._alone, None if self._compiler is None else self._compiler.pid)
            ours.close()
            for pipe in (out, err, failure):
                os.close(pipe[0])
        printed = watch.err.kept or watch.out.kept
        return Ended(
            status=status,
            stopped=watch.stopped,
            has_token=watch.received == token + PASSED,
            printed=bool(printed),
            error=bytes(printed).decode("utf-8", "replace"),
            cpu_s=usage.ru_utime + usage.ru_stime,
            wall_s=time.monotonic() - started,
            peak_mib=usage.ru_maxrss / 1024,
        )

    def _become(self, command: list[str], kind: str, descriptors: tuple[int, ...]) -> None:
        """In the new process: confine, and turn into `command`."""
        channel, out, err, failure = descriptors
        try:
            # Out of the way first: 0 to 3 are given new meanings.
            channel, out, err, failure = (
                _above(descriptor) for descriptor in (channel, out, err, failure)
            )
            nothing = os.open("/dev/null", os.O_RDWR)
            for descriptor, number in ((nothing, 0), (out, 1), (err, 2), (channel, CHANNEL)):
                os.dup2(descriptor, number)
            os.dup2(failure, CHANNEL + 1, inheritable=False)
            failure = CHANNEL + 1
            self._children[kind].confine_command(self._folder.path, CHANNEL + 2)
            os.execve(command[0], command, self._environment)
        except BaseException as error:
            os.write(failure, f"{command[0]}: {error}".encode("utf-8", "replace"))
        finally:
            os._exit(127)


def placed(command: list[str], folders: dict[str, str]) -> list[str]:
    """`command` with the folders' places in it."""
    return [_place(part, folders) for part in command]


def environment_of(recipe: dict[str, Any], folders: dict[str, str]) -> dict[str, str]:
    """The environment of a recipe's commands."""
    return {name: _place(value, folders) for name, value in recipe["environment"]}


def limits_of(fields: dict[str, Any], reserved_mib: int = 0) -> Limits:
    """Limits of a command: runtimes reserve address space, and keep more files open."""
    return Limits(**fields, n_files=256, data_only=True, reserved_mib=reserved_mib)


def _place(text: str, folders: dict[str, str]) -> str:
    for name, path in folders.items():
        text = text.replace(f"{{{name}}}", path)
    return text


def _above(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 32)


class _Watch:
    """Follows a command until it ends or its budget does."""

    def __init__(
        self, pid: int, channel: socket.socket, out: _Print, err: _Print, control: frames.Channel
    ) -> None:
        self.out, self.err = out, err
        self.stopped = ""
        self.received = bytearray()
        self._pid = pid
        self._channel = channel
        self._control = control.fileno()
        self._handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None

    def until_end(self, limits: Limits, folder: MemoryFolder | PlainFolder, started: float) -> None:
        """Return when it has ended, or `stopped` says why it must."""
        poll = select.poll()
        readers: dict[int, Callable[[], bool]] = {
            self.out.descriptor: self.out.read,
            self.err.descriptor: self.err.read,
            self._channel.fileno(): self._receive,
        }
        for descriptor in readers:
            poll.register(descriptor, select.POLLIN)
        poll.register(self._control, 0)  # hang-ups are always told
        if self._handle is not None:
            poll.register(self._handle, select.POLLIN)
        ticks = isinstance(folder, PlainFolder) or self._handle is None
        try:
            while not self.stopped:
                cpu_left = limits.cpu_s - cpu_s(self._pid)
                wall_left = limits.wall_s - (time.monotonic() - started)
                if cpu_left <= 0 or wall_left <= 0:
                    self.stopped = "cpu" if cpu_left <= 0 else "wall"
                    return
                if isinstance(folder, PlainFolder) and folder.used_mib() > limits.disk_mib:
                    self.stopped = "disk"
                    return
                wait_s = max(0.001, min(cpu_left, wall_left, _TICK_S if ticks else 1.0))
                ended = self._handle is None and self._has_ended()
                for descriptor, _ in poll.poll(0 if ended else 1000 * wait_s):
                    if descriptor == self._control:
                        kill(self._pid)
                        os._exit(0)
                    if descriptor == self._handle:
                        ended = True
                    elif not readers[descriptor]():
                        poll.unregister(descriptor)
                        del readers[descriptor]
                if self.out.n_bytes + self.err.n_bytes > limits.output_kib * 1024:
                    self.stopped = "flood"
                if ended:
                    self._drain(readers)
                    return
        finally:
            if self._handle is not None:
                os.close(self._handle)

    def _drain(self, readers: dict[int, Callable[[], bool]]) -> None:
        """What it wrote before it ended; never waits, others may hold the pipes."""
        for descriptor, read in readers.items():
            os.set_blocking(descriptor, False)
            try:
                while read() and self.out.n_bytes + self.err.n_bytes < 64 * _MIB:
                    pass
            except BlockingIOError:
                continue

    def _receive(self) -> bool:
        try:
            part = self._channel.recv(4096)
        except ConnectionError:
            return False
        self.received += part
        if len(self.received) > 4096:
            self.stopped = "channel"
        return bool(part)

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


# --- answers ----------------------------------------------------------------------------------


def clipped_answer(outcome: str, phase: str, message: str) -> Answer:
    """An answer that holds no more than it may."""
    return {
        "outcome": outcome, "phase": phase, "message": message[:_CLIPPED], "error": "",
        "exit_code": None, "signal": None, "cpu_s": 0.0, "wall_s": 0.0, "peak_mib": 0.0,
    }  # fmt: skip


def _facts(ended: Ended) -> Answer:
    return {
        "cpu_s": round(ended.cpu_s, 6),
        "wall_s": round(ended.wall_s, 6),
        "peak_mib": round(ended.peak_mib, 2),
    }


def _stopped(ended: Ended, limits: Limits, who: str) -> Answer | None:
    """Outcome and message of what the server ended."""
    if not ended.stopped:
        return None
    outcome, message = {
        "cpu": ("timed_out", f"used its {limits.cpu_s:g} s of CPU time"),
        "wall": ("timed_out", f"did not end within {limits.wall_s:g} s"),
        "disk": ("crashed", f"wrote more than {limits.disk_mib} MiB of files"),
        "flood": ("crashed", f"printed more than {limits.output_kib} KiB"),
        "channel": ("crashed", "wrote to the verdict channel"),
    }[ended.stopped]
    return {**clipped_answer(outcome, "run", who + message), **_facts(ended)}


def first_line(text: str) -> str:
    """The first line that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:_CLIPPED]
