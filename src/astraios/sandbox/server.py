"""The grading process's end of one server."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

from astraios.errors import SandboxError
from astraios.sandbox.inside import frames
from astraios.sandbox.inside.workfolder import PACKAGES, WORK, empty
from astraios.sandbox.recipe import Recipe

__all__ = ["Server", "ServerDied"]

_LARGEST_ANSWER = 64 * 1024
_START_S = 60.0
"""A server starts in 0.2 s; a machine that swaps may take longer."""
_BOOT = "import sys; sys.path.insert(0, {folder!r}); from inside.boot import main; main({fd})"


class ServerDied(Exception):  # noqa: N818
    """The other side is gone or talks nonsense; the program it was running is the suspect."""


class Server:
    """A server process and the bytes on their way to and from it."""

    def __init__(
        self, level: str, packages: dict[str, list[str]], recipe: Recipe | None = None
    ) -> None:
        """Start a process; `wait_until_ready` or an answer tells how that went."""
        self.level = level
        self.detail: dict[str, str] = {}
        self.kind: object = None
        """What it was prepared for, see `Job.kind`."""
        self.job: object = None
        """The batch whose tests it holds."""
        self.running: deque[Any] = deque()
        """What was sent and not answered yet, in order."""
        self.began, self.deadline = 0.0, float("inf")
        """When what it runs was begun, and when it has to be over."""
        self._out, self._in = bytearray(), bytearray()
        self._folder = None if level == "namespaces" else _plain_folder(packages)
        try:
            self.socket, theirs = socket.socketpair()
            with theirs:
                self._process = self._start(theirs.fileno())
        except BaseException:
            self._remove_folder()
            raise
        self.socket.setblocking(False)
        self.send({
            "level": level, "packages": packages, "folder": self._folder,
            "recipe": asdict(recipe) if recipe else None,
        })  # fmt: skip

    @staticmethod
    def _start(descriptor: int) -> subprocess.Popen[bytes]:
        boot = _BOOT.format(folder=str(Path(__file__).parent), fd=descriptor)
        # Not -I: a fixed hash seed must come in, so that programs which print or compare sets
        # get the same verdict every time. The environment is ours and holds nothing else.
        return subprocess.Popen(
            [sys.executable, "-P", "-s", "-S", "-c", boot],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PYTHONHASHSEED": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            cwd="/",
            pass_fds=(descriptor,),
            start_new_session=True,
        )

    def wait_for_answer(self) -> dict[str, Any]:
        """The next answer, waited for; used before there is a selector.

        Raises:
            ServerDied: if none comes.
        """
        self.socket.settimeout(_START_S)
        try:
            self.socket.sendall(self._out)
            self._out.clear()
            answer = frames.read(self.socket)
            self.socket.setblocking(False)
        except (OSError, ValueError) as error:
            raise ServerDied(str(error)) from error
        if answer is None:
            raise ServerDied("it ended")
        return answer

    def wait_until_ready(self) -> str:
        """Wait for the server to have entered its level; the reason if it could not."""
        try:
            answer = self.wait_for_answer()
        except ServerDied as error:
            return f"the server did not start ({error})"
        if not answer.get("ready"):
            return str(answer.get("reason", "no reason given"))
        self.detail = dict(answer.get("detail", {}))
        return ""

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes are waiting to be sent."""
        return bool(self._out)

    def send(self, message: dict[str, Any]) -> None:
        """Queue `message`, and send what the socket takes."""
        self._out += frames.pack(message)
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes.

        Raises:
            ServerDied: if nobody listens.
        """
        while self._out:
            try:
                sent = self.socket.send(memoryview(self._out)[: 1 << 20])
            except BlockingIOError:
                return
            except OSError as error:
                raise ServerDied(str(error)) from error
            del self._out[:sent]

    def answers(self) -> list[dict[str, Any]]:
        """Every whole answer that has arrived.

        Raises:
            ServerDied: if the server is gone or its answer is none.
        """
        try:
            while part := self.socket.recv(1 << 16):
                self._in += part
            gone = True
        except BlockingIOError:
            gone = False
        except OSError as error:
            raise ServerDied(str(error)) from error
        found = []
        try:
            while (message := frames.take(self._in, _LARGEST_ANSWER)) is not None:
                found.append(message)
        except ValueError as error:
            raise ServerDied(str(error)) from error
        if gone and not found:
            raise ServerDied("it ended")
        return found

    def close(self) -> None:
        """End the process and everything inside it."""
        self.socket.close()  # it ends by itself when this goes, and then its times are counted
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait(10)
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"sandbox server {self._process.pid} does not end") from error
        finally:
            self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is None:
            return
        deadline = time.monotonic() + 5
        while True:  # a program that is being killed may still write
            with contextlib.suppress(OSError):
                empty(str(Path(self._folder, WORK)))
            shutil.rmtree(self._folder, ignore_errors=True)
            if not os.path.exists(self._folder) or time.monotonic() > deadline:  # noqa: PTH110
                return
            time.sleep(0.01)


def _plain_folder(packages: dict[str, list[str]]) -> str:
    """A folder for the levels without a root of their own: one to work in, one to import from."""
    folder = Path(tempfile.mkdtemp(prefix="astraios-sandbox-"))
    folder.chmod(0o755)
    (folder / WORK).mkdir()
    (folder / PACKAGES).mkdir()
    for path in (Path(path) for many in packages.values() for path in many):
        (folder / PACKAGES / path.name).symlink_to(path)
    return str(folder)
