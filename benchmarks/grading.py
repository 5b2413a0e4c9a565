"""CPU time of grading one file of generations, ours against other ways, in one run.

    manager + process    a `multiprocessing.Manager` and a `Process` for every sample, four threads:
                         the design of the harnesses in use, written here from their description;
                         no isolation
    the same, in a harness    with torch and transformers loaded in the parent, as theirs has them:
                         each fork copies the page tables (left out where they are not installed)
    subprocess           an interpreter for every sample; the first 100 samples only
    fork + exec          the floor: a process with all imports forks, the child compiles and runs
                         program and tests, nothing else; no isolation, no limit but an alarm
    ours, every sample   the sandbox alone: every sample run, passes not checked twice
    ours                 `judge` as `astraios grade` calls it: references first, identical programs
                         once, a negative control for every distinct pass, records on disk
    ours, known          the same once more, with the verdicts of the arm before in the cache; what
                         timed out runs again

Every arm is a process of its own; its CPU time is that of all processes it started, from `wait4`,
less the time of reading the work. The arms must agree on which samples pass, else there is nothing
to compare: exit status 1. Programs that loop cost every arm the same; choose a file without them to
compare the rest.

By default the file is made from minipack problems: four programs a problem, each twice, half of
them right; about half of the samples of published files are duplicates too.

    python benchmarks/grading.py
    python benchmarks/grading.py --file F.json.gz --task humanevalsynthesize-python --data-dir D
    python benchmarks/grading.py ... --scale     ours with 1, 2 and 4 times the distinct programs
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
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from astraios import languages, registry, tasks
from astraios.checkers.unittests import checker
from astraios.evaluation.generations_file import checksum
from astraios.evaluation.imports import Generations
from astraios.evaluation.judge import judge, judge_config
from astraios.languages import Language
from astraios.minipack.problems import MiniProblem, Part, benchmark
from astraios.records import Finish, Outcome, Program, Sample, Verdict
from astraios.sandbox import open_sandbox
from astraios.tasks import Problem, Task

BASELINE = "manager + process"
IN_HARNESS = "the same, in a harness"
SUBPROCESS = "subprocess"
ARMS = (
    BASELINE, IN_HARNESS, SUBPROCESS, "fork + exec", "ours, every sample", "ours", "ours, known",
)  # fmt: skip
N_SUBPROCESSES = 100
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


def load_libraries() -> None:
    """What a harness that also generates has in memory."""
    import torch  # noqa: F401
    import transformers

    assert transformers.PreTrainedModel and transformers.AutoModelForCausalLM  # these are lazy


def interpreter_a_sample(work: Work) -> list[bool]:
    """Whether each of the first samples passes, with an interpreter for each."""
    passed = []
    for program in islice(work.programs(), N_SUBPROCESSES):
        try:
            done = subprocess.run(
                [sys.executable, "-c", program.text], capture_output=True, timeout=TIMEOUT_S
            )
            passed.append(done.returncode == 0)
        except subprocess.TimeoutExpired:
            passed.append(False)
    return passed


def fork_and_exec(work: Work) -> list[bool]:
    """Whether each sample passes, with a bare fork for each."""
    passed: list[bool] = []
    for program in work.programs():
        text = program.text
        if not passed:
            exec(language("python").preamble, {})  # noqa: S102 - imports, once
        pid = os.fork()
        if pid == 0:
            signal.setitimer(signal.ITIMER_REAL, TIMEOUT_S)
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            try:
                exec(text, {})  # noqa: S102 - the floor that is measured
            except BaseException:
                os._exit(1)
            os._exit(0)
        passed.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0)
    return passed


def language(name: str) -> Language:
    """The language called `name`."""
    found: Language = registry.load(languages, "language", name)
    return found


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
        "peak_mib": usage.ru_maxrss / 1024,
    }


def report(work: Work, results: Sequence[dict[str, Any]], idle: dict[str, float]) -> dict[str, Any]:
    """The table and, in the returned object, its numbers."""
    n_distinct = len({program.text for program in work.programs()})
    rows = []
    for result in results:
        arm, n = result["arm"], len(result["passed"])
        cpu_s = result["cpu_s"] - idle[IN_HARNESS if arm == IN_HARNESS else "nothing"]
        rows.append(
            {
                "arm": arm,
                "n_samples": n,
                "cpu_s": round(cpu_s, 3),
                "cpu_ms_per_sample": 1000 * cpu_s / n,
                "wall_s": round(result["wall_s"], 2),
                "peak_mib": round(result["peak_mib"]),
            }
        )
    costs = {row["arm"]: row["cpu_ms_per_sample"] for row in rows}
    print(
        f"{work.task.name}: {len(work.samples)} samples, {n_distinct} distinct programs",
        file=sys.stderr,
    )
    print(
        f"{'':24} {'CPU s':>8} {'ms/sample':>10} {'wall s':>8} {'peak MiB':>9} "
        f"{'x less':>8} {'in harness':>11}",
        file=sys.stderr,
    )
    for row in rows:
        for name, arm in (("times_less_cpu", BASELINE), ("times_less_in_harness", IN_HARNESS)):
            row[name] = round(costs[arm] / row["cpu_ms_per_sample"], 2) if arm in costs else None
        print(
            f"{row['arm']:24} {row['cpu_s']:8.2f} {row['cpu_ms_per_sample']:10.2f} "
            f"{row['wall_s']:8.2f} {row['peak_mib']:9} {row['times_less_cpu'] or '':>8} "
            f"{row['times_less_in_harness'] or '':>11}",
            file=sys.stderr,
        )
    return {
        "task": work.task.name,
        "n_samples": len(work.samples),
        "n_distinct": n_distinct,
        "server_start_s": server_start_s(),
        "arms": rows,
    }


def server_start_s() -> float:
    """Wall time from nothing to a server that has run a program; the best of three."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        with open_sandbox(jobs=1):
            best = min(best, time.perf_counter() - began)
    return round(best, 3)


