"""The judging stage: each program once, in order, resumable anywhere, faults apart."""

from __future__ import annotations

import functools
import json
import multiprocessing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios import tasks
from astraios.checkers import Checker
from astraios.errors import (
    DataError,
    ForeignRunError,
    MissingToolError,
    UnfinishedRunError,
    WorkError,
)
from astraios.evaluation import judge as module
from astraios.evaluation.judge import JudgeConfig, judge, judge_config
from astraios.evaluation.score import score
from astraios.records import (
    Execution,
    Finish,
    Outcome,
    ProblemCard,
    RunKind,
    Sample,
    Score,
    Verdict,
)
from astraios.runs import Run, read_run

CONFIG = JudgeConfig(task="toy", task_version="1", checker="toy")


def run_judge(toy, samples, folder, *, checker=None, task=None, **options):
    task = task or toy.Task()
    options.setdefault("config", CONFIG)
    options.setdefault("references", False)
    options.setdefault("cache", False)
    return judge(
        task,
        samples,
        folder,
        problems=task.problems(None),
        sandbox=toy.Sandbox(),
        checker=checker or toy.Checker(),
        **options,
    )


def verdicts(run):
    return [(v.problem_id, v.index, v.outcome.value) for v in run.read("verdicts", Verdict)]


@pytest.fixture
def samples(toy):
    """Three problems with four samples each, in no order."""
    kinds = ("passed", "failed a", "passed", "crashed")
    made = [toy.sample(f"t/{p}", n, kind) for p in range(3) for n, kind in enumerate(kinds)]
    return made[5:] + made[:5]


def test_verdicts_are_in_the_order_of_problems_and_samples(tmp_path, toy, samples):
    run = run_judge(toy, samples, tmp_path / "run")
    outcomes = ("passed", "failed", "passed", "crashed")
    assert verdicts(run) == [(f"t/{p}", n, o) for p in range(3) for n, o in enumerate(outcomes)]


def test_identical_programs_of_a_problem_run_once(tmp_path, toy, samples):
    checker = toy.Checker()
    run_judge(toy, samples, tmp_path / "run", checker=checker)
    assert len(checker.ran) == 9
    assert len({program.text for program in checker.ran}) == 9


def test_programs_of_a_problem_follow_each_other(tmp_path, toy, samples):
    checker = toy.Checker(ahead=1)
    run_judge(toy, samples, tmp_path / "run", checker=checker)
    assert [p.tests for p in checker.ran] == ["t/0"] * 3 + ["t/1"] * 3 + ["t/2"] * 3


def test_samples_of_another_folder_are_judged_where_they_are(tmp_path, toy, samples):
    source = toy.write_samples(tmp_path / "source", samples)
    run = run_judge(toy, source, tmp_path / "run")
    assert len(verdicts(run)) == 12
    assert not (run.folder / "samples.jsonl").exists()


def test_a_run_that_still_generates_is_not_judged(tmp_path, toy, samples):
    source = toy.write_samples(tmp_path / "source", ())
    (source / "samples.jsonl").unlink()
    Run.open(source, kind=RunKind.GENERATE, config=CONFIG).close()
    toy.write_samples(source, samples)
    with pytest.raises(UnfinishedRunError, match="not finished"):
        run_judge(toy, source, tmp_path / "run")


def test_a_run_is_sealed_with_its_counts(tmp_path, toy, samples):
    manifest = run_judge(toy, samples, tmp_path / "run").manifest
    assert manifest.status == "done"
    assert manifest.environment["sandbox"] == "none"
    assert (manifest.counts["n_samples"], manifest.counts["n_passed"]) == (12, 6)
    assert manifest.counts["n_faults"] == 0


def test_problems_and_scores_are_written_beside_the_verdicts(tmp_path, toy, samples):
    run = run_judge(toy, samples, tmp_path / "run")
    assert [card.id for card in run.read("problems", ProblemCard)] == ["t/0", "t/1", "t/2"]
    [first] = [Score(**row) for row in json.loads((run.folder / "scores.json").read_text())]
    assert (first.metric, first.value) == ("pass@1", 0.5)


def test_scores_can_be_computed_again_from_the_verdicts(tmp_path, toy, samples):
    run = run_judge(toy, samples, tmp_path / "run")
    before = (run.folder / "scores.json").read_bytes()
    (run.folder / "scores.json").unlink()
    score(toy.Task(), run.folder)
    assert (run.folder / "scores.json").read_bytes() == before


