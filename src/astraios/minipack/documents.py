"""Text to pretrain on and examples to tune on.

Pretraining documents hold one function each and never a question:

    35 %   a comment above each line        teaches phrase -> line, locally
    45 %   a docstring, then the code       teaches i-th phrase -> i-th line
    20 %   code only                        teaches the language

Tuning examples ask with a question; three in four want the function written, one in four wants a
bug mended. All come from train chains only, unless another part is named.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from astraios.minipack.problems import (
    NAMES,
    VERSION,
    MiniProblem,
    Part,
    declaration,
    draw_problems,
    draw_program,
)

PRETRAINING_LENGTHS = ((1, 4), (2, 4), (3, 2))
TUNING_LENGTHS = ((1, 1), (2, 6), (3, 4))
FIX_PERCENT = 25


def pretraining_documents(seed: int, imperative: float = 0.2) -> Iterator[str]:
    """Endless documents.

    Args:
        seed: equal seeds give equal documents.
        imperative: chance that a phrase above a line is in the register of instructions.
    """
    chance = random.Random(f"minipack/{VERSION}/documents/{seed}")
    while True:
        steps = draw_program(chance, Part.TRAIN, PRETRAINING_LENGTHS)
        named = chance.random() < 0.3
        name = "_".join(s.primitive.name for s in steps) if named else chance.choice(NAMES)
        form = chance.random()
        lines = [f"v = {step.expression}" for step in steps[:-1]]
        lines.append(f"return {steps[-1].expression}")
        if form < 0.35:
            told = [s.imperative if chance.random() < imperative else s.terse for s in steps]
            pairs = zip(told, lines, strict=True)
            text = "".join(f"    # {phrase}\n    {line}\n" for phrase, line in pairs)
        else:
            text = "".join(f"    {line}\n" for line in lines)
            if form < 0.80:
                told = [step.terse for step in steps]
                text = f'    """{", then ".join(told)}"""\n' + text
        yield declaration(name) + text


def fix_instruction(problem: MiniProblem) -> str:
    """What a model is asked when a bug is to be mended: the aim, the order, the code."""
    return (
        f"{problem.instruction}\nFix bugs in {problem.entry_point}.\n"
        f"{problem.declaration}{problem.buggy_solution}".rstrip()
    )


def tuning_examples(part: Part, seed: int) -> Iterator[tuple[str, str, str, str]]:
    """Endless (id, instruction, opening, response) tuples."""
    chance = random.Random(f"minipack/{VERSION}/examples/{part}/{seed}")
    lengths = TUNING_LENGTHS if part is Part.TRAIN else TUNING_LENGTHS[1:]
    for problem in draw_problems(part, seed, lengths):
        fix = chance.randrange(100) < FIX_PERCENT
        instruction = fix_instruction(problem) if fix else problem.instruction
        # The newline belongs to the answer: a prompt must not end in white space.
        opening, response = problem.declaration.rstrip("\n"), "\n" + problem.canonical_solution
        yield problem.task_id, instruction, opening, response
