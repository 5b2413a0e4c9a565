"""The grading process's end of one server."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

from astraios.errors import SandboxError
from astraios.sandbox import adapters
from astraios.sandbox.inside import frames
from astraios.sandbox.inside.workfolder import PACKAGES, WORK, empty
from astraios.sandbox.recipe import Recipe

__all__ = ["Server", "ServerDied"]

_LARGEST_ANSWER = 64 * 1024
_START_S = 60.0
"""A server starts in 0.2 s; a machine that swaps may take longer."""


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
        self._folder = _folder(level, packages)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self.socket, theirs = socket.socketpair()
            with theirs:
                descriptor = theirs.fileno()
                self._launch = adapters.launch(level, packages, recipe, descriptor, self._folder)
                self._process = self._start(self._launch, descriptor)
        except BaseException:
            self._said.close()
            self._remove_folder()
            raise
        self.socket.setblocking(False)
        order = {
            "level": level, "packages": packages, "folder": self._folder,
            "recipe": asdict(recipe) if recipe else None, "seed": self._process.pid,
            **self._launch.order,
        }  # fmt: skip
        self._out += frames.pack(order)  # not sent yet: if it has ended, `wait_until_ready` tells

    def _start(self, launch: adapters.Launch, descriptor: int) -> subprocess.Popen[bytes]:
        stream = descriptor if launch.by_streams else subprocess.DEVNULL
        return subprocess.Popen(
            launch.command,
            stdin=stream,
            stdout=stream,
            stderr=self._said,
            env=launch.environment,
            cwd="/",
            pass_fds=() if launch.by_streams else (descriptor,),
            start_new_session=True,
        )

    def _complaint(self) -> str:
        """The last line of substance that the command printed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # what it says comes before its end
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - 2000))
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        told = [line.strip() for line in lines if line.strip() and not line.startswith("Run '")]
        return told[-1][:300] if told else ""

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
            return f"the server did not start ({self._complaint() or error})"
        if not answer.get("ready"):
            return str(answer.get("reason", "no reason given"))
        self.detail = {**self._launch.detail, **answer.get("detail", {})}
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
                self._process.wait(self._launch.patience_s)
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                self._process.wait(10)
                self._remove_container()
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"sandbox server {self._process.pid} does not end") from error
        finally:
            self._said.close()
            self._remove_folder()

    def _remove_container(self) -> None:
        """A killed client leaves its container running."""
        if self._launch.removal:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    self._launch.removal, capture_output=True, check=False, timeout=30,
                    stdin=subprocess.DEVNULL, cwd="/",
                )  # fmt: skip

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


def _folder(level: str, packages: dict[str, list[str]]) -> str | None:
    """A folder of this machine, where a server needs one."""
    if level in ("namespaces", "bubblewrap"):
        return None
    if level not in adapters.CONTAINERS:
        return _plain_folder(packages)
    folder = Path(tempfile.mkdtemp(prefix="astraios-sandbox-"))
    adapters.copy_code(folder)
    return str(folder)


def _plain_folder(packages: dict[str, list[str]]) -> str:
    """A folder for the levels without a root of their own: one to work in, one to import from."""
    folder = Path(tempfile.mkdtemp(prefix="astraios-sandbox-"))
    folder.chmod(0o755)
    (folder / WORK).mkdir()
    (folder / PACKAGES).mkdir()
    for path in (Path(path) for many in packages.values() for path in many):
        (folder / PACKAGES / path.name).symlink_to(path)
    return str(folder)
