"""Rewritten problems: the same task told differently, to measure robustness.

    typos        two words of the instruction have neighbouring letters exchanged
    spacing      blanks are doubled and the instruction is broken over two lines
    rename       the function gets a name that never occurs in training
    first-line   the first line of the reference is given as part of the prompt

All but `first-line` keep the reference and the tests (up to the name); none changes what is asked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from astraios.minipack.problems import VERSION, MiniProblem

UNUSUAL_NAMES = ("compute_answer", "handle_items", "g7", "do_work", "transform_data", "helper_fn")


def _typos(problem: MiniProblem, chance: random.Random) -> MiniProblem:
    words = list(re.finditer(r"[a-z]{4,}", problem.instruction))
    text = problem.instruction
    for word in chance.sample(words, min(2, len(words))):
        at = word.start() + chance.randrange(1, len(word.group()) - 1)
        while text[at] == text[at + 1] and at + 2 < word.end():
            at += 1
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return replace(problem, instruction=text)


def _spacing(problem: MiniProblem, chance: random.Random) -> MiniProblem:
    words = problem.instruction.split(" ")
    broken = chance.randrange(1, len(words))
    blanks = [chance.choice((" ", "  ")) for _ in words[1:]]
    blanks[chance.randrange(len(blanks))] = "  "
    blanks[broken - 1] = "\n"
    text = words[0] + "".join(b + w for b, w in zip(blanks, words[1:], strict=True))
    return replace(problem, instruction=text)


def _rename(problem: MiniProblem, chance: random.Random) -> MiniProblem:
    old, new = problem.entry_point, chance.choice(UNUSUAL_NAMES)
    test = problem.test.replace(f"assert {old}(", f"assert {new}(")
    test = test.replace(f"check({old})", f"check({new})")
    return replace(
        problem,
        entry_point=new,
        declaration=problem.declaration.replace(f"def {old}(", f"def {new}("),
        test=test,
    )


def _first_line(problem: MiniProblem, chance: random.Random) -> MiniProblem:
    first, _, rest = problem.canonical_solution.partition("\n")
    return replace(problem, declaration=f"{problem.declaration}{first}\n", canonical_solution=rest)


PERTURBATIONS: Mapping[str, Callable[[MiniProblem, random.Random], MiniProblem]] = MappingProxyType(
    {"typos": _typos, "spacing": _spacing, "rename": _rename, "first-line": _first_line}
)


def perturb(problem: MiniProblem, name: str, seed: int = 0) -> MiniProblem:
    """`problem` told differently; its id becomes `<id>/<name>`."""
    chance = random.Random(f"minipack/{VERSION}/{problem.task_id}/{name}/{seed}")
    return replace(PERTURBATIONS[name](problem, chance), task_id=f"{problem.task_id}/{name}")
