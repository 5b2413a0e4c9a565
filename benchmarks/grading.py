"""CPU time of grading one file of generations, ours against one process a sample, in one run.

    manager + process    a `multiprocessing.Manager` and a `Process` for every sample, four threads:
                         the design of the harnesses in use, written here from their description;
                         no isolation
    ours, every sample   the sandbox alone: every sample run, passes not checked twice
    ours                 `judge` as `astraios grade` calls it: references first, identical programs
                         once, a negative control for every distinct pass, records on disk
    ours, known          the same once more, with the verdicts of the arm before in the cache; what
                         timed out runs again

Every arm is a process of its own; its CPU time is that of all processes it started, from `wait4`.
The arms must agree on which samples pass, else there is nothing to compare: exit status 1.

By default the file is made from minipack problems: four programs a problem, each twice, half of
them right; about half of the samples of published files are duplicates too.

    python benchmarks/grading.py
    python benchmarks/grading.py --file F.json.gz --task humanevalsynthesize-python --data-dir D
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from astraios import tasks
from astraios.checkers.unittests import checker
from astraios.evaluation.generations_file import checksum
from astraios.evaluation.imports import Generations
from astraios.evaluation.judge import judge, judge_config
from astraios.minipack.problems import MiniProblem, Part, benchmark
from astraios.records import Finish, Outcome, Program, Sample, Verdict
from astraios.sandbox import open_sandbox
from astraios.tasks import Problem, Task

ARMS = ("manager + process", "ours, every sample", "ours", "ours, known")
TIMEOUT_S = 10
N_THREADS = 4
"""Tests that run at a time in the baseline, its default."""
N_TWINS = 2


@dataclass(frozen=True)
class Work:
    """What every arm grades."""

    task: Task[Any]
    problems: Sequence[Problem]
    samples: Sequence[Sample]

    def programs(self) -> Iterator[Program]:
        """The program of every sample, in order."""
        by_id = {problem.id: problem for problem in self.problems}
        for sample in self.samples:
            problem = by_id[sample.problem_id]
            if sample.finish is Finish.GIVEN:
                program = self.task.final_program(problem, sample.completion)
            else:
                program = self.task.program(problem, (sample.completion,))
            assert program is not None
            yield program


def published(path: Path, name: str, data_dir: Path, n_problems: int | None) -> Work:
    """The samples of a file of generations."""
    task = tasks.task(name)
    problems = task.problems(data_dir)
    generations = Generations(path, task, problems, data_dir, limit_problems=n_problems)
    generations.check()
    return Work(task, problems[:n_problems], list(generations.samples()))


def made(n_problems: int) -> Work:
    """Samples made from minipack's references."""
    task = tasks.task("minipack-synthesize")
    problems = task.problems(None)[:n_problems]
    samples = []
    for problem, source in zip(problems, islice(benchmark(Part.TEST), n_problems), strict=True):
        for index, body in enumerate(_bodies(source) * N_TWINS):
            sample = Sample(
                problem_id=problem.id,
                index=index,
                prompt_sha="",
                completion="\n" + body,
                finish=Finish.EOS,
            )
            samples.append(sample)
    return Work(task, problems, samples)


def _bodies(problem: MiniProblem) -> tuple[str, ...]:
    right, wrong = problem.canonical_solution, problem.buggy_solution
    return right, f"    # to the point\n{right}", wrong, f"    undefined\n{right}"


# --- the baseline -----------------------------------------------------------------------------


class _TimedOutError(Exception):
    pass


def _alarm(number: int, frame: object) -> None:
    raise _TimedOutError


def _execute(text: str, result: Any) -> None:
    """What the process of one sample does."""
    signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT_S)
    for name in ("kill", "fork", "system", "remove", "rmdir", "rename", "unlink", "putenv"):
        setattr(os, name, None)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            exec(text, {})  # noqa: S102 - the design that is measured
        verdict = "passed"
    except BaseException as error:
        verdict = f"failed: {error}"
    signal.setitimer(signal.ITIMER_REAL, 0)
    result.append(verdict)


def _judge_alone(text: str) -> bool:
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        result = manager.list()
        process = context.Process(target=_execute, args=(text, result))
        process.start()
        process.join(TIMEOUT_S + 1)
        if process.is_alive():
            process.kill()
            process.join()
        return list(result) == ["passed"]


def manager_and_process(work: Work) -> list[bool]:
    """Whether each sample passes, with a manager and a process for each."""
    # minipack's programs import nothing; those of HumanEvalPack bring their imports along
    texts = [program.text for program in work.programs()]
    with ThreadPoolExecutor(max_workers=N_THREADS) as pool:
        return list(pool.map(_judge_alone, texts))


