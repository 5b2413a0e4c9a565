"""Verdicts of Python programs are those of the original harness, and nothing is lost on the way."""

# Programs stand on one line each.
# ruff: noqa: E501
from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from astraios.checkers.unittests import checker
from astraios.errors import UnknownNameError
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import Limits, Sandbox, open_sandbox

LIMITS = Limits(cpu_s=0.5, wall_s=10.0, memory_mib=768, output_kib=64)
TESTS = "assert f(1) == 2\nassert f(5) == 6\n"
RIGHT = "def f(x):\n    return x + 1"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox("best", jobs=1) as opened:
        yield opened


def judge(sandbox: Sandbox, code: str, tests: str = TESTS, **options: object) -> Execution:
    program = Program(language="python", code=code, tests=tests)
    settings = {"limits": LIMITS, **options}
    ((position, execution),) = checker.check([program], sandbox, **settings)  # type: ignore[arg-type]
    assert position == 0
    return execution


@pytest.mark.parametrize(
    ("code", "outcome", "message"),
    [
        (RIGHT, "passed", ""),
        ("def f(x):\n    return x", "failed", ""),
        ("def f(x):\n    assert x > 9, 'too small'", "failed", "too small"),
        ("def f(x):\n    return y", "failed", "name 'y' is not defined"),
        ("def f(x):\n    return 1 / 0", "failed", "division by zero"),
        ("def f(x):\n    return {}['k']", "failed", "'k'"),
        ("import sys\nsys.exit('bye')", "failed", "bye"),
        ("def f(x):\n    raise KeyboardInterrupt", "failed", ""),
        ("exit()", "failed", "'NoneType' object is not callable"),
        ("import os\ndef f(x):\n    return os.getcwd()", "failed", "'NoneType' object is not callable"),
        ("import shutil\nshutil.rmtree('/')", "failed", "'NoneType' object is not callable"),
        ("import subprocess\nsubprocess.Popen(['ls'])", "failed", "'NoneType' object is not callable"),
        ("import resource", "failed", "import of resource halted; None in sys.modules"),
        ("def f(x):\n    return input()", "failed", ""),
        ("import sys\nfor line in sys.stdin: pass", "failed", ""),
        ("assert __name__ == 'builtins', __name__\n" + RIGHT, "passed", ""),
        ("if __name__ == '__main__':\n    raise ValueError\n" + RIGHT, "passed", ""),
        ("print('hello')\n" + RIGHT, "passed", ""),
        ("import sys\nsys.stderr.write('x')\nsys.stdout.flush()\n" + RIGHT, "passed", ""),
        ("def f(x):\n    return f(x)", "failed", "maximum recursion depth exceeded"),
        ("def f(x:", "compile_error", "'(' was never closed (<string>, line 1)"),
        ("x = '\udc80'", "compile_error", None),
        ("x = 1\0", "compile_error", "source code string cannot contain null bytes"),
        ("def f(x):\n  return 1\n\treturn 2", "compile_error", None),
        ("return 5", "compile_error", "'return' outside function (<string>, line 1)"),
        ("raise SyntaxError('mine')", "failed", "mine"),
        ("x = [0] * (1 << 34)", "out_of_memory", ""),
        ("import os\nos._exit(0)", "crashed", "ended before the tests were over"),
        ("print('x' * 70000)", "crashed", "printed more than 64 KiB"),
    ],
)  # fmt: skip
def test_outcome_and_message(
    sandbox: Sandbox, code: str, outcome: str, message: str | None
) -> None:
    execution = judge(sandbox, code)
    assert execution.outcome == outcome, execution
    if message is not None:
        assert execution.message == message
    assert execution.phase == ("compile" if outcome == "compile_error" else "run")


