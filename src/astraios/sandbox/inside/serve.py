"""The loop of a server: one program, one process, at a time, and nothing left after it.

`serve` returns in a child only, with what the child has to run: so the child's stack holds none of
the server's frames. In the server itself it returns None when the grading process is gone.

Messages to a server                         its answers
    {"preload": [module, ...]}               (none)
    {"tests": text, "limits": {...},         (none)
     "preamble": [text, text], "control": bool}
    {"run": n, "code": candidate}            {"ran": n, "outcome": ..., ...}
or, where commands build and run programs,
    {"harness": {...}, "limits": {...},      (none)
     "control": bool}
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import random
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from os import wait4
from typing import Any

from . import frames, original, program
from .confine import CHANNEL, Child, Limits
from .native import Workshop
from .processes import cpu_s, end_all, keep, kill, kill_group, quick_fork, signal_name
from .workfolder import MemoryFolder, PlainFolder

_LARGEST_REPORT = 64 * 1024
_TICK_S = 0.05
"""How often the size of a plain work folder is looked at."""
_MIB = 1 << 20

Answer = dict[str, Any]


@dataclass
class Ending:
    """How a program's process ended."""

    report: bytes | None
    """What it wrote to its channel: from the token on, if the token is there."""
    passed_token: bool
    stopped: str
    """Why the server ended it: `cpu`, `wall`, `disk`, `flood`, or nothing."""
    status: int
    cpu_s: float
    wall_s: float
    peak_mib: float


class Server:
    """What stays the same over all programs of a server."""

    def __init__(
        self,
        control: frames.Channel,
        child: Child,
        folder: MemoryFolder | PlainFolder,
        alone: bool,
        workshop: Workshop | None = None,
    ) -> None:
        """
        Args:
            control: the socket to the grading process.
            child: confines the process of each program.
            folder: the work folder.
            alone: whether this is process 1, so that -1 means every process but this one.
            workshop: builds and runs programs that are not for this interpreter.
        """
        self._control = control
        self._child = child
        self._folder = folder
        self._alone = alone
        self._workshop = workshop
        self._limits = Limits(10, 40, 1024, 1024, 64, 16)
        self._tests: program.Tests | None = None
        self._wants_control = True
        self._wrong_tests = ""
        self._preamble: program.Preamble | None = None
        self._streams: original.Streams | None = None
        self._fork = quick_fork()
        keep(self)

    def serve(self) -> list[program.Task] | None:
        """Answer messages until the other side is gone; in a child, return its task."""
        while True:
            message = frames.read(self._control)
            if message is None:
                return None
            if self._workshop is not None:
                self._pass_on(message, self._workshop)
            elif "preload" in message:
                preload(message["preload"])
                # Once, here: it would cost each new process more.
                original.take_away()
                program.refuse_tracing()
                random.seed(0)  # for every program the same: verdicts should not be drawn
            elif "tests" in message:
                self._begin(message)
            else:
                candidate = message["code"]
                task = self._judge(message["run"], candidate)
                if task is not None:
                    return [task]

    @property
    def streams(self) -> original.Streams:
        """What a program reads from and prints to."""
        assert self._streams is not None
        return self._streams

    def _pass_on(self, message: dict[str, Any], workshop: Workshop) -> None:
        if "harness" in message:
            workshop.begin(message)
        elif "run" in message:
            self._answer(message["run"], workshop.judge(message["code"]))

    def _begin(self, message: dict[str, Any]) -> None:
        self._limits = Limits(**message["limits"])
        self._child.prepare(self._limits)
        self._wants_control = message["control"]
        self._tests, self._wrong_tests = None, ""
        if self._preamble is None or self._preamble.given != message["preamble"]:
            self._preamble = program.Preamble(*message["preamble"])
        self._streams = original.Streams(
            self._limits.output_kib * 1024, lambda: program.end_flooded(CHANNEL)
        )
        try:
            self._tests = program.Tests(message["tests"])
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self._wrong_tests = f"the tests do not compile: {error}"
            return
        preload(self._tests.modules)
        self._tests.watch()

    def _judge(self, number: int, candidate: str) -> program.Task | None:
        if self._tests is None:
            self._answer(number, {"outcome": "fault", "message": self._wrong_tests[:200]})
            return None
        assert self._preamble is not None
        task = program.Task(candidate, self._preamble, self._tests, is_control=False)
        ending = self._run(task)
        if ending is None:
            return task
        answer = _verdict(ending, self._limits)
        if answer["outcome"] == "passed" and self._wants_control:
            self._tests.control()  # compiled here, once for all candidates
            task = program.Task(candidate, self._preamble, self._tests, is_control=True)
            again = self._run(task)
            if again is None:
                return task
            if _verdict(again, self._limits)["outcome"] in ("passed", "forged"):
                answer["outcome"] = "forged"
                answer["message"] = "it passes tests that no program can pass"
        self._answer(number, answer)
        return None

    def _answer(self, number: int, answer: Answer) -> None:
        self._control.sendall(frames.pack({"ran": number, **answer}))

    def _run(self, task: program.Task) -> Ending | None:
        """Run `task` in a new process; None in that process."""
        self._folder.prepare(self._limits.disk_mib)
        ours, theirs = socket.socketpair()
        started = time.monotonic()
        pid = self._fork()
        if pid == 0:
            self._control.close()
            ours.close()
            program.confine_or_end(self._child, theirs.detach(), self._folder.path)
            return None
        theirs.close()
        token = os.urandom(program.TOKEN_BYTES)  # after the fork: not in its memory
        with ours:
            with contextlib.suppress(OSError):  # it died at once
                ours.sendall(token)
            report, has_token, stopped = self._watch(pid, ours, token, started)
            kill(pid)
            kill_group(pid)
            _, status, usage = wait4(pid, 0)
        end_all(self._alone)
        peak = usage.ru_maxrss / (1024 if sys.platform == "linux" else _MIB)
        return Ending(
            report, has_token, stopped, status,
            cpu_s=usage.ru_utime + usage.ru_stime,
            wall_s=time.monotonic() - started,
            peak_mib=peak,
        )  # fmt: skip

    def _watch(
        self, pid: int, channel: socket.socket, token: bytes, started: float
    ) -> tuple[bytes | None, bool, str]:
        """Wait for a report, the end of the process, or the end of its budget."""
        limits, received = self._limits, bytearray()
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        poll.register(self._control, 0)  # hang-ups are always told
        plain = isinstance(self._folder, PlainFolder)
        while True:
            cpu_left = limits.cpu_s - cpu_s(pid)
            wall_left = limits.wall_s - (time.monotonic() - started)
            if cpu_left <= 0 or wall_left <= 0:
                return None, False, "cpu" if cpu_left <= 0 else "wall"
            if plain and self._folder.used_mib() > limits.disk_mib:
                return None, False, "disk"
            wait_s = max(0.001, min(cpu_left, wall_left, 1.0))
            events = poll.poll(1000 * (min(wait_s, _TICK_S) if plain else wait_s))
            if any(handle == self._control.fileno() for handle, _ in events):
                kill(pid)
                os._exit(0)
            if not events:
                continue
            part = _receive(channel)
            received += part
            found = _complete(received, token)
            if found is not None:
                return found, True, ""
            if not part:
                return bytes(received), False, ""
            if len(received) > _LARGEST_REPORT:
                return None, False, "flood"


