"""Sandboxes of every level that works here, and what a hostile program could want."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from astraios.sandbox import LEVELS, Sandbox, open_sandbox, probe

EVERY = 5
"""Of the hostile programs of other languages than Python, one in so many runs under bubblewrap: it
holds them by what level `namespaces` holds them by, and each of them has to be compiled."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the time of the hostile suite in bounds."""
    dear = [
        item for item in items if "[bubblewrap-" in item.nodeid and "-python-" not in item.nodeid
    ]
    dear = [item for item in dear if "test_hostile_program" in item.nodeid]
    dropped = {id(item) for at, item in enumerate(dear) if at % EVERY}
    if dropped:
        config.hook.pytest_deselected(items=[item for item in items if id(item) in dropped])
        items[:] = [item for item in items if id(item) not in dropped]


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
