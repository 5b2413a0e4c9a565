"""The tests behind `pytest --pyargs astraios.testing --method NAME`: one a property."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import pytest

from astraios.testing import NotApplicable, Property, plugin


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for every property of every part that is asked for."""
    asked = metafunc.config.stash.get(plugin.KEY, None)
    cases = [
        pytest.param((kind, name), promise, id=f"{name}-{promise.name.replace(' ', '-')}")
        for kind, name in (asked.parts if asked else ())
        for promise in import_module(f"{plugin.PACKAGE}.{kind}s").CONTRACT
    ]
    metafunc.parametrize(("part", "promise"), cases, indirect=["part"], scope="module")


@pytest.fixture(scope="module")
def part(request: pytest.FixtureRequest) -> Iterator[Any]:
    """What the properties of its kind are asked of."""
    kind, name = request.param
    with _subject(kind, name, request.config.stash[plugin.KEY]) as made:
        yield made


def _subject(kind: str, name: str, asked: plugin.Asked) -> AbstractContextManager[Any]:
    from astraios.testing import engines, languages, methods, tasks

    if kind == "method":
        return nullcontext(methods.subject(name, asked.settings or None))
    if kind == "task":
        return nullcontext(tasks.subject(name, asked.data_dir))
    if kind == "language":
        return languages.subject(
            name, languages.read_examples(asked.programs) if asked.programs else None
        )
    return engines.subject(name, asked.settings, asked.base_model)


def test_part_keeps(part: Any, promise: Property[Any]) -> None:
    """One property of one part."""
    __tracebackhide__ = True
    try:
        promise.check(part)
    except NotApplicable as reason:
        pytest.skip(str(reason))
