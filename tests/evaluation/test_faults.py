"""Samples that an engine failed on: written, counted apart, asked again, never the model's."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astraios import tasks
from astraios.checkers import Checker
from astraios.cli.grading import faults_told
from astraios.errors import UnfinishedRunError
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.generate import generate
from astraios.evaluation.grade import grade
from astraios.evaluation.judge import JudgeConfig, judge
from astraios.files import read_json
from astraios.generation import Engine
from astraios.generation.keys import key, prompt_sha, wanted
from astraios.records import Cost, Finish, Outcome, Parity, Prompt, Sample, Sampling, Verdict
from astraios.runs import Run, read_run
from astraios.tasks._robustness import robust_scores

SAMPLING = Sampling(n_samples=2, temperature=0.5, max_new_tokens=4)
KEYS = [(f"t/{p}", index, turn) for p in range(3) for index in range(2) for turn in range(2)]


class Failing(Engine):
    """Answers "passed", but for the keys it fails on; can be stopped after some answers."""

    name = "failing"

    def __init__(self, *, fails=(), stop_after=None, on_stop=None, spell=None, n_cut=0):
        self.fails, self.stop_after, self.on_stop = set(fails), stop_after, on_stop
        self.spell, self.n_cut = spell, n_cut
        self.asked = []

    @classmethod
    def supports(cls, method):
        return True

    def spelled(self, prompt):
        return prompt if self.spell is None else self.spell(prompt)

    def complete(self, prompts, sampling, *, finished=None, skip=frozenset(), progress=None):
        for prompt in prompts:
            for index in wanted(prompt, sampling, skip):
                if len(self.asked) == self.stop_after:
                    self.on_stop()
                at = (prompt.problem_id, index, prompt.turn)
                self.asked.append(at)
                failed = at in self.fails
                yield Sample(
                    problem_id=prompt.problem_id,
                    index=index,
                    turn=prompt.turn,
                    prompt_sha=prompt_sha(prompt.text),
                    completion="" if failed else "passed",
                    finish=Finish.FAULT if failed else Finish.EOS,
                    n_completion_tokens=0 if failed else 3,
                    n_cut_tokens=self.n_cut if prompt.problem_id == "t/1" else 0,
                    fault="503, three times" if failed else None,
                )


def stop():
    raise KeyboardInterrupt


def run_it(toy, folder, engine, *, n_turns=2, **options):
    task = toy.Task(n_turns=n_turns)
    config = EvaluationConfig(
        task="toy",
        task_version="1",
        template="continue",
        sampling=SAMPLING,
        base_model="none",
        engine="failing",
    )
    return generate(
        task,
        engine,
        SAMPLING,
        folder,
        config=config,
        problems=task.problems(None),
        template="continue",
        **options,
    )


def samples(folder):
    found = list(read_run(folder).read("samples", Sample))
    assert len({key(sample) for sample in found}) == len(found)
    return {key(sample): sample for sample in found}


def run_judge(toy, source, folder, checker=None):
    task = toy.Task(n_turns=2)
    return judge(
        task,
        source,
        folder,
        problems=task.problems(None),
        config=JudgeConfig(task="toy", task_version="1", checker="toy"),
        sandbox=toy.Sandbox(),
        references=False,
        cache=False,
        inputs={"samples": "eval/toy"},
        checker=checker or toy.Checker(),
    )


# --- generation -------------------------------------------------------------------------------


def test_a_fault_is_written_and_the_rest_goes_on(tmp_path, toy):
    run = run_it(toy, tmp_path / "run", Failing(fails=[("t/1", 0, 1)]))
    assert run.manifest.counts == {"n_problems": 3, "n_samples": 12, "n_faults": 1}
    found = samples(run.folder)
    assert set(found) == set(KEYS)
    faults = [sample for sample in found.values() if sample.finish is Finish.FAULT]
    assert [(key(f), f.completion, f.fault) for f in faults] == [
        (("t/1", 0, 1), "", "503, three times")
    ]


def test_what_builds_on_a_fault_is_not_asked(tmp_path, toy):
    engine = Failing(fails=[("t/1", 0, 0)])
    run = run_it(toy, tmp_path / "run", engine)
    assert set(KEYS) - set(engine.asked) == {("t/1", 0, 1)}
    assert all((p.problem_id, p.index) != ("t/1", 0) for p in run.read("prompts", Prompt))


def test_the_next_call_asks_faults_again_and_what_builds_on_them(tmp_path, toy):
    run_it(toy, tmp_path / "whole", Failing())
    run_it(toy, tmp_path / "run", Failing(fails=[("t/1", 0, 0), ("t/2", 1, 1)]))
    engine = Failing()
    run = run_it(toy, tmp_path / "run", engine)
    assert engine.asked == [("t/1", 0, 0), ("t/1", 0, 1), ("t/2", 1, 1)]
    assert samples(run.folder) == samples(tmp_path / "whole")
    assert run.manifest.counts["n_faults"] == 0
    again = Failing()
    run_it(toy, tmp_path / "run", again)
    assert again.asked == []


@given(sessions=st.lists(st.sets(st.sampled_from(KEYS)), max_size=4))
def test_a_run_repaired_in_any_number_of_sessions_equals_an_undisturbed_one(
    tmp_path_factory, toy, sessions
):
    folder = tmp_path_factory.mktemp("run")
    for fails in sessions:
        run = run_it(toy, folder / "run", Failing(fails=fails))
        asked = samples(folder / "run")
        left = {at for at, sample in asked.items() if sample.finish is Finish.FAULT}
        assert left <= fails
        assert run.manifest.counts["n_faults"] == len(left)
    run_it(toy, folder / "run", Failing())
    run_it(toy, folder / "whole", Failing())
    assert samples(folder / "run") == samples(folder / "whole")


@pytest.mark.parametrize("stop_after", range(4))
def test_a_repair_that_is_stopped_leaves_an_unfinished_run(tmp_path, toy, stop_after):
    fails = [("t/0", 0, 0), ("t/1", 0, 0), ("t/2", 1, 1)]
    run_it(toy, tmp_path / "run", Failing(fails=fails))
    with pytest.raises(KeyboardInterrupt):
        run_it(toy, tmp_path / "run", Failing(stop_after=stop_after, on_stop=stop))
    with pytest.raises(UnfinishedRunError):
        read_run(tmp_path / "run")
    engine = Failing()
    run_it(toy, tmp_path / "run", engine)
    assert len(engine.asked) == 5 - stop_after
    run_it(toy, tmp_path / "whole", Failing())
    assert samples(tmp_path / "run") == samples(tmp_path / "whole")


def test_the_seal_is_taken_off_before_a_sample_is_dropped(tmp_path, toy, monkeypatch):
    run_it(toy, tmp_path / "run", Failing(fails=[("t/0", 0, 0)]))
    before = (tmp_path / "run" / "samples.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "rewrite", lambda self, name, records: stop())
        with pytest.raises(KeyboardInterrupt):
            run_it(toy, tmp_path / "run", Failing())
    assert (tmp_path / "run" / "samples.jsonl").read_bytes() == before
    with pytest.raises(UnfinishedRunError):
        read_run(tmp_path / "run")
    assert run_it(toy, tmp_path / "run", Failing()).manifest.counts["n_faults"] == 0


def test_faults_of_a_killed_process_are_asked_again(tmp_path, toy):
    code = f"""
        import importlib.util, os, pathlib, signal, sys
        def load(name, path):
            spec = importlib.util.spec_from_file_location(name, path)
            sys.modules[name] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        here = pathlib.Path({__file__!r})
        toys, victim = load("toys", here.parent / "conftest.py"), load("victim", here)
        class Toy: Task = toys.ToyTask
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        engine = victim.Failing(fails=[("t/0", 1, 0)], stop_after=5, on_stop=kill)
        victim.run_it(Toy, pathlib.Path({str(tmp_path / "run")!r}), engine)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    engine = Failing()
    run_it(toy, tmp_path / "run", engine)
    assert ("t/0", 1, 0) in engine.asked
    assert len(engine.asked) == 12 - 4
    run_it(toy, tmp_path / "whole", Failing())
    assert samples(tmp_path / "run") == samples(tmp_path / "whole")


