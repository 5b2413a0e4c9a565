"""Sandboxes of every level that works here, and what a hostile program could want."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from astraios.sandbox import LEVELS, Sandbox, open_sandbox, probe


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
    with open_sandbox(jobs=2) as opened:
        yield opened
