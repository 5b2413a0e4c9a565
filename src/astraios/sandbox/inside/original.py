"""What the original harness takes away from a Python program before running it.

The BigCode harness (its `custom_metrics/execute.py`, after OpenAI's human-eval) sets functions to
None and swaps the streams; a program that touches them fails there, so it must fail here. None of
it protects anything: the sandbox does.
"""

from __future__ import annotations

import builtins
import faulthandler
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

_OF_BUILTINS = ("exit", "quit")
_OF_OS = (
    "kill", "system", "putenv", "remove", "removedirs", "rmdir", "fchdir", "setuid", "fork",
    "forkpty", "killpg", "rename", "renames", "truncate", "replace", "unlink", "fchmod", "fchown",
    "chmod", "chown", "chroot", "lchflags", "lchmod", "lchown", "getcwd", "chdir",
)  # fmt: skip
_OF_SHUTIL = ("rmtree", "move", "chown")
_MODULES = ("ipdb", "joblib", "psutil", "tkinter")


class Streams(io.StringIO):
    """Standard input, output and error in one: takes writes, refuses reads, counts characters."""

    def __init__(self, largest: int, flooded: Callable[[], None]) -> None:
        super().__init__()
        self._left = largest
        self._flooded = flooded

    def write(self, text: str) -> int:
        self._left -= len(text)
        if self._left < 0:
            self._flooded()
        return super().write(text)

    def read(self, *_: object) -> str:
        raise OSError

    def readline(self, *_: object) -> str:  # type: ignore[override]
        raise OSError

    def readlines(self, *_: object) -> list[str]:  # type: ignore[override]
        raise OSError

    def readable(self) -> bool:
        return False


def take_away() -> None:
    """Set the functions to None; of the environment, leave what the original puts there.

    Done once in a server: a new process would have to copy all it touches.
    """
    faulthandler.disable()
    os.environ.clear()
    os.environ["OMP_NUM_THREADS"] = "1"
    for module, gone in (
        (builtins, _OF_BUILTINS), (os, _OF_OS), (shutil, _OF_SHUTIL), (subprocess, ("Popen",)),
    ):  # fmt: skip
        for name in gone:
            setattr(module, name, None)
    builtins.help = None  # type: ignore[assignment]
    for name in _MODULES:
        sys.modules[name] = None  # type: ignore[assignment]


def hide_resource() -> None:
    """Hide the last module that the original hides; a server needs it to wait for children."""
    sys.modules["resource"] = None  # type: ignore[assignment]


def swap_streams(streams: Streams) -> None:
    """Replace the three standard streams."""
    sys.stdin = sys.stdout = sys.stderr = streams