def test_progress_and_log_say_how_many_faults_there_are(tmp_path, toy, caplog):
    told = []
    with caplog.at_level(logging.WARNING):
        run_it(
            toy,
            tmp_path / "run",
            Failing(fails=[("t/1", 0, 0), ("t/1", 1, 0)]),
            n_turns=1,
            progress=lambda done, total, note: told.append((done, total, note)),
        )
    assert told[-1][:2] == (6, 6)
    assert told[-1][2].endswith(", 2 faults")
    assert "2 of 6 samples are faults" in caplog.text
    assert "503, three times" in caplog.text


def test_costs_of_a_repair_are_added(tmp_path, toy):
    run_it(toy, tmp_path / "run", Failing(fails=[("t/1", 0, 0)]))
    first = read_json(tmp_path / "run" / "cost.json", Cost)
    run_it(toy, tmp_path / "run", Failing())
    both = read_json(tmp_path / "run" / "cost.json", Cost)
    assert (first.n_tokens, both.n_tokens) == (3 * 10, 3 * 12)
    assert both.wall_s > first.wall_s


def test_prompts_that_were_cut_are_counted_once(tmp_path, toy):
    run = run_it(toy, tmp_path / "run", Failing(n_cut=7), n_turns=1)
    assert run.manifest.counts["n_cut_prompts"] == 1
    assert run.manifest.counts["n_cut_tokens"] == 7


