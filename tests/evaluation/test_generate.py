"""The generation stage: run folders, resume, turns. A fake engine; no torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import pytest

from astraios.errors import ConfigError, DataError, EngineError, ForeignRunError
from astraios.evaluation.config import EvaluationConfig
from astraios.evaluation.generate import generate
from astraios.files import read_json
from astraios.generation import Engine
from astraios.generation.keys import key, prompt_sha, wanted
from astraios.records import Cost, Finish, Prompt, Sample, Sampling
from astraios.runs import read_run
from astraios.tasks import Problem, Task

N_PROBLEMS, N_SAMPLES = 4, 3


@dataclass(frozen=True)
class Ask(Problem):
    text: str


class FakeTask(Task[Ask]):
    """Asks for a description and, of every second sample, for code made from it."""

    name = "fake"
    title = "Fake"
    version = "1"
    languages = ()
    checker = None
    sampling = Sampling(n_samples=N_SAMPLES, temperature=0.5, max_new_tokens=4)
    template = "continue"

    def __init__(self, n_turns=2):
        self.n_turns = n_turns

    def problems(self, data_dir):
        return [Ask(f"fake/{i}", f"fake/{i}", f"what is {i}?") for i in range(N_PROBLEMS)]

    def prompt(self, problem, turns, template):
        if len(turns) >= self.n_turns:
            return None
        return Prompt(problem_id=problem.id, text="\n".join([problem.text, *turns]))

    def finished(self, turn):
        return str.isspace if turn else str.isalpha

    def program(self, problem, turns):
        raise AssertionError("not asked for")

    def verdict(self, problem, index, turns, evidence):
        raise AssertionError("not asked for")

    def scores(self, verdicts):
        raise AssertionError("not asked for")


class FakeEngine(Engine):
    """Answers with a function of the key; can be stopped after some answers."""

    name = "fake"

    def __init__(self, stop_after=10**9, on_stop=None):
        self.stop_after = stop_after
        self.on_stop = on_stop
        self.asked = []
        self.rules = []

    @classmethod
    def supports(cls, method):
        return True

    def complete(self, prompts, sampling, *, finished=None, skip=frozenset(), progress=None):
        self.rules.append(finished)
        for prompt in reversed(prompts):  # in any order
            for index in wanted(prompt, sampling, skip):
                if len(self.asked) == self.stop_after:
                    self.on_stop()
                self.asked.append((prompt.problem_id, index, prompt.turn))
                if progress is not None:
                    progress(2)
                yield Sample(
                    problem_id=prompt.problem_id,
                    index=index,
                    turn=prompt.turn,
                    prompt_sha=prompt_sha(prompt.text),
                    completion=f"{prompt.text[::-1]}\u2028{index}",
                    finish=Finish.EOS,
                    n_completion_tokens=2,
                )

    def environment(self):
        return {"device": "paper"}


def run_it(folder, engine=None, task=None, **changes):
    task = task or FakeTask()
    arguments = {"problems": task.problems(None), "template": "continue"} | changes
    config = EvaluationConfig(
        task="fake",
        task_version="1",
        template="continue",
        sampling=FakeTask.sampling,
        base_model="none",
        engine="fake",
        limit_problems=arguments.get("limit"),
    )
    arguments.setdefault("config", config)
    return generate(task, engine or FakeEngine(), FakeTask.sampling, folder, **arguments)


def records(folder):
    run = read_run(folder)
    samples = {key(sample): sample for sample in run.read("samples", Sample)}
    prompts = {(p.problem_id, p.turn, p.index): p for p in run.read("prompts", Prompt)}
    assert sum(1 for _ in run.read("samples", Sample)) == len(samples)
    assert sum(1 for _ in run.read("prompts", Prompt)) == len(prompts)
    return samples, prompts


def test_a_run_is_sealed_with_all_samples_and_prompts(tmp_path):
    run = run_it(tmp_path / "run")
    assert run.done
    assert run.manifest.counts == {"n_problems": 4, "n_samples": 24, "n_faults": 0}
    assert run.manifest.environment["device"] == "paper"
    samples, prompts = records(tmp_path / "run")
    assert len(samples) == 2 * N_PROBLEMS * N_SAMPLES
    assert len(prompts) == N_PROBLEMS + N_PROBLEMS * N_SAMPLES


def test_a_later_turn_is_asked_with_the_completions_before_it(tmp_path):
    run_it(tmp_path / "run")
    samples, prompts = records(tmp_path / "run")
    for (problem_id, index, turn), sample in samples.items():
        asked = prompts[problem_id, turn, index if turn else None]
        assert sample.prompt_sha == prompt_sha(asked.text)
        if turn:
            assert asked.text.endswith(samples[problem_id, index, 0].completion)


def test_every_turn_has_the_rule_of_its_task(tmp_path):
    engine = FakeEngine()
    run_it(tmp_path / "run", engine)
    assert engine.rules == [str.isalpha, str.isspace]


def test_a_one_shot_task_is_asked_once(tmp_path):
    run_it(tmp_path / "run", task=FakeTask(n_turns=1))
    samples, _ = records(tmp_path / "run")
    assert {turn for _, _, turn in samples} == {0}


def test_only_the_first_problems_are_asked_with_a_limit(tmp_path):
    run_it(tmp_path / "run", limit=2)
    samples, _ = records(tmp_path / "run")
    assert {problem_id for problem_id, _, _ in samples} == {"fake/0", "fake/1"}


def test_cost_counts_tokens_and_time(tmp_path):
    run_it(tmp_path / "run")
    cost = read_json(tmp_path / "run" / "cost.json", Cost)
    assert cost.n_tokens == 2 * 24
    assert cost.wall_s > 0
    assert cost.tokens_per_s > 0


def test_progress_ends_with_everything_done_in_each_turn(tmp_path):
    told = []
    run_it(tmp_path / "run", progress=lambda done, total, note: told.append((done, total)))
    assert told.count((12, 12)) == 2
    assert all(done <= total == 12 for done, total in told)


@pytest.mark.parametrize("stop_after", range(24))
def test_a_stopped_run_ends_like_an_undisturbed_one(tmp_path, stop_after):
    run_it(tmp_path / "whole")

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_it(tmp_path / "run", FakeEngine(stop_after, stop))
    engine = FakeEngine()
    run_it(tmp_path / "run", engine)
    assert len(engine.asked) == 24 - stop_after
    assert records(tmp_path / "run") == records(tmp_path / "whole")


@pytest.mark.parametrize("stop_after", [1, 11, 12, 20])
@pytest.mark.parametrize("name", ["samples", "prompts"])
@pytest.mark.parametrize("n_bytes", [1, 20, 70])
def test_a_torn_last_line_is_written_again(tmp_path, stop_after, name, n_bytes):
    run_it(tmp_path / "whole")

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_it(tmp_path / "run", FakeEngine(stop_after, stop))
    path = tmp_path / "run" / f"{name}.jsonl"
    os.truncate(path, max(0, path.stat().st_size - n_bytes))
    run_it(tmp_path / "run")
    assert records(tmp_path / "run") == records(tmp_path / "whole")


@pytest.mark.parametrize("stop_after", [0, 5, 17])
def test_a_killed_process_loses_nothing(tmp_path, stop_after):
    code = f"""
        import importlib.util, os, pathlib, signal
        spec = importlib.util.spec_from_file_location("victim", {__file__!r})
        module = importlib.util.module_from_spec(spec)
        import sys; sys.modules["victim"] = module
        spec.loader.exec_module(module)
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        folder = pathlib.Path({str(tmp_path / "run")!r})
        module.run_it(folder, module.FakeEngine({stop_after}, kill))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    engine = FakeEngine()
    run_it(tmp_path / "run", engine)
    assert len(engine.asked) == 24 - stop_after
    run_it(tmp_path / "whole")
    assert records(tmp_path / "run") == records(tmp_path / "whole")


