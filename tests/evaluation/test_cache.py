"""The verdict cache: what is kept, what a key depends on, and that trouble costs time only."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios.evaluation import cache as module
from astraios.evaluation.cache import BATCH, N_HELD, Remembering, VerdictCache, is_lasting
from astraios.records import Execution, Finding, Findings, Outcome, Program

LIMITS = {"cpu_s": 10.0, "wall_s": 40.0}
ABOUT = {"task_version": "1", "tools": {"snake": "3"}, "limits": {"toy": LIMITS}, "control": True}
PASSED = Execution(outcome=Outcome.PASSED, cpu_s=0.25, wall_s=0.5, peak_mib=12.5)
FAILED = Execution(outcome=Outcome.FAILED, message="AssertionError: \ufffd", stderr="x\ny")


def programs(*codes, tests="t"):
    return [Program(language="toy", code=code, tests=tests) for code in codes]


@pytest.fixture
def ask(tmp_path, toy):
    """Check programs through the cache; the outcomes by position, and the codes that ran."""

    def run(asked, *, about=ABOUT, checker=None, sandbox=None, folder=tmp_path / "cache"):
        checker = checker or toy.Checker()
        with VerdictCache(folder) as cache:
            remembering = Remembering(checker, cache, about)
            found = list(remembering.check(iter(asked), sandbox or toy.Sandbox()))
        assert sorted(position for position, _ in found) == list(range(len(asked)))
        assert remembering.n_found + len(checker.ran) == len(asked)
        outcomes = [evidence.outcome.value for _, evidence in sorted(found, key=lambda f: f[0])]
        return outcomes, sorted(program.code for program in checker.ran)

    return run


def refused(caplog):
    return [r for r in caplog.records if "cannot be used" in r.getMessage()]


# --- what is kept ---


def test_an_execution_comes_back_as_it_was(tmp_path):
    with VerdictCache(tmp_path) as cache:
        cache.keep(b"a", PASSED)
        cache.keep(b"b", FAILED)
    with VerdictCache(tmp_path) as cache:
        assert cache.find([b"a", b"b", b"c"]) == {b"a": PASSED, b"b": FAILED}


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_what_no_load_can_change_is_kept(outcome):
    kept = {Outcome.PASSED, Outcome.FAILED, Outcome.COMPILE_ERROR, Outcome.CRASHED}
    assert is_lasting(Execution(outcome=outcome), LIMITS) == (outcome in kept)


@pytest.mark.parametrize(
    "fields", [{"signal": 9}, {"cpu_s": 5.1}, {"wall_s": 20.1}], ids=["killed", "cpu", "wall"]
)
def test_what_was_killed_or_came_near_its_time_is_not_kept(fields):
    execution = Execution(outcome=Outcome.CRASHED, **fields)
    assert not is_lasting(execution, LIMITS)
    assert is_lasting(Execution(outcome=Outcome.CRASHED, signal=11), LIMITS)


def test_time_outs_and_faults_run_again(ask):
    asked = programs("timed_out", "fault", "out_of_memory", "forged", "passed", "failed")
    assert ask(asked)[0] == ask(asked)[0]
    assert ask(asked)[1] == ["fault", "forged", "out_of_memory", "timed_out"]


def test_findings_are_not_kept(tmp_path, toy):
    class Analyser(toy.Checker):
        def check(self, asked, sandbox):
            finding = Finding(rule="r", cwe="1", file="f", line=1, message="m")
            for position, program in enumerate(asked):
                self.ran.append(program)
                yield position, Findings(findings=(finding,))

    checker = Analyser()
    with VerdictCache(tmp_path) as cache:
        for _ in range(2):
            list(Remembering(checker, cache, ABOUT).check(programs("x"), toy.Sandbox()))
    assert len(checker.ran) == 2


# --- what a key depends on ---


def test_the_same_program_runs_once(ask):
    asked = programs("passed", "failed")
    assert ask(asked) == (["passed", "failed"], ["failed", "passed"])
    assert ask(asked) == (["passed", "failed"], [])


@pytest.mark.parametrize(
    "change",
    [
        {"task_version": "2"},
        {"tools": {"snake": "4"}},
        {"limits": {"toy": {**LIMITS, "cpu_s": 11.0}}},
        {"control": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_can_move_a_verdict_is_in_the_key(ask, change):
    ask(programs("passed"))
    assert ask(programs("passed"), about={**ABOUT, **change})[1] == ["passed"]


def test_tests_and_language_are_in_the_key(ask):
    ask(programs("passed"))
    assert ask(programs("passed", tests="u"))[1] == ["passed"]
    assert ask([Program(language="toys", code="passed", tests="t")])[1] == ["passed"]


def test_code_and_tests_are_kept_apart(ask):
    ask(programs("passed a", tests="b"))
    assert ask(programs("passed ", tests="ab"))[1] == ["passed "]


def test_sandbox_and_checker_are_in_the_key(ask, toy):
    class Weaker(toy.Sandbox):
        def describe(self):
            return {"sandbox": "none", "sandbox_files": "all"}

    class Newer(toy.Checker):
        def version(self):
            return "toy 2"

    ask(programs("passed"))
    assert ask(programs("passed"), sandbox=Weaker())[1] == ["passed"]
    assert ask(programs("passed"), checker=Newer())[1] == ["passed"]


def test_our_own_code_is_in_the_key(ask, monkeypatch):
    ask(programs("passed"))
    monkeypatch.setattr(module, "runner_digest", lambda: "changed")
    assert ask(programs("passed"))[1] == ["passed"]


def test_text_that_is_no_unicode_has_a_key(ask):
    asked = programs("passed \ud800")
    ask(asked)
    assert ask(asked)[1] == []


# --- the stream ---


@given(known=st.lists(st.booleans(), max_size=40), batch=st.integers(1, 7))
def test_every_program_is_answered_once(tmp_path_factory, toy, known, batch):
    asked = programs(*(f"passed {n}" for n in range(len(known))))
    checker = toy.Checker()
    with pytest.MonkeyPatch.context() as patch, VerdictCache(tmp_path_factory.mktemp("c")) as cache:
        patch.setattr(module, "BATCH", batch)
        patch.setattr(module, "N_HELD", 2 * batch)
        before = [program for program, is_known in zip(asked, known, strict=True) if is_known]
        list(Remembering(toy.Checker(), cache, ABOUT).check(before, toy.Sandbox()))
        found = list(Remembering(checker, cache, ABOUT).check(iter(asked), toy.Sandbox()))
    assert sorted(position for position, _ in found) == list(range(len(asked)))
    assert sorted(p.code for p in checker.ran) == sorted(
        p.code for p, is_known in zip(asked, known, strict=True) if not is_known
    )


def test_an_endless_source_is_taken_a_little_at_a_time(tmp_path, toy):
    taken = count()
    source = (program for n in taken for program in programs(f"passed {n % 5}"))
    with VerdictCache(tmp_path) as cache:
        results = Remembering(toy.Checker(), cache, ABOUT).check(source, toy.Sandbox())
        assert len(list(islice(results, 3 * N_HELD))) == 3 * N_HELD
    assert next(taken) <= 5 * N_HELD


def test_long_programs_are_not_gathered(tmp_path, toy):
    taken = count()
    source = (program for n in taken for program in programs(f"passed {n}" + "x" * 1_000_000))
    with VerdictCache(tmp_path) as cache:
        next(Remembering(toy.Checker(), cache, ABOUT).check(source, toy.Sandbox()))
    assert next(taken) < 10 < BATCH


def test_what_was_found_out_before_an_interruption_is_kept(ask, toy):
    asked = programs(*(f"passed {n}" for n in range(10)))
    with pytest.raises(KeyboardInterrupt):
        ask(asked, checker=toy.Checker(ahead=1, dies_after=6))
    assert len(ask(asked)[1]) == 4


# --- trouble ---


def file_of(folder):
    with VerdictCache(folder) as cache:
        cache.keep(b"a", PASSED)
    return cache.path


def test_a_broken_file_is_told_once_and_costs_time_only(ask, tmp_path, caplog):
    path = file_of(tmp_path / "cache")
    path.write_bytes(b"no data base at all" * 1000)
    asked = programs(*(f"passed {n}" for n in range(3 * BATCH)))
    assert ask(asked)[0] == ["passed"] * len(asked)
    [told] = refused(caplog)
    assert str(path) in told.getMessage()


def test_a_file_broken_in_the_middle_costs_time_only(ask, tmp_path, caplog):
    path = file_of(tmp_path / "cache")
    data = bytearray(path.read_bytes())
    data[2048:] = os.urandom(len(data) - 2048)
    path.write_bytes(data)
    assert ask(programs("passed"))[0] == ["passed"]
    assert len(refused(caplog)) <= 1


def test_an_entry_of_another_kind_is_replaced(ask, tmp_path):
    ask(programs("passed"))
    [path] = (tmp_path / "cache").glob("*.sqlite")
    data = sqlite3.connect(path)
    with data:
        data.execute("""UPDATE verdicts SET execution = '{"outcome": "wonderful"}'""")
    data.close()
    assert ask(programs("passed")) == (["passed"], ["passed"])
    assert ask(programs("passed")) == (["passed"], [])


def test_a_locked_file_is_not_waited_for_forever(ask, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    path = file_of(tmp_path / "cache")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert ask(programs("passed")) == (["passed"], ["passed"])
    other.close()
    assert len(refused(caplog)) == 1


def test_a_folder_that_cannot_be_made_costs_time_only(ask, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert ask(programs("passed"), folder=tmp_path / "file" / "c") == (["passed"], ["passed"])
    assert len(refused(caplog)) == 2  # once for each run


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_costs_time_only(ask, tmp_path, caplog):
    (tmp_path / "cache").mkdir(mode=0o500)
    assert ask(programs("passed")) == (["passed"], ["passed"])
    assert len(refused(caplog)) == 1


def test_a_full_disk_costs_time_only(ask, tmp_path, caplog, monkeypatch):
    whole = VerdictCache._open

    def open_small(self):
        data = whole(self)
        data.execute("PRAGMA max_page_count = 4")
        return data

    monkeypatch.setattr(VerdictCache, "_open", open_small)
    asked = programs(*(f"passed {n}" for n in range(BATCH)))
    assert ask(asked)[0] == ["passed"] * BATCH
    [told] = refused(caplog)
    assert "full" in told.getMessage()


# --- size, processes ---


def test_what_was_not_used_for_longest_goes_first(tmp_path, monkeypatch):
    def day(n):
        monkeypatch.setattr(module.time, "time", lambda: n * module.DAY_S)

    def key(n):
        return n.to_bytes(32, "big")

    day(1)
    with VerdictCache(tmp_path) as cache:
        for n in range(600):
            cache.keep(key(n), FAILED)
    day(2)
    with VerdictCache(tmp_path) as cache:
        assert len(cache.find([key(n) for n in range(100)])) == 100  # used again
    day(3)
    with VerdictCache(tmp_path, largest_mib=0.05) as cache:
        cache.keep(key(1000), FAILED)
    with VerdictCache(tmp_path) as cache:
        left = [n for n in (*range(600), 1000) if cache.find([key(n)])]
    assert left[:100] == list(range(100)) and left[-1] == 1000
    assert 300 < len(left) < 500


def test_the_file_stays_near_its_bound(tmp_path):
    with VerdictCache(tmp_path, largest_mib=0.25) as cache:
        for n in range(5000):
            cache.keep(n.to_bytes(32, "big"), FAILED)
    assert cache.path.stat().st_size < 0.3 * 2**20


WRITER = """
import sys
from pathlib import Path
from astraios.evaluation.cache import VerdictCache
from astraios.records import Execution, Outcome
with VerdictCache(Path(sys.argv[1])) as cache:
    for n in range(1500):
        cache.find([b"%d" % (n - 1)])
        cache.keep(b"%d" % n, Execution(outcome=Outcome.PASSED))
"""


def test_several_processes_may_write_at_once(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(w.communicate()[1], w.returncode) for w in writers] == [("", 0)] * 4
    with VerdictCache(tmp_path) as cache:
        assert len(cache.find([b"%d" % n for n in range(1500)])) == 1500