def test_prompts_are_written_as_the_model_reads_them(tmp_path, toy):
    def spell(prompt):
        return prompt.model_copy(update={"text": f"<user>{prompt.text}"})

    run = run_it(toy, tmp_path / "run", Failing(spell=spell))
    texts = [prompt.text for prompt in run.read("prompts", Prompt)]
    assert len(texts) == 3 + 6
    assert all(text.startswith("<user>") for text in texts)
    shas = {prompt_sha(text) for text in texts}
    assert {sample.prompt_sha for sample in run.read("samples", Sample)} == shas


def test_what_a_comparison_found_is_kept_beside_the_samples(tmp_path, toy):
    found = Parity(
        engine="failing", outcome="equal", n_prompts=8, n_tokens=384, largest_difference=1.24e-5
    )
    run = run_it(toy, tmp_path / "run", Failing(), parity=found)
    assert read_json(run.folder / "parity.json", Parity) == found
    assert run.manifest.environment["parity"] == (
        "8 prompts, 384 tokens equal to hf; largest difference of a log-probability 1.2e-05"
    )


# --- judging ----------------------------------------------------------------------------------


def outcomes(run):
    return {(v.problem_id, v.index): v.outcome.value for v in run.read("verdicts", Verdict)}


def test_a_fault_in_any_turn_is_a_fault_of_the_verdict_and_nothing_runs(tmp_path, toy):
    fails = [("t/0", 0, 0), ("t/1", 1, 1)]
    source = run_it(toy, tmp_path / "run", Failing(fails=fails)).folder
    checker = toy.Checker()
    run = run_judge(toy, source, source / "judged", checker)
    found = outcomes(run)
    assert {at for at, outcome in found.items() if outcome == "fault"} == {("t/0", 0), ("t/1", 1)}
    assert len(found) == 6
    assert len(checker.ran) == 3  # one program a problem
    details = {v.detail for v in run.read("verdicts", Verdict) if v.outcome is Outcome.FAULT}
    assert details == {"503, three times"}
    assert run.manifest.counts["n_faults"] == 2
    [score] = json.loads((run.folder / "scores.json").read_text())
    assert (score["value"], score["n_samples"], score["n_faults"]) == (1.0, 4, 2)