def preload(modules: list[str] | tuple[str, ...]) -> None:
    """Import what programs will import, once; objects made here are left alone by `gc`."""
    for name in modules:
        if name not in sys.modules:
            with contextlib.suppress(Exception):  # the program that needs it will say so
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _receive(channel: socket.socket) -> bytes:
    try:
        return channel.recv(_LARGEST_REPORT)
    except ConnectionError:
        return b""


def _complete(received: bytearray, token: bytes) -> bytes | None:
    """The report behind the token, once all of it is there."""
    at = received.find(token)
    if at < 0:
        return None
    rest = bytes(received[at + len(token) :])
    if len(rest) < program.HEAD.size:
        return None
    _, n_message, n_error = program.HEAD.unpack_from(rest)
    return rest if len(rest) >= program.HEAD.size + n_message + n_error else None


def _verdict(ending: Ending, limits: Limits) -> Answer:
    """Outcome and evidence; a pass needs the token."""
    answer: Answer = {
        "outcome": "crashed", "phase": "run", "message": "", "error": "",
        "exit_code": None, "signal": None,
        "cpu_s": round(ending.cpu_s, 6), "wall_s": round(ending.wall_s, 6),
        "peak_mib": round(ending.peak_mib, 2),
    }  # fmt: skip
    if ending.stopped:
        outcome, message = {
            "cpu": ("timed_out", f"used its {limits.cpu_s:g} s of CPU time"),
            "wall": ("timed_out", f"did not end within {limits.wall_s:g} s"),
            "disk": ("crashed", f"wrote more than {limits.disk_mib} MiB of files"),
            "flood": ("crashed", "wrote to the verdict channel"),
        }[ending.stopped]
        return {**answer, "outcome": outcome, "message": message}
    if ending.passed_token and ending.report is not None:
        kind = program.HEAD.unpack_from(ending.report)[0]
        if kind == program.PASSED:
            return {**answer, "outcome": "passed"}
        if kind == program.UNCONFINED:
            why = f"the sandbox did not hold: {_texts(ending.report)[0]}"
            return {**answer, "outcome": "fault", "message": why}
        return {**answer, "outcome": "forged", "message": "it changed functions the tests call"}
    report = ending.report or b""
    if report.startswith(program.NO_TOKEN):
        said = _failure(report[program.TOKEN_BYTES :])
        if said is not None:
            if said["outcome"] == "crashed":
                said["message"] = f"printed more than {limits.output_kib} KiB"
            return {**answer, **said}
    if os.WIFSIGNALED(ending.status):
        number = os.WTERMSIG(ending.status)
        if number == signal.SIGXCPU or ending.cpu_s >= limits.cpu_s:
            message = f"used its {limits.cpu_s:g} s of CPU time"
            return {**answer, "outcome": "timed_out", "message": message}
        answer["signal"] = number
        answer["message"] = f"ended by {signal_name(number)} before the tests were over"
    else:
        answer["exit_code"] = os.waitstatus_to_exitcode(ending.status)
        answer["message"] = "ended before the tests were over"
    return answer


def _failure(report: bytes) -> Answer | None:
    """What a report without token says; the program may have written it, so it is never a pass."""
    if len(report) < program.HEAD.size:
        return None
    kind, n_message, n_error = program.HEAD.unpack_from(report)
    outcomes = {
        program.FAILED: "failed",
        program.COMPILE_ERROR: "compile_error",
        program.OUT_OF_MEMORY: "out_of_memory",
        program.FLOODED: "crashed",
    }
    if kind not in outcomes or len(report) < program.HEAD.size + n_message + n_error:
        return None
    message, error = _texts(report)
    return {
        "outcome": outcomes[kind],
        "phase": "compile" if kind == program.COMPILE_ERROR else "run",
        "message": message,
        "error": error,
    }


def _texts(report: bytes) -> tuple[str, str]:
    """Message and error line of a report."""
    _, n_message, n_error = program.HEAD.unpack_from(report)
    text = report[program.HEAD.size :]
    error = text[n_message : n_message + n_error]
    return text[:n_message].decode("utf-8", "replace"), error.decode("utf-8", "replace")