# Candidate and tests are one text in the original: these would come out otherwise if each were
# compiled by itself, or if the second did not share the names of the first.
@pytest.mark.parametrize(
    ("code", "tests", "outcome"),
    [
        (RIGHT + "\nx = 1 \\", "\n" + TESTS, "passed"),
        ("import functools\n" + RIGHT + "\n@functools.cache", "def check(g):\n    assert g(1) == 2\ncheck(f)\n", "passed"),
        ("def f(x):\n    pass\nif False: \\", TESTS.partition("\n")[0], "forged"),
        (RIGHT + "\nx = (", "\n" + TESTS, "compile_error"),
        (RIGHT + "\nx = '''", "\n" + TESTS, "compile_error"),
        ("from __future__ import barry_as_FLUFL\n" + RIGHT, "assert f(1) != 3\n", "passed"),
        ("from __future__ import annotations\n" + RIGHT, TESTS, "passed"),
        ("'''The docstring.'''\n" + RIGHT, "'''text'''\nassert __doc__ == 'The docstring.'\n", "passed"),
        (RIGHT, "'''text'''\nassert f(1) == 2\nassert '__doc__' not in globals()\n", "passed"),
        ("BIG = 123456789.5\ndef f(x):\n    return BIG", "assert f(1) is 123456789.5\n", "passed"),
        ("def g(x):\n    return x + 1\nf = lambda x: g(x)", "def g(x):\n    return 0\nassert f(1) == 0\n", "passed"),
        ("def check(f):\n    pass\n" + RIGHT, "def check(g):\n    assert g(1) == 5\ncheck(f)\n", "failed"),
        (RIGHT + "\n__builtins__ = {}", TESTS, "passed"),
        (RIGHT + "\n# no newline at the end", TESTS, "passed"),
        (RIGHT + "\n\x0c", TESTS, "passed"),
        (RIGHT.replace("\n", "\r\n"), TESTS, "passed"),
        ("", "assert 1 == 1\n", "passed"),
        ("", "", "passed"),
    ],
)  # fmt: skip
def test_candidate_and_tests_are_one_program(
    sandbox: Sandbox, code: str, tests: str, outcome: str
) -> None:
    assert judge(sandbox, code, tests).outcome == outcome


def test_recursion_ends_as_deep_as_in_the_original(sandbox: Sandbox) -> None:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the depth was measured with Python 3.11")
    depth = (
        "def deep(n):\n    return n if n == 0 else deep(n - 1)\n"
        "def f(x):\n    deep({n})\n    return x + 1"
    )
    # 983 frames fit below the program's own; `f` and the last `deep` take two.
    assert judge(sandbox, depth.format(n=981), "f(1)\n", control=False).outcome == "passed"
    assert judge(sandbox, depth.format(n=982), "f(1)\n", control=False).outcome == "failed"


def test_sleep_is_cut_by_the_wall_and_burns_no_cpu(sandbox: Sandbox) -> None:
    limits = Limits(cpu_s=5.0, wall_s=0.3, memory_mib=768)
    execution = judge(sandbox, "import time\ntime.sleep(60)", limits=limits)
    assert execution.outcome is Outcome.TIMED_OUT
    assert execution.cpu_s < 0.3 <= execution.wall_s


def test_busy_program_is_cut_by_cpu_time(sandbox: Sandbox) -> None:
    execution = judge(sandbox, "while True: pass")
    assert execution.outcome is Outcome.TIMED_OUT
    assert execution.cpu_s >= LIMITS.cpu_s


def test_hang_after_the_tests_is_a_pass(sandbox: Sandbox) -> None:
    code = (
        RIGHT + "\nimport threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()"
    )
    assert judge(sandbox, code).outcome is Outcome.PASSED


def test_memory_and_times_are_recorded(sandbox: Sandbox) -> None:
    execution = judge(sandbox, "x = bytearray(100 << 20)\n" + RIGHT)
    assert execution.peak_mib > 100
    assert execution.cpu_s > 0
    assert execution.wall_s > 0


def test_segmentation_fault_names_the_signal(sandbox: Sandbox) -> None:
    execution = judge(sandbox, "import ctypes\nctypes.string_at(0)")
    assert (execution.outcome, execution.signal) == (Outcome.CRASHED, signal.SIGSEGV)


def test_exit_code_is_recorded(sandbox: Sandbox) -> None:
    assert judge(sandbox, "import os\nos._exit(7)").exit_code == 7


def test_message_is_clipped(sandbox: Sandbox) -> None:
    assert judge(sandbox, "raise ValueError('é' * 1000)").message == "é" * 200


def test_error_line_is_what_python_would_print(sandbox: Sandbox) -> None:
    assert judge(sandbox, "1 / 0").stderr == "ZeroDivisionError: division by zero"


def test_random_programs_get_the_same_verdict_every_time(sandbox: Sandbox) -> None:
    code = (
        "import random\nx = random.random()\ndef f(n):\n    raise ValueError(x, sorted({'a', 'b'}))"
    )
    assert len({judge(sandbox, code).message for _ in range(3)}) == 1


def test_names_do_not_survive_a_program(sandbox: Sandbox) -> None:
    judge(sandbox, "import math\nmath.leak = leak = 1\n" + RIGHT)
    assert judge(sandbox, "import math\nmath.leak").outcome is Outcome.FAILED
    assert judge(sandbox, "leak").outcome is Outcome.FAILED