def test_judging_again_after_a_repair_judges_what_was_repaired(tmp_path, toy):
    fails = [("t/0", 0, 0), ("t/1", 1, 1)]
    source = run_it(toy, tmp_path / "run", Failing(fails=fails)).folder
    run_judge(toy, source, tmp_path / "judged")
    run_it(toy, source, Failing(fails=[("t/1", 1, 1)]))
    checker = toy.Checker()
    run = run_judge(toy, source, tmp_path / "judged", checker)
    assert [program.tests for program in checker.ran] == ["t/0"]
    assert run.manifest.counts["n_faults"] == 1
    run_it(toy, source, Failing())
    run = run_judge(toy, source, tmp_path / "judged")
    assert set(outcomes(run).values()) == {"passed"}
    assert run.manifest.counts["n_faults"] == 0
    assert run.manifest.inputs["samples"] == "eval/toy"


def test_a_generation_that_is_being_repaired_is_not_judged(tmp_path, toy):
    source = run_it(toy, tmp_path / "run", Failing(fails=[("t/0", 0, 0)])).folder
    with pytest.raises(KeyboardInterrupt):
        run_it(toy, source, Failing(stop_after=0, on_stop=stop))
    with pytest.raises(UnfinishedRunError):
        run_judge(toy, source, tmp_path / "judged")


def test_a_judging_that_tries_faults_again_is_unfinished_until_it_is_sealed(tmp_path, toy):
    source = run_it(toy, tmp_path / "run", Failing(fails=[("t/0", 0, 0)])).folder
    run_judge(toy, source, tmp_path / "judged")
    run_it(toy, source, Failing())
    with pytest.raises(KeyboardInterrupt):
        run_judge(toy, source, tmp_path / "judged", toy.Checker(dies_after=0))
    with pytest.raises(UnfinishedRunError):
        read_run(tmp_path / "judged")
    assert set(outcomes(run_judge(toy, source, tmp_path / "judged")).values()) == {"passed"}


# --- every task -------------------------------------------------------------------------------


class Unused(Checker):
    """Must not be given a program."""

    def check(self, programs, sandbox):
        given = [*programs]
        assert not given
        return iter(())

    def version(self):
        return ""


FAMILIES = (
    "aatk",
    "bigclonebench",
    "devign",
    "devign@clean",
    "humaneval",
    "humanevalexplainsynthesize-python",
    "humanevalfixtests-python",
    "humanevalsynthesize-python",
    "humanevalsynthesize-python+perturb-format",
    "minipack-fix",
    "minipack-robust",
    "recode-format@seeds-1",
)
ROWS = Path(__file__).parents[1] / "tasks" / "rows"


