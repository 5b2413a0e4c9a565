"""Java: `javac` and `java` for each program, ours, and the floor below both.

javac + java    the commands of the BigCode metric, with nothing around them
ours            the sandbox, with the compiler that stays; passes are not checked twice
ours, control   the same, and each pass must fail tests that nothing can pass
floor           our compiler and our command of the virtual machine without any sandbox
"""

from __future__ import annotations

import os
import resource
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from _measuring import Judge, ours, references, take_turns, without_long

from astraios import tasks
from astraios.config import data_dir
from astraios.evaluation.imports import Generations
from astraios.languages.java import language
from astraios.records import Program

PUBLISHED = "published_generations/{task}/1b-lora.json.gz"
TASK = "humanevalsynthesize-java"
CPU_S = 10
TOKEN_BYTES = 16


def measure(n: int) -> list[dict[str, Any]]:
    """A row for each way of judging `n` programs: references, and published samples if there."""
    samples = published(n // 3)
    programs = without_long([*references("java", n - len(samples)), *samples])
    with ExitStack() as stack:
        arms: dict[str, Judge] = {
            "javac + java": javac_and_java,
            "ours": stack.enter_context(ours(control=False)),
            "ours, control": stack.enter_context(ours(control=True)),
            "floor": stack.enter_context(floor()),
        }
        return take_turns(arms, programs)


def published(n: int) -> list[Program]:
    """The first sample of `n` problems."""
    task, folder = tasks.task(TASK), data_dir(None)
    path = folder and folder / PUBLISHED.format(task=TASK)
    if not path or not path.exists():
        return []
    problems = task.problems(folder)
    by_id = {problem.id: problem for problem in problems}
    samples = list(Generations(path, task, problems, folder, limit_samples=1).samples())
    chosen = samples[:: max(1, len(samples) // n)][:n]
    made = [task.final_program(by_id[sample.problem_id], sample.completion) for sample in chosen]
    return [program for program in made if program is not None]


def text_of(program: Program) -> str:
    return f"{program.code}\n{program.tests}"


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))


def javac_and_java(programs: Sequence[Program]) -> list[bool]:
    """Whether each passes, with a compiler and a virtual machine of its own."""
    passed = []
    for program in programs:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "Main.java").write_text(text_of(program))
            commands = (["javac", "Main.java"], ["java", "-cp", ".", "Main"])
            passed.append(all(_goes_well(command, folder) for command in commands))
    return passed


def _goes_well(command: Sequence[str], folder: str) -> bool:
    nothing = subprocess.DEVNULL
    done = subprocess.run(
        command, cwd=folder, stdin=nothing, stdout=nothing, stderr=nothing, preexec_fn=limit,
        check=False,
    )  # fmt: skip
    return done.returncode == 0


@contextmanager
def floor() -> Iterator[Judge]:
    """The least that these commands take: one compiler for all, one virtual machine each."""
    recipe = language.recipe()
    places = {**dict(recipe.folders), "cpu_s": str(recipe.build_limits.cpu_s)}
    compiler, run = (
        [word.format(**places) for word in words] for words in (recipe.compiler, recipe.run)
    )
    environment = {name: value.format(**places) for name, value in recipe.environment}
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            compiler, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None

        def judge(program: Program) -> bool:
            after = language.harness(program.tests).after.replace("@secret@", "")
            source = f"{program.code}\n{after}".encode()
            process.stdin.write(struct.pack("!I", len(source)) + source)
            process.stdin.flush()
            (length,) = struct.unpack("!I", process.stdout.read(4))
            answer = process.stdout.read(length)
            if answer[0]:
                return False
            (name_length,) = struct.unpack_from("!H", answer, 1)
            Path(folder, "program").write_bytes(answer[7 + name_length :])
            return _passes(run, folder, environment)

        yield lambda programs: [judge(program) for program in programs]
        process.stdin.close()


def _passes(command: list[str], folder: str, environment: dict[str, str]) -> bool:
    ours, theirs = socket.socketpair()
    token = os.urandom(TOKEN_BYTES)
    ours.sendall(token + b"\0")
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        os.dup2(theirs.fileno(), 3)
        os.closerange(4, 64)
        os.execve(command[0], command, environment)
    theirs.close()
    status = os.waitpid(pid, 0)[1]
    with ours:
        ours.setblocking(False)
        try:
            return status == 0 and ours.recv(64).startswith(token)
        except BlockingIOError:
            return False