def test_control_can_be_left_out(sandbox: Sandbox) -> None:
    forger = (
        "class A:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return A()"
    )
    assert judge(sandbox, forger).outcome is Outcome.FORGED
    assert judge(sandbox, forger, control=False).outcome is Outcome.PASSED


def test_tests_that_do_not_compile_are_our_fault(sandbox: Sandbox) -> None:
    execution = judge(sandbox, RIGHT, "assert f(1 ==\n")
    assert execution.outcome is Outcome.FAULT
    assert "the tests do not compile" in execution.message


def test_program_too_large_to_compile_is_not_run(sandbox: Sandbox) -> None:
    execution = judge(sandbox, "x = 1\n" * (3 << 20))
    assert execution.outcome is Outcome.COMPILE_ERROR


def test_megabytes_of_program_are_judged(sandbox: Sandbox) -> None:
    assert judge(sandbox, "# a remark\n" * 300_000 + RIGHT).outcome is Outcome.PASSED


def test_unknown_language_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(UnknownNameError, match="cobol"):
        list(checker.check([Program(language="cobol", code="")], sandbox))


def test_programs_are_taken_as_they_are_needed(sandbox: Sandbox) -> None:
    taken = count()

    def endless() -> Iterator[Program]:
        while True:
            yield Program(language="python", code=f"{RIGHT}\n# {next(taken)}", tests=TESTS)

    results = checker.check(endless(), sandbox, limits=LIMITS)
    positions = [next(results)[0] for _ in range(20)]
    results.close()  # type: ignore[attr-defined]
    assert sorted(positions) == list(range(20))
    assert next(taken) < 60


def test_abandoned_run_leaves_the_sandbox_usable(sandbox: Sandbox) -> None:
    programs = [Program(language="python", code=RIGHT, tests=TESTS)] * 30
    results = checker.check(programs, sandbox, limits=LIMITS)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert judge(sandbox, RIGHT).outcome is Outcome.PASSED


def test_every_position_is_answered_once_over_two_servers() -> None:
    programs = [
        Program(
            language="python",
            code=RIGHT if n % 3 else "def f(x):\n    while True: pass",
            tests=f"{TESTS}# batch {n // 5}",
        )
        for n in range(24)
    ]
    limits = Limits(cpu_s=0.05, wall_s=10.0, memory_mib=768)
    with open_sandbox("best", jobs=2) as two:
        results = list(checker.check(programs, two, limits=limits))
    assert sorted(position for position, _ in results) == list(range(24))
    for position, execution in results:
        assert execution.outcome == ("passed" if position % 3 else "timed_out")


def test_version_is_named() -> None:
    assert checker.version().startswith("unittests ")


@pytest.mark.skipif(sys.platform != "linux", reason="finds the server in /proc")
def test_dead_server_is_replaced_and_its_program_tried_again() -> None:
    slow = "import time\ntime.sleep(0.5)\n" + RIGHT
    programs = [Program(language="python", code=slow, tests=TESTS)] * 3
    with open_sandbox("best", jobs=1) as one:
        results = checker.check(programs, one, limits=LIMITS)
        first = next(results)
        os.kill(_child(), signal.SIGKILL)
        rest = list(results)
    assert sorted(position for position, _ in [first, *rest]) == [0, 1, 2]
    assert {execution.outcome for _, execution in [first, *rest]} == {Outcome.PASSED}


@pytest.mark.skipif(sys.platform != "linux", reason="finds the server in /proc")
def test_program_whose_server_dies_twice_is_a_fault_and_the_next_is_judged() -> None:
    sleeper = Program(language="python", code="import time\ntime.sleep(9)", tests=TESTS)
    honest = Program(language="python", code=RIGHT, tests=TESTS)
    with open_sandbox("best", jobs=1) as one:
        results = checker.check([honest, sleeper, honest], one, limits=LIMITS)
        first = next(results)
        os.kill(_child(), signal.SIGKILL)
        later = threading.Timer(1.0, lambda: os.kill(_child(), signal.SIGKILL))
        later.start()
        rest = dict(results)
        later.join()
    assert first[1].outcome is Outcome.PASSED
    assert rest[1].outcome is Outcome.FAULT
    assert rest[2].outcome is Outcome.PASSED


def _child() -> int:
    with open(f"/proc/self/task/{os.getpid()}/children") as listing:  # noqa: PTH123
        return int(listing.read().split()[-1])
