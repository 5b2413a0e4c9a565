"""Reference solutions run before anything else: do right programs pass here, do wrong ones fail?

A missing library, a compiler of another age or a sandbox that is too tight would otherwise look
like a bad model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from astraios.checkers import Checker
from astraios.errors import WorkError
from astraios.records import Execution, Outcome, Program
from astraios.sandbox import Sandbox
from astraios.tasks import Problem, Task

N_WRONG = 8
"""Wrong references that are run. They show that the tests decide at all, for which a few are
enough; some of the others take all the time they are given."""

N_LISTED = 10


def check_references(
    task: Task[Any], problems: Sequence[Problem], checker: Checker, sandbox: Sandbox
) -> dict[str, Any]:
    """Run the right reference of every problem and the wrong one of the first few.

    Right references that the task knows to fail on some machines stop nothing.

    Returns:
        How many of each fared as they must, and under `known_exceptions`, where there are any, the
        right ones that failed: problem id -> why, and what became of it.

    Raises:
        WorkError: with the list of those that fared otherwise.
    """
    known = task.known_exceptions()
    programs: list[Program] = []
    meant: list[tuple[str, bool]] = []
    for place, problem in enumerate(problems):
        pair = task.references(problem)
        if pair is None:
            continue
        for program, right in zip(pair, (True, False), strict=True):
            if right or (place < N_WRONG and problem.id not in task.known_wrong_passes()):
                programs.append(program)
                meant.append((problem.id, right))
    complaints: dict[int, str] = {}
    excused: dict[int, str] = {}
    for position, evidence in checker.check(iter(programs), sandbox):
        name, right = meant[position]
        if isinstance(evidence, Execution) and right != (evidence.outcome is Outcome.PASSED):
            kind = "right" if right else "wrong"
            message = f" ({evidence.message})" if evidence.message else ""
            if right and name in known and evidence.outcome is not Outcome.FAULT:
                excused[position] = f"{known[name]}: {evidence.outcome}{message}"
            else:
                complaints[position] = f"{name}: the {kind} solution: {evidence.outcome}{message}"
    if complaints:
        listed = [complaints[position] for position in sorted(complaints)]
        more = f"\n... and {len(listed) - N_LISTED} more" if len(listed) > N_LISTED else ""
        raise WorkError(
            f"{task.name}: {len(listed)} of {len(programs)} reference programs do not fare as they "
            "must on this machine, so no sample was judged; `astraios doctor` shows what is "
            "missing:\n" + "\n".join(listed[:N_LISTED]) + more
        )
    n_right = sum(right for _, right in meant)
    report: dict[str, Any] = {
        "n_right_passed": n_right - len(excused),
        "n_wrong_refused": len(meant) - n_right,
    }
    if excused:
        report["known_exceptions"] = {meant[place][0]: excused[place] for place in sorted(excused)}
    return report
