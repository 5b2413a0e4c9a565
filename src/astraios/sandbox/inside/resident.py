"""A compiler that stays: one process for all programs of a server.

It reads sources from its standard input and answers on its standard output, in frames of 4 bytes
of length and a body:

    to it     the source text
    from it   0, then for each file made: 2 bytes of length, name, 4 bytes of length, content
              1, then what is wrong with the source, as text

It is asked about an empty source first: what does not answer that does not work on this machine,
whatever the programs are. It compiles and never runs what it compiles. It is out of reach of the
programs: in another process namespace, or where there are none, by the filter of system calls.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import time
from pathlib import Path
from typing import Any

from .confine import Child, Limits
from .native import Answer, CompilerDiedError, ConfinementError, clipped_answer, first_line
from .processes import kill

_LARGEST_ANSWER = 64 << 20
_OK = 0


class Resident:
    """The end of it that asks."""

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        child: Child,
        folder: str,
        limits: Limits,
        descriptor: int,
    ) -> None:
        """
        Args:
            command: starts it.
            environment: its environment.
            child: confines its process.
            folder: where it may be; it writes nothing.
            limits: of one compilation.
            descriptor: the socket to the grading process, which it must not have.
        """
        self._limits = limits
        questions, answers = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(descriptor)
            _become(command, environment, child, folder, questions[0], answers[1])
        os.close(questions[0])
        os.close(answers[1])
        self._questions, self._answers = questions[1], answers[0]
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._works = False
        with contextlib.suppress(OSError):  # it died at once, which is told when it is needed
            os.write(self._questions, struct.pack("!I", 0))

    def make(self, source: bytes, folder: Path) -> Answer | None:
        """Compile `source` into `folder`; what is wrong with it, if so.

        Raises:
            CompilerDiedError: if no answer came; the program is the suspect.
            ConfinementError: if it never answered anything.
        """
        self._wait_until_it_works()
        answer = self._ask(source)
        if answer[:1] != bytes([_OK]):
            text = answer[1:].decode("utf-8", "replace")
            return {**clipped_answer("compile_error", "compile", first_line(text)), "error": text}
        at = 1
        while at < len(answer):
            name, at = _chunk(answer, at, "!H")
            content, at = _chunk(answer, at, "!I")
            path = folder / name.decode()
            if path.parent != folder:
                raise CompilerDiedError(f"a file outside of the work folder: {path.name}")
            try:
                path.write_bytes(content)
            except (OSError, ValueError) as error:
                return clipped_answer("compile_error", "compile", f"{path.name}: {error}")
        return None

    def close(self) -> None:
        """Let go of it; its process is ended by others."""
        os.close(self._questions)
        os.close(self._answers)

    def _wait_until_it_works(self) -> None:
        if self._works:
            return
        try:
            self._take(time.monotonic() + self._limits.wall_s)
        except (OSError, EOFError) as error:
            reason = str(error) or "it ended"
            raise ConfinementError(f"the compiler does not work: {reason}") from error
        self._works = True

    def _ask(self, source: bytes) -> bytes:
        deadline = time.monotonic() + self._limits.wall_s
        try:
            os.write(self._questions, struct.pack("!I", len(source)))
            view = memoryview(source)
            while view:
                view = view[os.write(self._questions, view) :]
            return self._take(deadline)
        except (OSError, EOFError) as error:
            kill(self.pid)
            reason = str(error) or "it ended"
            raise CompilerDiedError(f"the compiler died: {reason}") from error

    def _take(self, deadline: float) -> bytes:
        """The next answer."""
        (length,) = struct.unpack("!I", self._read(4, deadline))
        if length > _LARGEST_ANSWER:
            raise CompilerDiedError(f"the compiler answers with {length} bytes")
        return self._read(length, deadline)

    def _read(self, n_bytes: int, deadline: float) -> bytes:
        parts = bytearray()
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        while len(parts) < n_bytes:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(1000 * left):
                raise OSError(f"no answer within {self._limits.wall_s:g} s")
            part = os.read(self._answers, min(n_bytes - len(parts), 1 << 20))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)


def _chunk(answer: bytes, at: int, size: str) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(size, answer, at)
    at += struct.calcsize(size)
    return answer[at : at + length], at + length


def _become(
    command: list[str],
    environment: dict[str, str],
    child: Child,
    folder: str,
    questions: int,
    answers: int,
) -> Any:
    try:
        nothing = os.open("/dev/null", os.O_RDWR)
        for descriptor, number in ((questions, 0), (answers, 1), (nothing, 2)):
            os.dup2(descriptor, number)
        child.confine_command(folder, 3)
        os.execve(command[0], command, environment)
    finally:
        os._exit(127)
