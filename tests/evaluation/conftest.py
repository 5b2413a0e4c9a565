"""A task without data files and a checker without processes, to see the stages at work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from astraios.checkers import Checker
from astraios.records import Execution, Finish, Outcome, Program, Prompt, Sample, Sampling, Verdict
from astraios.tasks import Problem, Task
from astraios.tasks._pass_rates import pass_rates


class ToyTask(Task):
    """A completion is the outcome that its program will have."""

    name = "toy"
    title = "Toy"
    version = "1"
    languages = ()
    checker = "toy"
    sampling = Sampling(n_samples=2)
    template = "continue"

    def __init__(self, n_problems=3, n_turns=1):
        self.n_problems = n_problems
        self.n_turns = n_turns

    def problems(self, data_dir):
        return [Problem(id=f"t/{n}", group=f"t/{n}") for n in range(self.n_problems)]

    def prompt(self, problem, turns, template):
        if len(turns) == self.n_turns:
            return None
        return Prompt(problem_id=problem.id, turn=len(turns), text=f"{problem.id} {turns}")

    def program(self, problem, turns):
        return Program(language="toy", code=turns[-1], tests=problem.id)

    def verdict(self, problem, index, turns, evidence):
        return Verdict(
            problem_id=problem.id,
            index=index,
            group=problem.group,
            outcome=evidence.outcome,
            detail=evidence.message,
        )

    def scores(self, verdicts):
        return pass_rates(self.name, verdicts)

    def references(self, problem):
        programs = (Program(language="toy", code=code) for code in ("passed", "failed"))
        return tuple(programs)


class ToyChecker(Checker):
    """Answers in an odd order, remembers what it ran, and can die or fail on demand."""

    def __init__(self, *, ahead=3, dies_after=None, n_faults=0, broken=()):
        self.ahead = ahead
        self.dies_after = dies_after
        self.n_faults = n_faults
        self.broken = broken
        self.ran = []

    def check(self, programs, sandbox):
        held = []
        for position, program in enumerate(programs):
            held.append((position, program))
            if len(held) == self.ahead:
                yield self._answer(*held.pop())
        while held:
            yield self._answer(*held.pop())

    def _answer(self, position, program):
        if self.dies_after is not None and len(self.ran) >= self.dies_after:
            raise KeyboardInterrupt
        self.ran.append(program)
        if program.code == "flaky" and self.n_faults:
            self.n_faults -= 1
            return position, Execution(outcome=Outcome.FAULT, message="no luck")
        said = program.code.split()[0]
        outcome = "passed" if said == "flaky" or said in self.broken else said
        return position, Execution(outcome=Outcome(outcome))

    def version(self):
        return "toy 1"


class ToySandbox:
    """Runs nothing."""

    level = "none"
    jobs = 1

    def describe(self):
        return {"sandbox": self.level}


def sample(problem_id, index, completion, *, turn=0, finish=Finish.EOS):
    return Sample(
        problem_id=problem_id,
        index=index,
        turn=turn,
        prompt_sha="",
        completion=completion,
        finish=finish,
    )


def write_samples(folder, samples, name="samples.jsonl"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(s.model_dump_json() + "\n" for s in samples))
    return folder


@pytest.fixture(scope="session")
def toy():
    """The pieces, as a namespace."""

    class Toy:
        Task, Checker, Sandbox = ToyTask, ToyChecker, ToySandbox
        sample, write_samples = staticmethod(sample), staticmethod(write_samples)

    return Toy


@pytest.fixture
def rows() -> Path:
    """A data folder with four problems in the shape of HumanEvalPack."""
    return Path(__file__).parents[1] / "tasks" / "rows"


@pytest.fixture
def pack(rows):
    """Those problems as dictionaries."""
    lines = (rows / "humanevalpack" / "python.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
