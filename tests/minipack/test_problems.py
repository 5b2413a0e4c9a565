"""minipack: references pass, mutants fail, parts do not overlap, bytes depend on the seed only."""

import subprocess
import sys
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astraios.minipack.documents import pretraining_documents, tuning_examples
from astraios.minipack.primitives import PRIMITIVES
from astraios.minipack.problems import Part, benchmark, chains, draw_problems, part_of

TEST = benchmark(Part.TEST)
BUG_TYPES = {
    "missing logic", "excess logic", "operator misuse",
    "value misuse", "function misuse", "variable misuse",
}  # fmt: skip


def passes(code: str, test: str) -> bool:
    try:
        exec(code + test, {})
    except Exception:
        return False
    return True


@pytest.mark.parametrize("part", [Part.TEST, Part.VALIDATION])
def test_every_reference_passes_and_every_mutant_fails(part: Part) -> None:
    for problem in benchmark(part):
        assert passes(problem.declaration + problem.canonical_solution, problem.test), problem
        assert passes(problem.prompt + problem.canonical_solution, problem.test), problem
        assert not passes(problem.declaration + problem.buggy_solution, problem.test), problem


def test_there_are_enough_problems_of_both_lengths_and_all_bug_types() -> None:
    lengths = [len(problem.chain) for problem in TEST]
    assert len(TEST) >= 200
    assert set(lengths) == {2, 3}
    assert min(lengths.count(2), lengths.count(3)) >= 80
    assert {problem.bug_type for problem in TEST} == BUG_TYPES


def test_no_two_problems_have_the_same_code() -> None:
    assert len({problem.canonical_solution for problem in TEST}) == len(TEST)


def test_a_constant_answer_never_passes() -> None:
    for problem in TEST:
        first = problem.test.split(" == ")[1].splitlines()[0]
        assert not passes(problem.declaration + f"    return {first}\n", problem.test)


def test_single_steps_always_train() -> None:
    assert {part_of(chain) for chain in chains(1)} == {Part.TRAIN}


def test_parts_share_no_composition() -> None:
    held_out = {p.chain for p in TEST} | {p.chain for p in benchmark(Part.VALIDATION)}
    assert not {p.chain for p in TEST} & {p.chain for p in benchmark(Part.VALIDATION)}
    trained = {p.chain for p in islice(draw_problems(Part.TRAIN, 0, ((1, 1), (2, 2), (3, 2))), 800)}
    assert not trained & held_out


def test_tuning_examples_never_show_a_held_out_program() -> None:
    held_out = {problem.canonical_solution for problem in TEST}
    responses = {r.removeprefix("\n") for *_, r in islice(tuning_examples(Part.TRAIN, 0), 800)}
    assert not responses & held_out


def test_pretraining_documents_hold_no_question() -> None:
    assert not any("Question" in text for text in islice(pretraining_documents(0), 500))


def test_pretraining_documents_are_python() -> None:
    for text in islice(pretraining_documents(1), 300):
        compile(text, "document", "exec")


def test_equal_seeds_give_equal_bytes_in_another_process() -> None:
    program = (
        "import hashlib\n"
        "from itertools import islice\n"
        "from astraios.minipack.documents import pretraining_documents, tuning_examples\n"
        "from astraios.minipack.problems import Part, benchmark\n"
        "parts = benchmark(), list(islice(pretraining_documents(3), 50)),"
        " list(islice(tuning_examples(Part.TRAIN, 3), 50))\n"
        "print(hashlib.sha256(repr(parts).encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_other_seeds_give_other_problems() -> None:
    assert benchmark(Part.TEST, 20, 0) != benchmark(Part.TEST, 20, 1)


def test_every_constant_is_told_in_every_phrase() -> None:
    for primitive in PRIMITIVES:
        phrases = (*primitive.terse, *primitive.imperative)
        assert all(("{k}" in phrase) == bool(primitive.constants) for phrase in phrases)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_prompts_never_end_in_white_space(seed: int) -> None:
    for _, instruction, opening, response in islice(tuning_examples(Part.TRAIN, seed), 3):
        assert opening == opening.rstrip()
        assert instruction == instruction.rstrip()
        assert response.startswith("\n    ")