def judged(toy, name, made, folder, n_problems=4):
    task = tasks.task(name)
    problems = task.problems(ROWS)[:n_problems]
    lines = [line for problem in problems for line in made(problem)]
    config = JudgeConfig(task=task.name, task_version=task.version, checker=task.checker)
    return judge(
        task,
        lines,
        folder,
        problems=problems,
        config=config,
        sandbox=toy.Sandbox(),
        references=False,
        cache=False,
        checker=Unused() if task.checker else None,
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_faults_alone_make_no_number_of_any_task(tmp_path, toy, name):
    fault = Sample(
        problem_id="", index=0, prompt_sha="", completion="", finish=Finish.FAULT, fault="gone"
    )
    run = judged(
        toy,
        name,
        lambda problem: [fault.model_copy(update={"problem_id": problem.id})],
        tmp_path / "run",
    )
    found = list(run.read("verdicts", Verdict))
    assert found
    assert {(v.outcome, v.answer, v.readings, v.detail) for v in found} == {
        (Outcome.FAULT, None, None, "gone")
    }
    scores = json.loads((run.folder / "scores.json").read_text())
    assert scores
    assert all(score["value"] is None and score["n_samples"] == 0 for score in scores)
    parts = {score["slice"]: score["n_faults"] for score in scores}
    assert sum(parts.values()) >= len(found)


@pytest.mark.parametrize("name", ["devign", "devign@clean", "bigclonebench"])
def test_a_comprehension_task_counts_the_answers_that_are_there(tmp_path, toy, name):
    def made(problem):
        line = Sample(
            problem_id=problem.id, index=0, prompt_sha="", completion="No", finish=Finish.EOS
        )
        empty = {"completion": "", "finish": Finish.FAULT, "fault": "gone", "index": 1}
        return [line, line.model_copy(update=empty)]

    run = judged(toy, name, made, tmp_path / "run")
    scores = json.loads((run.folder / "scores.json").read_text())
    accuracy = [score for score in scores if score["metric"] == "accuracy"]
    n = run.manifest.counts["n_problems"]
    assert accuracy
    assert all((s["n_samples"], s["n_faults"]) == (n, n) for s in accuracy)


def test_samples_with_faults_are_graded(tmp_path):
    task = tasks.task("humanevalsynthesize-python")
    problem = task.problems(ROWS)[0]
    good = Sample(
        problem_id=problem.id,
        index=0,
        prompt_sha="",
        completion="",
        finish=Finish.GIVEN,
    )
    lines = [
        good.model_copy(update={"problem_id": p.id, "completion": task.references(p)[0].code})
        for p in task.problems(ROWS)
    ]
    empty = {"completion": "", "finish": Finish.FAULT, "fault": "gone"}
    lines[0] = lines[0].model_copy(update=empty)
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(line.model_dump_json() + "\n" for line in lines))
    found = grade(
        path, task.name, data_dir=ROWS, out=tmp_path / "run", references=False, cache=False
    )
    assert (found.n_faults, found.n_unanswered) == (1, 1)
    said = faults_told(found)
    assert "1 samples in the file are faults" in said
    assert "run the command that generated them again" in said
    assert "same command" not in said
    assert "2 programs" in faults_told(replace(found, outcomes={Outcome.FAULT: 3}))
    [score] = found.scores
    assert (score.value, score.n_faults) == (1.0, 1)


def verdict(group, part, index, outcome):
    return Verdict(
        problem_id=f"{group}/{part}", index=index, group=group, slice=part, outcome=outcome
    )


def robust(verdicts):
    return {(score.metric, score.slice): score for score in robust_scores("t", verdicts)}


def test_a_completion_with_a_fault_under_one_prompt_is_left_out_of_robust_rates():
    made = [
        verdict("p", "nominal", 0, "passed"),
        verdict("p", "a", 0, "passed"),
        verdict("p", "b", 0, "fault"),
        verdict("q", "nominal", 0, "passed"),
        verdict("q", "a", 0, "passed"),
        verdict("q", "b", 0, "failed"),
    ]
    found = robust(made)
    assert found["robust-pass@1", "a"].value == 1.0
    assert (found["robust-pass@1", "b"].value, found["robust-pass@1", "b"].n_problems) == (0.0, 1)
    worst = found["robust-pass@1", "worst-case"]
    assert (worst.value, worst.n_problems, worst.n_faults) == (0.0, 1, 1)


def test_completions_are_paired_by_index_where_one_is_a_fault():
    """The first is a fault under the change; the others are as they were."""
    made = [
        *(verdict("p", "nominal", n, o) for n, o in enumerate(("passed", "failed", "passed"))),
        *(verdict("p", "a", n, o) for n, o in enumerate(("fault", "failed", "passed"))),
    ]
    assert robust(made)["robust-relative@1", "a"].value == 0.0
