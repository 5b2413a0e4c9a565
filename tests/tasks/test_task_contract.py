"""Every registered task keeps the contract of `astraios.testing`, on the rows that lie here."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from functools import cache
from pathlib import Path

import pytest

from astraios import tasks
from astraios.errors import ContractError, MissingDataError
from astraios.testing import NotApplicable, Property
from astraios.testing._contract import checked
from astraios.testing.tasks import CONTRACT, TaskSubject, subject

ROWS = Path(__file__).parent / "rows"
EDITION = {
    "recode-format": "recode-format@seeds-2",
    "recode-function": "recode-function@seeds-2",
    "recode-syntax": "recode-syntax@seeds-1",
    "recode-docstring": "recode-docstring@seeds-1",
}
"""Of which rows lie here."""


@cache
def here(name: str) -> TaskSubject | None:
    """The task with the rows here, if there are some."""
    made = subject(EDITION.get(name, name), ROWS)
    try:
        _ = made.problems
    except MissingDataError:
        return None
    return made


def cases() -> Iterator[object]:
    for name in tasks.names():
        for promise in CONTRACT:
            compiles = promise.name.startswith("reference programs") and here(name) is None
            marks = [pytest.mark.slow] if compiles else []
            yield pytest.param(
                name, promise, id=f"{name}-{promise.name.replace(' ', '-')}", marks=marks
            )


@pytest.mark.parametrize(("name", "promise"), tuple(cases()))
def test_task_keeps(
    promise: Property[TaskSubject], name: str, request: pytest.FixtureRequest
) -> None:
    task = here(name) or subject(name, request.getfixturevalue("shared") / "data")
    try:
        promise.check(task)
    except NotApplicable as reason:
        pytest.skip(str(reason))


# --- the contract itself ----------------------------------------------------------------------


def spoiled(**changes: object) -> TaskSubject:
    """A task of which something is otherwise."""
    made = subject("minipack-fix")
    task = copy(made.task)
    for name, value in changes.items():
        object.__setattr__(task, name, value)
    return TaskSubject(task)


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"version": ""}, "it says what it is: give it a version"),
        ({"languages": ("klingon",)}, "language ['klingon'] is not among"),
        ({"problems": lambda _: []}, "it has no problems"),
        ({"prompt": lambda *_: None}, "a problem is never asked about"),
        ({"finished": lambda _: lambda text: True}, "'' is finished, and yet '    return 41"),
        ({"scores": lambda verdicts: []}, "scores() of some verdicts is empty"),
        ({"references": lambda problem: None}, ""),
    ],
)
def test_a_broken_promise_is_told_with_what_was_seen(changes: dict[str, object], seen: str) -> None:
    made = spoiled(**changes)
    if not seen:
        kept = checked("task", CONTRACT, made)
        assert kept.left_out["reference programs fare as they must"] == "has no reference programs"
        return
    with pytest.raises(ContractError) as told:
        checked("task", CONTRACT, made)
    assert seen in str(told.value)
