"""What benchmarks of languages with a compiler share: the plain way, and the floor."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from _measuring import Judge

from astraios.languages import Language
from astraios.records import Program

CPU_S = 60
TOKEN_BYTES = 16


def plain(
    name: str, commands: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None
) -> Judge:
    """Judging by commands in a new folder with file `name`: a pass is that all end with status 0.

    That is no proof of a pass; here it is compared with ours.
    """

    def judge(program: Program) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, name).write_text(f"{program.code}\n{program.tests}", encoding="utf-8")
            return all(_status(command, folder, environment) == 0 for command in commands)

    return lambda programs: [judge(program) for program in programs]


def _status(
    command: Sequence[str], folder: str, environment: Mapping[str, str] | None = None
) -> int:
    nothing = subprocess.DEVNULL
    return subprocess.run(
        command, cwd=folder, env=environment, stdin=nothing, stdout=nothing, stderr=nothing,
        preexec_fn=_limit, check=False,
    ).returncode  # fmt: skip


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))


@contextmanager
def floor(language: Language) -> Iterator[Judge]:
    """The least that our commands take: run one after the other, with no sandbox around them."""
    recipe = language.recipe()
    assert recipe is not None, f"{language.name} is not run by commands"
    fill = _filler(dict(recipe.folders))
    environment = {name: fill(value) for name, value in recipe.environment}
    build = [[fill(word) for word in command] for command in recipe.build]
    run = [fill(word) for word in recipe.run]

    def judge(program: Program) -> bool:
        harness = language.harness(program.tests)
        text = f"{harness.before}{program.code}\n{harness.after}"
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, recipe.source)
            source.write_text(text.replace("@secret@", "a" * 20), encoding="utf-8")
            made = all(_status(command, folder, environment) == 0 for command in build)
            return made and _passes(run, folder, environment)

    yield lambda programs: [judge(program) for program in programs]


def _filler(folders: Mapping[str, str]) -> Callable[[str], str]:
    def fill(text: str) -> str:
        for name, path in folders.items():
            text = text.replace(f"{{{name}}}", path)
        return text

    return fill


def _passes(command: Sequence[str], folder: str, environment: Mapping[str, str]) -> bool:
    """Whether the driver's token comes back on descriptor 3."""
    ours, theirs = socket.socketpair()
    token = os.urandom(TOKEN_BYTES)
    ours.sendall(token + b"\0")
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(nothing, number)
            os.dup2(theirs.fileno(), 3)
            os.closerange(4, 64)
            _limit()
            os.execve(command[0], command, dict(environment))
        finally:
            os._exit(127)
    theirs.close()
    status = os.waitpid(pid, 0)[1]
    with ours:
        ours.setblocking(False)
        try:
            return status == 0 and ours.recv(64).startswith(token)
        except BlockingIOError:
            return False
