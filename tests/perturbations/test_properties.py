"""What holds for any problem: same tests, same results, equal seeds, Python in and Python out."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astraios.errors import UnknownNameError
from astraios.minipack.problems import Part, draw_problems
from astraios.perturbations import Claim, Told, family, perturb, transformations

NAMES = [one.name for one in transformations()]
VARIABLES = ("total", "value", "best", "seen", "count")
WORDS = ("Return the largest number of a list", "Check if \\n `xs` is sorted", "Keep the even ones")
EXPRESSIONS = ("x + 1", "len(str(x))", "x if x > 2 else -x", "f'{x}'.count('1')", "x == 3")


@st.composite
def programs(draw: st.DrawFn) -> Told:
    """A function of loops, conditions and assignments over whole numbers, and a test of it."""
    name = draw(st.sampled_from(("work", "do_it", "addNumbers", "f")))
    variable = draw(st.sampled_from(VARIABLES))
    lines = [f"{variable} = {draw(st.integers(-3, 3))}"]
    for _ in range(draw(st.integers(1, 4))):
        expression = draw(st.sampled_from(EXPRESSIONS))
        comparison = draw(st.sampled_from(("<", ">=", "==", "!=")))
        lines += draw(
            st.sampled_from(
                (
                    ["for x in xs:", f"    if x {comparison} 2:", "        continue",
                     f"    {variable} += {expression}"],
                    ["for i in range(0, len(xs), 2):", "    x = xs[i]",
                     f"    {variable} -= {expression}"],
                    ["for x in reversed(xs):", f"    if {variable} {comparison} x:",
                     "        break", "    # a remark", f"    {variable} = {expression}"],
                    ["if len(xs) > 2:", f"    {variable} *= 2", "else:", f"    {variable} += 1"],
                    [f"{variable} += sum({expression} for x in xs)", ""],
                )
            )
        )  # fmt: skip
    lines.append(f"return {variable}")
    body = "".join(f"    {line}\n" if line else "\n" for line in lines)
    doc = draw(st.sampled_from(WORDS))
    prompt = f'def {name}(xs):\n    """{doc}.\n    >>> {name}([1])\n    """\n'
    space: dict[str, object] = {}
    exec(prompt + body, space)
    inputs = ([], [1], [3, 1, 2], [5, -1, 4, 0, 3])
    test = f"def check({name}):\n" + "".join(
        f"    assert {name}({case}) == {space[name](case)!r}\n"  # type: ignore[operator]
        for case in inputs
    )
    return Told(
        id=f"drawn/{draw(st.integers(0, 99))}",
        entry_point=name,
        prompt=prompt,
        rest=body,
        test=f"{test}\ncheck({name})\n",
        text=f"Write `{name}(xs)`.\n{doc}.",
    )


@settings(max_examples=40)
@given(told=programs(), seed=st.integers(0, 4))
def test_any_program_still_passes_its_tests(told: Told, seed: int) -> None:
    for name in NAMES:
        made = perturb(told, name, seed).told
        exec(compile(f"{made.code}\n{made.test}", name, "exec"), {})


@settings(max_examples=30)
@given(told=programs(), seed=st.integers(0, 2**64))
def test_equal_seeds_give_equal_problems(told: Told, seed: int) -> None:
    for name in NAMES:
        assert perturb(told, name, seed) == perturb(told, name, seed)


@settings(max_examples=30)
@given(told=programs())
def test_tests_say_the_same(told: Told) -> None:
    """Only a new function name reaches them, and it does so as a name alone."""
    for one in transformations():
        made = perturb(told, one.name).told
        if one.claim is not Claim.NAME:
            assert made.test == told.test
        assert [line.partition("==")[2] for line in made.test.splitlines()] == [
            line.partition("==")[2] for line in told.test.splitlines()
        ]


@settings(max_examples=50)
@given(prompt=st.text(max_size=200), rest=st.text(max_size=200), text=st.text(max_size=80))
def test_text_that_is_no_python_stops_nothing(prompt: str, rest: str, text: str) -> None:
    told = Told(id="x", entry_point="f", prompt=prompt, rest=rest, test="", text=text)
    for name in NAMES:
        perturb(told, name)


def test_seeds_differ_where_chance_decides() -> None:
    problem = next(draw_problems(Part.TEST, 5, ((3, 1),)))
    told = Told(
        id="p",
        entry_point="find_largest_values",
        prompt='def find_largest_values(v):\n    """Find the largest values of a list."""\n',
        rest=problem.canonical_solution,
        test="",
    )
    for one in transformations():
        if one.drawn:
            assert len({perturb(told, one.name, seed).told for seed in range(5)}) > 1, one.name


def test_bytes_depend_on_neither_process_nor_hash_seed() -> None:
    program = (
        "import hashlib\n"
        "from astraios.minipack.problems import benchmark\n"
        "from astraios.perturbations import Told, perturb, transformations\n"
        "made = [perturb(Told(p.task_id, p.entry_point, p.prompt, p.canonical_solution, p.test,\n"
        "    p.instruction), one.name, seed).told for p in benchmark()[:8]\n"
        "    for one in transformations() for seed in (0, 3)]\n"
        "print(hashlib.sha256(repr(made).encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {GOLDEN}


GOLDEN = "365c082aadff904948213d138fc1a46b964a3d48d903a5d27e5822322e81e806"
"""Changes with `VERSION` only: the same on every machine and under every Python."""


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="OperandSwap"):
        perturb(Told("x", "f", "def f():\n", "    pass\n", ""), "OperantSwap")
    with pytest.raises(UnknownNameError, match="syntax"):
        family("sintax")


# --- examples ---------------------------------------------------------------------------------

COUNT = Told(
    id="count",
    entry_point="count_words",
    prompt='def count_words(text):\n    """Return the number of words, as in "a b".\n\n    >>> count_words("a b")\n    2\n    """\n',  # noqa: E501
    rest="    total = 0\n    for word in text.split():\n        if word != '':\n            total += 1\n    return total\n",  # noqa: E501
    test="assert count_words('a b') == 2\n",
    text='Write `count_words(text)`.\nReturn the number of words, as in "a b".',
)


def test_quoted_text_names_and_examples_are_left_alone() -> None:
    for one in family("docstring"):
        for seed in range(5):
            made = perturb(COUNT, one.name, seed).told
            assert '"a b"' in made.prompt and '"a b"' in made.text
            assert '>>> count_words("a b")\n    2\n' in made.prompt
            assert "`count_words(text)`" in made.text


def test_the_instruction_repeats_the_documentation() -> None:
    for one in family("docstring"):
        made = perturb(COUNT, one.name).told
        assert made.text.split("\n")[1] in made.prompt


def test_a_name_that_is_a_word_is_renamed_where_it_is_called_only() -> None:
    told = Told(
        id="add",
        entry_point="add",
        prompt='def add(a, b):\n    """Add a and b: add them, add(1, 2) is 3."""\n',
        rest="    return a + b\n",
        test="assert add(1, 2) == 3\n",
        text="Write `add`. To add is simple.",
    )
    made = perturb(told, "FuncRenameChangeChar").told
    new = made.entry_point
    assert f"add them, {new}(1, 2)" in made.prompt
    assert made.text == f"Write `{new}`. To add is simple."
    assert made.test == f"assert {new}(1, 2) == 3\n"


def test_names_inside_formatted_strings_are_names() -> None:
    told = Told(
        id="f",
        entry_point="f",
        prompt="def f(items):\n",
        rest="    n = len(items)\n    word = f'{n:>{n}} items'\n    return word + str(n)\n",
        test="assert f([1]) == '1 items1'\n",
    )
    made = perturb(told, "VarRenamerNaive").told
    assert "f'{VAR_0:>{VAR_0}} items'" in made.code


@pytest.mark.parametrize(
    "body",
    [
        "    for x in xs:\n        xs.append(1)\n        break\n    return 1\n",
        "    for x in xs:\n        pass\n    else:\n        return 1\n    return 2\n",
        "    for x in read(xs):\n        pass\n    return 1\n",
        "    for x in xs: pass\n    return 1\n",
    ],
)
def test_loops_that_could_differ_are_left_alone(body: str) -> None:
    told = Told("x", "f", "def f(xs):\n", body, "")
    assert not perturb(told, "ForWhileTransformer").changed


def test_operands_with_effects_are_left_alone() -> None:
    body = "    if xs.pop() == xs.pop():\n        return 1\n    return 2\n    return 3\n"
    assert not perturb(Told("x", "f", "def f(xs):\n", body, ""), "OperandSwap").changed


def test_a_parameter_that_a_call_names_keeps_its_name() -> None:
    told = Told(
        "x", "f", "def f(xs):\n", "    xs = xs\n    return xs\n", "assert f(xs=[1]) == [1]\n"
    )
    assert "def f(xs)" in perturb(told, "VarRenamerNaive").told.code