def scaling(arguments: Sequence[str]) -> dict[str, Any]:
    """CPU seconds of ours with 1, 2 and 4 times the distinct programs."""
    idle_s = measure("nothing", arguments)["cpu_s"]
    rows = []
    for times in (1, 2, 4):
        with tempfile.TemporaryDirectory() as cache:  # else the one before has made it cheaper
            os.environ["ASTRAIOS_CACHE"] = cache
            cpu_s = measure("ours", [*arguments, "--times", str(times)])["cpu_s"] - idle_s
        rows.append({"times": times, "cpu_s": round(cpu_s, 2)})
        print(f"{times} x the distinct programs: {cpu_s:8.2f} CPU s", file=sys.stderr)
    return {"scaling": rows}


def more(work: Work, times: int) -> Work:
    """Every sample `times` times, each time as another program."""
    samples = [
        sample.model_copy(
            update={
                "index": sample.index * times + turn,
                "completion": sample.completion + "\n" * (turn > 0) + "    # again" * turn,
            }
        )
        for sample in work.samples
        for turn in range(times)
    ]
    return Work(work.task, work.problems, samples)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="CPU time of grading, ours and one process a sample"
    )
    parser.add_argument("--file", type=Path, help="a file of generations; needs --task")
    parser.add_argument("--task", help="what the file answers")
    parser.add_argument("--data-dir", type=Path, help="folder of benchmark files")
    parser.add_argument("--problems", type=int, default=None, help="only the first so many")
    parser.add_argument("--jobs", type=int, default=None, help="programs of ours at a time")
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="only these")
    parser.add_argument("--scale", action="store_true", help="ours with more distinct programs")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file:
        work = published(options.file, options.task, options.data_dir, options.problems)
    else:
        work = made(options.problems or 60)
    if options.times > 1:
        work = more(work, options.times)
    if options.arm:
        if options.arm.startswith(IN_HARNESS):
            load_libraries()
        print(json.dumps(run_arm(options.arm, work, options.jobs)))
        return
    arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as cache:  # empty at first, never the user's own
        os.environ["ASTRAIOS_CACHE"] = cache
        if options.scale:
            print(json.dumps(scaling(arguments)))
            return
        arms = [arm for arm in ARMS if not options.arms or arm in options.arms]
        if find_spec("transformers") is None or find_spec("torch") is None:
            arms = [arm for arm in arms if arm != IN_HARNESS]
        idle = {"nothing": measure("nothing", arguments)["cpu_s"]}
        if IN_HARNESS in arms:
            idle[IN_HARNESS] = measure(f"{IN_HARNESS}: nothing", arguments)["cpu_s"]
        results = [measure(arm, arguments) for arm in arms]
    for result in results[1:]:
        pairs = zip(results[0]["passed"], result["passed"], strict=False)
        differ = sum(a != b for a, b in pairs)
        if differ:
            raise SystemExit(f"{differ} samples differ between {arms[0]!r} and {result['arm']!r}")
    numbers = report(work, results, idle)
    if options.file:
        numbers["file_sha256"] = checksum(options.file)
    print(json.dumps(numbers))


def run_arm(name: str, work: Work, jobs: int | None) -> list[bool]:
    """Whether each sample passes, in one way."""
    ways: dict[str, Callable[[], list[bool]]] = {
        BASELINE: lambda: manager_and_process(work),
        IN_HARNESS: lambda: manager_and_process(work),
        SUBPROCESS: lambda: interpreter_a_sample(work),
        "fork + exec": lambda: fork_and_exec(work),
        "ours, every sample": lambda: every_sample(work, jobs),
        "ours": lambda: ours(work, jobs),
        "ours, known": lambda: ours(work, jobs),
    }
    return ways[name]() if name in ways else []


if __name__ == "__main__":
    main()