def test_a_finished_run_asks_nothing_again(tmp_path):
    run_it(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    engine = FakeEngine()
    assert run_it(tmp_path / "run", engine).done
    assert engine.asked == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_cost_counts_the_processes_that_an_engine_began(tmp_path):
    class Helped(FakeEngine):
        def helpers_cpu_s(self):
            return 500.0 + 10.0 * len(self.asked)  # 500 s were spent before this run

    run_it(tmp_path / "run", Helped())
    cost = read_json(tmp_path / "run" / "cost.json", Cost)
    assert 240 <= cost.cpu_s < 400


def test_cost_adds_up_over_sessions(tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_it(tmp_path / "run", FakeEngine(5, stop))
    first = read_json(tmp_path / "run" / "cost.json", Cost)
    run_it(tmp_path / "run")
    both = read_json(tmp_path / "run" / "cost.json", Cost)
    assert both.n_tokens == 48
    assert both.wall_s > first.wall_s > 0


def test_another_config_is_refused(tmp_path):
    run_it(tmp_path / "run")
    with pytest.raises(ForeignRunError, match="limit_problems"):
        run_it(tmp_path / "run", limit=2)


def test_an_operational_field_does_not_make_another_run(tmp_path):
    done = run_it(tmp_path / "run")
    config = EvaluationConfig.model_validate(done.manifest.config)
    faster = config.model_copy(update={"batch_tokens": 77, "device": "cuda"})
    assert run_it(tmp_path / "run", config=faster).done


def test_a_prompt_that_changed_since_the_run_began_is_refused(tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_it(tmp_path / "run", FakeEngine(5, stop))
    changed = [Ask(f"fake/{i}", f"fake/{i}", "what else?") for i in range(N_PROBLEMS)]
    with pytest.raises(ForeignRunError, match=r"'fake/0'.*another prompt"):
        run_it(tmp_path / "run", problems=changed)


@pytest.mark.parametrize(
    ("field", "value"), [("task", "other"), ("task_version", "2"), ("template", "octocoder")]
)
def test_a_config_that_says_something_else_is_refused(tmp_path, field, value):
    said = {
        "task": "fake",
        "task_version": "1",
        "template": "continue",
        "sampling": FakeTask.sampling,
        "base_model": "none",
    }
    with pytest.raises(ConfigError, match=field):
        run_it(tmp_path / "run", config=EvaluationConfig(**(said | {field: value})))


def test_two_problems_with_one_id_are_refused(tmp_path):
    twins = [Ask("same", "same", "a"), Ask("same", "same", "b")]
    with pytest.raises(DataError, match="'same'"):
        run_it(tmp_path / "run", problems=twins)


def test_an_engine_that_leaves_samples_out_is_an_error_and_the_rest_is_kept(tmp_path):
    class Lazy(FakeEngine):
        def complete(self, prompts, sampling, **rest):
            yield from list(super().complete(prompts, sampling, **rest))[:-1]

    with pytest.raises(EngineError, match=r"1 of 12 samples unanswered.*'fake/0'"):
        run_it(tmp_path / "run", Lazy())
    engine = FakeEngine()
    run_it(tmp_path / "run", engine)
    assert len(engine.asked) == 13


def test_an_engine_that_answers_twice_is_an_error(tmp_path):
    class Echo(FakeEngine):
        def complete(self, prompts, sampling, **rest):
            for sample in super().complete(prompts, sampling, **rest):
                yield sample
                yield sample

    with pytest.raises(EngineError, match="not asked"):
        run_it(tmp_path / "run", Echo())


def test_no_record_names_the_machine_or_a_path(tmp_path):
    run_it(tmp_path / "run")
    text = "".join(
        path.read_text() for path in (tmp_path / "run").iterdir() if path.suffix[:5] == ".json"
    )
    assert str(tmp_path) not in text
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "done"


def test_the_stage_works_without_torch():
    code = "import sys, astraios.evaluation.generate; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
