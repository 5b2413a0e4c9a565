"""Jobs in their order: each once, after those it builds on, whatever else happens."""

from __future__ import annotations

import pytest
from cheap_jobs import job
from hypothesis import given
from hypothesis import strategies as st

from astraios.errors import ConfigError
from astraios.studies.board import Board
from astraios.studies.needs import Needs


@st.composite
def plans(draw):
    n = draw(st.integers(1, 12))
    jobs = []
    for at in range(n):
        after = draw(st.sets(st.integers(0, at - 1), max_size=3)) if at else set()
        jobs.append(job(f"j{at}", *(f"j{one}" for one in sorted(after)), "done before"))
    return jobs


@given(plans(), st.data())
def test_every_job_ends_once_and_after_what_it_builds_on(jobs, data):
    board = Board(jobs)
    running, ended, failed, skipped = [], set(), set(), set()
    while not board.finished:
        can_start = board.n_ready > 0
        if can_start and (not running or data.draw(st.booleans())):
            first = board.first()
            assert not (set(first.after) - {"done before"} - ended)
            board.start(first)
            running.append(first)
            continue
        one = running.pop(data.draw(st.integers(0, len(running) - 1)))
        how = data.draw(st.sampled_from(["well", "well", "badly", "again"]))
        if how == "again":
            board.again(one)
            continue
        dropped = board.end(one, well=how == "well")
        (ended if how == "well" else failed).add(one.id)
        assert not (how == "well" and dropped)
        skipped.update(other.id for other in dropped)
    assert len(ended) + len(failed) + len(skipped) == len(jobs)
    for one in jobs:
        doomed = bool((failed | skipped).intersection(one.after))
        assert (one.id in skipped) == doomed


def test_jobs_start_in_the_order_of_the_plan():
    board = Board([job(name) for name in "cab"])
    started = []
    while board.n_ready:
        first = board.first()
        board.start(first)
        started.append(first.id)
    assert started == ["c", "a", "b"]


def test_jobs_of_the_base_in_memory_come_before_those_of_another():
    jobs = [job("x1"), job("y1"), job("x2"), job("y2"), job("none")]
    board = Board(jobs, base=lambda one: one.id[0] if one.id != "none" else None)
    started = []
    for _ in jobs:
        first = board.first("y")
        board.start(first)
        started.append(first.id)
    assert started == ["y1", "y2", "none", "x1", "x2"]


def test_a_job_without_room_lets_others_pass():
    board = Board(
        [job("large"), job("small")],
        needs=lambda one: Needs(host_mib=100 if one.id == "large" else 1),
    )
    assert board.first(None, lambda base, needs: needs.host_mib < 50).id == "small"
    assert board.first(None, lambda base, needs: needs.host_mib < 1) is None
    assert board.first().id == "large"


@pytest.mark.parametrize(
    "jobs",
    [
        [job("a", "a")],
        [job("a", "b"), job("b", "a")],
        [job("a"), job("b", "a", "d"), job("c", "b"), job("d", "c")],
    ],
)
def test_a_circle_is_refused_by_name(jobs):
    with pytest.raises(ConfigError, match=r"job '[abcd]' waits for itself"):
        Board(jobs)


def test_a_job_that_is_planned_twice_is_refused():
    with pytest.raises(ConfigError, match="planned twice"):
        Board([job("a"), job("a")])
