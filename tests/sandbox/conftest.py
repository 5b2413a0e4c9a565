"""Sandboxes of every level that works here, and what a hostile program could want."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from astraios.sandbox import LEVELS, Sandbox, open_sandbox, probe

EVERY, EVERY_BELOW = 8, 40
"""Of the hostile programs of other languages than Python, each of which has to be compiled, one in
so many runs at level `namespaces`, and at the other levels; the rest is `slow`."""
EVERY_PYTHON, EVERY_PYTHON_BELOW = 2, 8
"""The same of those in Python."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the time of the hostile suite in bounds."""
    hostile = [item for item in items if "test_hostile_program" in item.nodeid]
    dear = [item for item in hostile if "-python-" not in item.nodeid]
    python = [item for item in hostile if "[namespaces-python-" in item.nodeid]
    below = [item for item in hostile if "[namespaces-" not in item.nodeid]
    for every, chosen in (
        (EVERY, [item for item in dear if "[namespaces-" in item.nodeid]),
        (EVERY_BELOW, [item for item in below if "-python-" not in item.nodeid]),
        (EVERY_PYTHON, python),
        (EVERY_PYTHON_BELOW, [item for item in below if "-python-" in item.nodeid]),
    ):
        for at, item in enumerate(chosen):
            if at % every:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def working_levels() -> dict[str, str]:
    """Level -> empty, or why it does not work on this machine."""
    return {report.level: report.reason for report in probe()}


@pytest.fixture(scope="module", params=LEVELS)
def sandbox(request: pytest.FixtureRequest, working_levels: dict[str, str]) -> Iterator[Sandbox]:
    """One server of each level, so that programs follow each other in it."""
    if working_levels[request.param]:
        pytest.skip(f"level {request.param}: {working_levels[request.param]}")
    with open_sandbox(request.param, jobs=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def strongest() -> Iterator[Sandbox]:
    """Two servers of the strongest level."""
    with open_sandbox("best", jobs=2) as opened:
        yield opened
