"""The negative control: an honest program fails it, a forger does not."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.sandbox.inside import control


def run(tests: str, names: dict[str, Any], *, negative: bool) -> bool:
    tree = ast.parse(tests)
    code = compile(control.impossible(tree) if negative else tree, "<tests>", "exec")
    try:
        exec(code, dict(names))
    except Exception:
        return False
    return True


class Same:
    """Equal to everything, smaller and larger than everything."""

    def _yes(self, other: object) -> Any:
        return True

    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = _yes  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]

    def __sub__(self, *_: object) -> Same:
        return self

    __abs__ = __rsub__ = __sub__  # type: ignore[assignment]


HONEST = [
    ("assert f(2) == 3", 3),
    ("assert f(2) == True", True),
    ("assert 'ab' == f(2)", "ab"),
    ("assert f(2) == [1, [2, 'x']]", [1, [2, "x"]]),
    ("assert f(2) == (1,)", (1,)),
    ("assert f(2) == {'a': 1}", {"a": 1}),
    ("assert f(2) == {1, 2}", {1, 2}),
    ("assert f(2) == ()", ()),
    ("assert f(2) == -0.5", -0.5),
    ("assert f(2) == 2.0 / 3.0", 2.0 / 3.0),
    ("assert f(2) is None", None),
    ("assert f(2) is True", True),
    ("assert f(2) == b'x'", b"x"),
    ("y = [5]\nassert f(2) == y", [5]),
    ("assert abs(f(2) - 0.5) < 1e-6", 0.5),
    ("assert abs(f(2) - 100) < 5", 101),
    ("assert abs(0.25 - f(2)) <= 0.01", 0.25),
    ("assert f(2) > 0", 7),
    ("assert 0 < f(2) < 10", 7),
    ("assert f(2) in (1, 7)", 7),
    ("assert f(2) == 7 and f(3) == 7", 7),
    ("for x, y in [(1, 7), (2, 7)]:\n    assert f(x) == y, 'wrong'", 7),
]


@pytest.mark.parametrize(("tests", "value"), HONEST)
def test_right_answer_passes_the_tests_and_fails_the_control(tests: str, value: object) -> None:
    assert run(tests, {"f": lambda x: value}, negative=False)
    assert not run(tests, {"f": lambda x: value}, negative=True)


@pytest.mark.parametrize(
    ("tests", "value"),
    [(tests, value) for tests, value in HONEST if " is " not in tests],
)
def test_object_equal_to_everything_passes_the_control(tests: str, value: object) -> None:
    assert run(tests, {"f": lambda x: Same()}, negative=True)


@pytest.mark.parametrize(
    "tests", ["assert f(2)", "assert not f(2)", "f(2)", "", "assert f(2) != 5"]
)
def test_tests_without_expectations_get_a_failing_end(tests: str) -> None:
    assert not run(tests, {"f": lambda x: x}, negative=True)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_expected_literal_survives(value: object) -> None:
    tests = f"assert f(0) == {value!r}"
    names = {"f": lambda x: value, "nan": float("nan"), "inf": float("inf")}
    assert not run(tests, names, negative=True)


def test_canonical_solutions_fail_their_control(shared: Path) -> None:
    with gzip.open(shared / "data/humanevalpack/python.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        names: dict[str, Any] = {}
        exec(row["prompt"] + row["canonical_solution"], names)  # trusted: the benchmark's own
        assert not run(row["test"], names, negative=True), row["task_id"]