def test_scores_of_another_task_are_refused(tmp_path, toy, samples):
    run = run_judge(toy, samples, tmp_path / "run")
    other = toy.Task()
    other.version = "2"
    with pytest.raises(ForeignRunError, match=r"judged as toy \(1\), not as toy \(2\)"):
        score(other, run.folder)


@pytest.mark.parametrize("n_programs", range(9))
def test_a_run_stopped_anywhere_ends_in_the_same_file(tmp_path, toy, samples, n_programs):
    whole = run_judge(toy, samples, tmp_path / "whole")
    dying = toy.Checker(dies_after=n_programs)
    with pytest.raises(KeyboardInterrupt):
        run_judge(toy, samples, tmp_path / "run", checker=dying)
    rest = toy.Checker()
    run = run_judge(toy, samples, tmp_path / "run", checker=rest)
    for name in ("verdicts.jsonl", "problems.jsonl", "samples.jsonl", "scores.json"):
        assert (run.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert len(rest.ran) <= 9


@given(n_bytes=st.integers(0, 2000))
def test_a_torn_verdict_file_is_completed(tmp_path_factory, toy, n_bytes):
    samples = [toy.sample(f"t/{p}", n, "passed") for p in range(3) for n in range(4)]
    folder = tmp_path_factory.mktemp("torn") / "run"
    run = run_judge(toy, samples, folder)
    whole = (folder / "verdicts.jsonl").read_bytes()
    (folder / "verdicts.jsonl").write_bytes(whole[:n_bytes])
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    run = run_judge(toy, samples, folder)
    assert (run.folder / "verdicts.jsonl").read_bytes() == whole


def test_a_copy_of_samples_that_was_cut_short_is_made_again(tmp_path, toy, samples):
    def cut_short():
        yield from samples[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_judge(toy, cut_short(), tmp_path / "run")
    assert len(verdicts(run_judge(toy, samples, tmp_path / "run"))) == 12


def test_a_finished_run_runs_nothing_again(tmp_path, toy, samples):
    first = run_judge(toy, samples, tmp_path / "run")
    checker = toy.Checker()
    again = run_judge(toy, iter(()), tmp_path / "run", checker=checker)
    assert again.manifest == first.manifest
    assert checker.ran == []


def test_a_fault_that_passes_over_is_not_reported(tmp_path, toy):
    run = run_judge(
        toy, [toy.sample("t/0", 0, "flaky")], tmp_path / "run", checker=toy.Checker(n_faults=2)
    )
    assert verdicts(run) == [("t/0", 0, "passed")]


def test_a_fault_that_stays_is_counted_apart(tmp_path, toy):
    made = [toy.sample("t/0", 0, "flaky"), toy.sample("t/0", 1, "passed")]
    run = run_judge(toy, made, tmp_path / "run", checker=toy.Checker(n_faults=99))
    assert verdicts(run) == [("t/0", 0, "fault"), ("t/0", 1, "passed")]
    assert run.manifest.counts["n_faults"] == 1
    [first] = json.loads((run.folder / "scores.json").read_text())
    assert (first["value"], first["n_samples"], first["n_faults"]) == (1.0, 1, 1)


def test_faults_of_a_finished_run_are_tried_again(tmp_path, toy):
    made = [toy.sample("t/0", 0, "flaky"), toy.sample("t/0", 1, "passed")]
    run_judge(toy, made, tmp_path / "run", checker=toy.Checker(n_faults=99))
    checker = toy.Checker()
    run = run_judge(toy, made, tmp_path / "run", checker=checker)
    assert sorted(verdicts(run)) == [("t/0", 0, "passed"), ("t/0", 1, "passed")]
    assert [program.code for program in checker.ran] == ["flaky"]
    assert run.manifest.counts["n_faults"] == 0


def test_references_run_before_anything_else(tmp_path, toy, samples):
    checker = toy.Checker()
    run = run_judge(toy, samples, tmp_path / "run", checker=checker, references=True)
    assert len(checker.ran) == 6 + 9
    report = json.loads((run.folder / "references.json").read_text())
    assert report == {"n_right_passed": 3, "n_wrong_refused": 3}


def test_failing_references_stop_everything_with_the_list(tmp_path, toy, samples):
    checker = toy.Checker(broken=("failed",))
    with pytest.raises(WorkError, match=r"(?s)3 of 6 .*t/0: the wrong solution: passed.*t/2"):
        run_judge(toy, samples, tmp_path / "run", checker=checker, references=True)
    assert len(checker.ran) == 6
    assert not (tmp_path / "run" / "verdicts.jsonl").exists()
    mended = run_judge(toy, samples, tmp_path / "run", references=True)
    assert len(verdicts(mended)) == 12


def test_limits_leave_the_rest_out(tmp_path, toy, samples):
    config = CONFIG.model_copy(update={"limit_problems": 2, "limit_samples": 1})
    run = run_judge(toy, samples, tmp_path / "run", config=config)
    assert verdicts(run) == [("t/0", 0, "passed"), ("t/1", 0, "passed")]


def test_a_folder_of_another_config_is_refused(tmp_path, toy, samples):
    run_judge(toy, samples, tmp_path / "run")
    other = CONFIG.model_copy(update={"task_version": "2"})
    with pytest.raises(ForeignRunError, match="task_version"):
        run_judge(toy, samples, tmp_path / "run", config=other)


def test_a_run_begun_at_another_level_is_not_continued(tmp_path, toy, samples, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run_judge(toy, samples, tmp_path / "run", checker=toy.Checker(dies_after=1))
    monkeypatch.setattr(toy.Sandbox, "level", "weaker")
    with pytest.raises(ForeignRunError, match="begun in a sandbox of level 'none'"):
        run_judge(toy, samples, tmp_path / "run")


def test_an_answer_without_its_last_turn_is_refused(tmp_path, toy, samples):
    with pytest.raises(DataError, match="asks for more"):
        run_judge(toy, samples, tmp_path / "run", task=toy.Task(n_turns=2))


def test_progress_ends_with_all_samples(tmp_path, toy, samples):
    told = []
    run_judge(toy, samples, tmp_path / "run", progress=lambda *args: told.append(args[:2]))
    assert told[0] == (0, 12)
    assert told[-1] == (12, 12)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_samples_are_asked_for_only_as_the_checker_needs_them(tmp_path, toy):
    """Memory stays flat: no more programs are out than the checker holds."""
    made = [toy.sample(f"t/{p}", n, f"failed {n}") for p in range(3) for n in range(50)]
    checker = toy.Checker()
    most = []

    class Watching(toy.Checker):
        def check(self, programs, sandbox):
            def counted():
                for program in programs:
                    most.append(len(most) - len(self.ran) + 1)
                    yield program

            yield from super().check(counted(), sandbox)

    run_judge(toy, made, tmp_path / "run", checker=Watching())
    assert max(most) <= checker.ahead + 1


def test_a_text_task_needs_no_checker(tmp_path, toy):
    class Reads(toy.Task):
        checker = None

        def program(self, problem, turns):
            return None

        def verdict(self, problem, index, turns, evidence):
            assert evidence is None
            outcome = Outcome.PASSED if turns[0] == "yes" else Outcome.FAILED
            return Verdict(problem_id=problem.id, index=index, group=problem.group, outcome=outcome)

    made = [toy.sample("t/0", 0, "yes"), toy.sample("t/1", 0, "no")]
    config = CONFIG.model_copy(update={"checker": None})
    run = run_judge(toy, made, tmp_path / "run", task=Reads(), config=config)
    assert verdicts(run) == [("t/0", 0, "passed"), ("t/1", 0, "failed")]


def test_a_missing_toolchain_is_said_before_anything_runs(tmp_path, toy, samples, monkeypatch):
    from astraios.languages.python import language

    def nothing():
        raise MissingToolError("needs 'snake', which was not found; install it")

    monkeypatch.setattr(language, "toolchain", nothing)
    task = toy.Task()
    task.languages = ("python",)
    with pytest.raises(MissingToolError, match="snake"):
        run_judge(toy, samples, tmp_path / "run", task=task, config=None)
    assert not (tmp_path / "run").exists()


def test_a_judged_run_can_be_read(tmp_path, toy, samples):
    run = run_judge(toy, samples, tmp_path / "run")
    assert read_run(run.folder).manifest.inputs.keys() == {"problems"}


# --- verdicts of earlier runs ---


def without_times(run):
    times = ("cpu_s", "wall_s", "peak_mib")
    return [v.model_dump(exclude=set(times)) for v in run.read("verdicts", Verdict)]


def test_verdicts_are_the_same_with_and_without_a_cache(tmp_path, toy, samples):
    checkers = [toy.Checker() for _ in range(3)]
    plain, cold, warm = (
        run_judge(toy, samples, tmp_path / str(n), checker=checker, cache=n > 0)
        for n, checker in enumerate(checkers)
    )
    assert without_times(plain) == without_times(cold) == without_times(warm)
    assert [len(checker.ran) for checker in checkers] == [9, 9, 0]
    assert [run.manifest.counts["n_from_cache"] for run in (plain, cold, warm)] == [0, 0, 9]


def test_without_a_cache_no_file_is_made(tmp_path, toy, samples, cache_folder):
    run_judge(toy, samples, tmp_path / "run", references=True)
    assert not list(cache_folder.glob("*.sqlite"))


def test_references_are_known_from_an_earlier_run_too(tmp_path, toy, samples):
    run_judge(toy, samples, tmp_path / "first", references=True, cache=True)
    checker = toy.Checker()
    run = run_judge(toy, samples, tmp_path / "run", checker=checker, references=True, cache=True)
    assert checker.ran == []
    assert (run.manifest.counts["n_references"], run.manifest.counts["n_from_cache"]) == (6, 9)


def test_references_that_were_left_out_are_visible(tmp_path, toy, samples):
    run = run_judge(toy, samples, tmp_path / "run")
    assert run.manifest.counts["n_references"] == 0


def test_time_outs_run_again_whatever_is_known(tmp_path, toy):
    made = [toy.sample("t/0", n, kind) for n, kind in enumerate(("passed", "timed_out", "fault"))]
    run_judge(toy, made, tmp_path / "first", cache=True)
    checker = toy.Checker()
    run_judge(toy, made, tmp_path / "run", checker=checker, cache=True)
    assert {program.code for program in checker.ran} == {"timed_out", "fault"}


def test_what_an_interrupted_run_found_out_is_not_run_again(tmp_path, toy, samples):
    with pytest.raises(KeyboardInterrupt):
        run_judge(toy, samples, tmp_path / "run", checker=toy.Checker(dies_after=5), cache=True)
    rest = toy.Checker()
    run_judge(toy, samples, tmp_path / "run", checker=rest, cache=True)
    assert len(rest.ran) == 9 - 5


# --- memory ---


class Stubborn(Checker):
    """Ends all programs but the first, until nothing more is given to it."""

    def __init__(self):
        self.most = 0
        self.passes = 0

    def check(self, programs, sandbox):
        self.passes += 1
        first, taken = None, 0
        for position, program in enumerate(programs):
            taken += 1
            if first is None and "long" in program.code:
                first = position
                continue
            yield position, Execution(outcome=Outcome.PASSED)
        self.most = max(self.most, taken)
        if first is not None:
            yield first, Execution(outcome=Outcome.TIMED_OUT)

    def version(self):
        return "stubborn 1"


@pytest.mark.parametrize("cache", [False, True])
def test_verdicts_that_wait_for_a_long_program_are_bounded(tmp_path, toy, monkeypatch, cache):
    monkeypatch.setattr(module, "N_WAITING", 300)
    made = [toy.sample("t/0", n, f"passed {n}" if n != 20 else "long") for n in range(1000)]
    checker = Stubborn()
    run = run_judge(toy, made, tmp_path / "run", checker=checker, cache=cache)
    outcomes = ["passed"] * 20 + ["timed_out"] + ["passed"] * 979
    assert verdicts(run) == [("t/0", n, outcome) for n, outcome in enumerate(outcomes)]
    assert checker.passes == 2


# --- elsewhere ---


def test_a_judging_can_be_sent_to_another_process(tmp_path, rows, pack):
    task = tasks.task("humanevalsynthesize-python")
    problems = task.problems(rows)[:2]
    texts = [row["prompt"] + row["canonical_solution"] for row in pack[:2]]
    samples = [
        Sample(problem_id=p.id, index=0, prompt_sha="", completion=t, finish=Finish.GIVEN)
        for p, t in zip(problems, texts, strict=True)
    ]
    config = judge_config(task, jobs=1)
    call = functools.partial(
        judge, task, samples, problems=problems, config=config, references=False
    )
    here = call(tmp_path / "here")
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # nothing is inherited
        there = pool.apply(call, (tmp_path / "there",))
    assert verdicts(here) == verdicts(there) == [(p.id, 0, "passed") for p in problems]
