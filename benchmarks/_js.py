"""JavaScript: `node` for each program, ours, and the floor below both.

node            `node test.js` as the BigCode metric runs it, with nothing around it; a program
                passes when nothing is printed
ours            the sandbox; passes are not checked twice
ours, control   the same, and each pass must fail tests that nothing can pass
floor           our driver with our options, without any sandbox

Variables that make Node.js read more at its start (`NODE_EXTRA_CA_CERTS`, OpenSSL's) are taken out
of the environment of the plain way: they are this machine's, and would flatter ours.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from _measuring import Judge, ours, references, take_turns, without_long

from astraios.languages.js import language
from astraios.records import Program

TOKEN_BYTES = 16


def measure(n: int) -> list[dict[str, Any]]:
    """A row for each way of judging `n` references, right and wrong ones."""
    programs = without_long(references("js", n))
    with ExitStack() as stack:
        arms: dict[str, Judge] = {
            "node": lambda programs: [plain(program) for program in programs],
            "ours": stack.enter_context(ours(control=False)),
            "ours, control": stack.enter_context(ours(control=True)),
            "floor": lambda programs: [floor(program) for program in programs],
        }
        return take_turns(arms, programs)


def plain(program: Program) -> bool:
    """Whether it passes as the metric decides."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test.js").write_text(f"{program.code}\n{program.tests}")
        prepared = dict(language.recipe().folders)["prepared"]  # has the package js-md5
        environment = {"PATH": os.environ["PATH"], "NODE_PATH": prepared}
        done = subprocess.run(
            ["node", "test.js"], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, check=False,
        )  # fmt: skip
        return not done.stdout and not done.stderr


def floor(program: Program) -> bool:
    """The least that our command takes."""
    recipe = language.recipe()
    places = dict(recipe.folders)
    command = [word.format(**places) for word in recipe.run]
    environment = {name: value.format(**places) for name, value in recipe.environment}
    after = language.harness(program.tests).after.replace("@secret@", "a" * 20)
    ours_end, theirs = socket.socketpair()
    token = os.urandom(TOKEN_BYTES)
    ours_end.sendall(token + b"\0")
    with tempfile.TemporaryDirectory() as folder, ours_end:
        Path(folder, recipe.source).write_text(f"{program.code}\n{after}")
        with theirs:
            done = subprocess.run(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, check=False,
                capture_output=True, pass_fds=[3], preexec_fn=lambda: os.dup2(theirs.fileno(), 3),
            )  # fmt: skip
        ours_end.setblocking(False)
        try:
            earned = ours_end.recv(64).startswith(token)
        except (BlockingIOError, ConnectionError):
            earned = False
        return earned and not done.returncode and not done.stdout and not done.stderr