# --- ours -------------------------------------------------------------------------------------


def every_sample(work: Work, jobs: int | None) -> list[bool]:
    """Whether each sample passes, every one run in the sandbox."""
    passed = [False] * len(work.samples)
    with open_sandbox(jobs=jobs) as sandbox:
        for position, execution in checker.check(work.programs(), sandbox, control=False):
            passed[position] = execution.outcome is Outcome.PASSED
    return passed


def ours(work: Work, jobs: int | None) -> list[bool]:
    """Whether each sample passes, by the judging stage."""
    with tempfile.TemporaryDirectory() as folder:
        run = judge(
            work.task,
            work.samples,
            Path(folder) / "run",
            problems=work.problems,
            config=judge_config(work.task, jobs=jobs),
        )
        outcomes = {(v.problem_id, v.index): v.outcome for v in run.read("verdicts", Verdict)}
    return [outcomes[s.problem_id, s.index] is Outcome.PASSED for s in work.samples]


# --- measuring --------------------------------------------------------------------------------


def measure(arm: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run one arm in a process of its own."""
    began = time.perf_counter()
    command = [sys.executable, __file__, *arguments, "--arm", arm]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"arm {arm!r} failed with exit status {process.returncode}")
    return {
        "arm": arm,
        "passed": json.loads(said),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.perf_counter() - began,
    }


def idle_cpu_s(arguments: Sequence[str]) -> float:
    """CPU seconds of starting Python and reading the work, which is no part of grading."""
    return float(measure("nothing", arguments)["cpu_s"])


def report(work: Work, results: Sequence[dict[str, Any]], idle_s: float) -> dict[str, Any]:
    """The table and, in the returned object, its numbers."""
    n = len(work.samples)
    n_distinct = len({program.text for program in work.programs()})
    base = results[0]["cpu_s"] - idle_s
    rows = [
        {
            "arm": result["arm"],
            "cpu_s": round(result["cpu_s"] - idle_s, 3),
            "cpu_ms_per_sample": round(1000 * (result["cpu_s"] - idle_s) / n, 2),
            "wall_s": round(result["wall_s"], 2),
            "times_less_cpu": round(base / (result["cpu_s"] - idle_s), 2),
        }
        for result in results
    ]
    print(f"{work.task.name}: {n} samples, {n_distinct} distinct programs", file=sys.stderr)
    print(f"{'':20} {'CPU s':>8} {'ms/sample':>10} {'wall s':>8} {'ratio':>7}", file=sys.stderr)
    for row in rows:
        print(
            f"{row['arm']:20} {row['cpu_s']:8.2f} {row['cpu_ms_per_sample']:10.2f} "
            f"{row['wall_s']:8.2f} {row['times_less_cpu']:7.2f}",
            file=sys.stderr,
        )
    return {"task": work.task.name, "n_samples": n, "n_distinct": n_distinct, "arms": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="CPU time of grading, ours and one process a sample"
    )
    parser.add_argument("--file", type=Path, help="a file of generations; needs --task")
    parser.add_argument("--task", help="what the file answers")
    parser.add_argument("--data-dir", type=Path, help="folder of benchmark files")
    parser.add_argument("--problems", type=int, default=None, help="only the first so many")
    parser.add_argument("--jobs", type=int, default=None, help="programs of ours at a time")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file:
        work = published(options.file, options.task, options.data_dir, options.problems)
    else:
        work = made(options.problems or 60)
    run: dict[str, Callable[[], list[bool]]] = {
        "manager + process": lambda: manager_and_process(work),
        "ours, every sample": lambda: every_sample(work, options.jobs),
        "ours": lambda: ours(work, options.jobs),
        "ours, known": lambda: ours(work, options.jobs),
        "nothing": list[bool],
    }
    if options.arm:
        print(json.dumps(run[options.arm]()))
        return
    idle_s = idle_cpu_s(sys.argv[1:])
    with tempfile.TemporaryDirectory() as cache:  # empty at first, never the user's own
        os.environ["ASTRAIOS_CACHE"] = cache
        results = [measure(arm, sys.argv[1:]) for arm in ARMS]
    for result in results[1:]:
        differ = sum(a != b for a, b in zip(results[0]["passed"], result["passed"], strict=True))
        if differ:
            raise SystemExit(f"{differ} samples differ between {ARMS[0]!r} and {result['arm']!r}")
    numbers = report(work, results, idle_s)
    if options.file:
        numbers["file_sha256"] = checksum(options.file)
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
