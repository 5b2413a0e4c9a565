"""What every task keeps: its questions, programs, verdicts and scores are pure and say enough.

Completions are made up, so no model is needed; reference programs run in the strongest sandbox.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from astraios import checkers, languages, registry, tasks
from astraios.errors import GenerationsError, MissingDataError, MissingToolError
from astraios.evaluation.references import check_references
from astraios.records import Execution, Findings, Outcome, Score, Verdict
from astraios.sandbox import open_sandbox
from astraios.tasks import Problem, Task
from astraios.templates import template
from astraios.testing._contract import (
    NotApplicable,
    Property,
    fail,
    properties,
    refused,
    require,
)

__all__ = ["CONTRACT", "TaskSubject", "subject"]

N_PROBLEMS = 4
"""Of the task, evenly spread, that are looked at."""
N_TURNS = 8
"""A task that asks more often asks for ever."""
COMPLETIONS = (
    "    return x\n\n\ndef g():\n    pass\n",
    "    if (x) {\n        return x;\n    }\n    return 0;\n}\n\nint main() { return 1; }\n",
    " Yes, it is.\nNo.",
    "no",
    "",
)
"""Made-up answers: good, bad and none."""
MORE = (
    "\n\nAnd more:\n    return 1\n}\nyes no def h(): pass\n",
    "    return 41;\n    }\n",
)
"""What follows a finished completion."""


@dataclass(frozen=True)
class TaskSubject:
    """A task and where its data lies."""

    task: Task[Any]
    data_dir: Path | None = None

    @cached_property
    def problems(self) -> tuple[Any, ...]:
        """A few of its problems."""
        found = self.task.problems(self.data_dir)
        step = max(1, len(found) // N_PROBLEMS)
        return tuple(found[::step][:N_PROBLEMS])

    def turns(self, problem: Any, completion: str) -> tuple[str, ...]:
        """`completion` to every question about `problem`."""
        turns: tuple[str, ...] = ()
        while self.task.prompt(problem, turns, self.task.template) is not None:
            turns += (completion,)
            require(len(turns) <= N_TURNS, f"{problem.id} is asked more than {N_TURNS} times")
        return turns

    def cases(self) -> Iterator[tuple[Any, tuple[str, ...]]]:
        """Problems with made-up answers to all questions."""
        for problem in self.problems:
            for completion in COMPLETIONS:
                yield problem, self.turns(problem, completion)


def subject(name: str, data_dir: Path | None = None) -> TaskSubject:
    """The task called `name`.

    Raises:
        UnknownNameError: if there is no such task.
    """
    return TaskSubject(tasks.task(name), data_dir)


def _it_is_found_by_its_name(of: TaskSubject) -> None:
    name = of.task.name
    plain = name.partition("+")[0].partition("@")[0]
    require(plain in tasks.names(), f"its name is {name!r}, which no part lists in NAMES")
    found = tasks.task(plain)
    require(found.name == plain, f"task({plain!r}) gives {found.name!r}")


def _it_says_what_it_is(of: TaskSubject) -> None:
    task = of.task
    require(task.title, "give it a title")
    require(task.version, "give it a version: what a number was measured with")
    template(task.template)
    for kind, known, named in (
        ("language", registry.names(languages), task.languages),
        ("checker", registry.names(checkers), (task.checker,) if task.checker else ()),
    ):
        unknown = sorted(set(named) - set(known))
        require(not unknown, f"{kind} {unknown[:1]} is not among {', '.join(known)}")


def _problems_are_distinct_and_the_same_each_time(of: TaskSubject) -> None:
    found = of.task.problems(of.data_dir)
    require(found, "it has no problems")
    require(
        all(isinstance(one, Problem) for one in found), "a problem is no astraios.tasks.Problem"
    )
    ids = [one.id for one in found]
    twice = [name for name in set(ids) if ids.count(name) > 1] if len(set(ids)) < len(ids) else []
    require(not twice, f"id {twice[:1]} has more than one problem")
    require(all(one.id and one.group for one in found), "a problem has no id or no group")
    require(list(of.task.problems(of.data_dir)) == list(found), "read again, they are others")
    extent = of.task.extent(of.data_dir)
    require(extent == (len(found), found[0]), "`extent` is not their number and the first of them")


def _missing_data_is_named(of: TaskSubject) -> None:
    if not of.task.data_name:
        raise NotApplicable("its problems come with it")
    with tempfile.TemporaryDirectory() as empty:
        refused(
            lambda: of.task.problems(Path(empty)),
            MissingDataError,
            Path(empty).name,
            what="a data folder without the task's data",
        )


def _questions_are_pure_and_numbered(of: TaskSubject) -> None:
    for problem, turns in of.cases():
        for n in range(len(turns)):
            asked = [of.task.prompt(problem, turns[:n], of.task.template) for _ in range(2)]
            one = asked[0]
            require(asked[0] == asked[1], f"{problem.id}, turn {n}: asked again, another prompt")
            require(one is not None and one.text, f"{problem.id}, turn {n}: the prompt is empty")
            if one is not None:
                named = (one.problem_id, one.turn)
                require(named == (problem.id, n), f"{problem.id}, turn {n}: calls itself {named}")
    require(all(turns for _, turns in of.cases()), "a problem is never asked about")


def _programs_are_pure_and_in_its_languages(of: TaskSubject) -> None:
    for problem, turns in of.cases():
        found = of.task.program(problem, turns)
        require(found == of.task.program(problem, turns), f"{problem.id}: made again, another one")
        if found is None:
            require(of.task.checker is None, f"{problem.id}: no program for {of.task.checker!r}")
        elif of.task.checker == "unittests":
            known = ", ".join(of.task.languages) or "none"
            fits = found.language in of.task.languages
            require(fits, f"{problem.id}: a program in {found.language}; its languages: {known}")


def _what_follows_a_finished_completion_decides_nothing(of: TaskSubject) -> None:
    rules: dict[int, Callable[[str], bool] | None] = {}
    for problem, turns in of.cases():
        rule = rules.setdefault(len(turns) - 1, of.task.finished(len(turns) - 1))
        if rule is None:
            raise NotApplicable("has no rule by which a completion is finished")
        text = turns[-1]
        ends = [n for n in range(len(text) + 1) if rule(text[:n])]
        for end, more in product(ends[:1], MORE):
            one, other = ((*turns[:-1], text[:end] + rest) for rest in ("", more))
            same = of.task.program(problem, one) == of.task.program(problem, other)
            if of.task.checker is None:
                same = same and _decided(of, problem, one) == _decided(of, problem, other)
            require(same, f"{problem.id}: {text[:end]!r} is finished, and yet {more!r} counts")


def _verdicts_name_their_problem_and_keep_faults(of: TaskSubject) -> None:
    for problem, turns in of.cases():
        for evidence in _evidence(of):
            found = of.task.verdict(problem, 3, turns, evidence)
            named = (found.problem_id, found.index, found.group)
            due = (problem.id, 3, problem.group)
            require(named == due, f"verdict of {named}, expected {due}")
            ours = isinstance(evidence, Execution) and evidence.outcome is Outcome.FAULT
            is_fault = found.outcome is Outcome.FAULT
            require(is_fault == ours, f"{problem.id}: of {evidence} comes {found.outcome}")


def _evidence(of: TaskSubject) -> tuple[Execution | Findings | None, ...]:
    """What a checker could say."""
    if of.task.checker is None:
        return (None,)
    said = (Outcome.PASSED, Outcome.FAILED, Outcome.COMPILE_ERROR, Outcome.FAULT)
    if of.task.checker == "security":
        return Findings(), *(Execution(outcome=one) for one in said[2:])
    return tuple(Execution(outcome=one) for one in said)


def _decided(of: TaskSubject, problem: Any, turns: tuple[str, ...], index: int = 0) -> Verdict:
    return of.task.verdict(problem, index, turns, _evidence(of)[0])


def _scores_are_rates_that_do_not_depend_on_the_order(of: TaskSubject) -> None:
    verdicts = _verdicts(of)
    scores = of.task.scores(verdicts)
    require(scores, "scores() of some verdicts is empty")
    require(of.task.scores(verdicts[::-1]) == scores, "in another order, they are others")
    for one in scores:
        what = f"{one.metric} of {one.slice}"
        require(one.task == of.task.name, f"{what}: its task is {one.task!r}")
        if None not in (one.value, one.low, one.high):
            low, value, high = (float(x) for x in (one.low, one.value, one.high) if x is not None)
            require(low <= value <= high, f"{what}: {value} is outside of {low} to {high}")
        require(one.n_faults == 0, f"{what}: {one.n_faults} faults, where there were none")


def _faults_are_counted_and_are_no_samples(of: TaskSubject) -> None:
    verdicts = _verdicts(of)
    faults = [
        one.model_copy(
            update={"index": 1, "outcome": Outcome.FAULT, "answer": None, "log_odds": None}
        )
        for one in verdicts
    ]
    before, after = (_values(of.task.scores(some)) for some in (verdicts, [*verdicts, *faults]))
    for name, one in before.items():
        if name not in after:
            fail(f"{name} is gone where there are faults")
        found = after[name]
        require(found.value == one.value, f"{name}: {one.value} becomes {found.value} by faults")
        more = found.n_samples - one.n_samples
        require(more == 0, f"{name}: {more} faults are counted as samples")
    told = any(one.n_faults for one in after.values())
    require(told, f"{len(faults)} faults, none of them in n_faults")


def _verdicts(of: TaskSubject) -> list[Verdict]:
    """One of every problem, the answers in turn."""
    return [
        _decided(of, problem, of.turns(problem, COMPLETIONS[n % len(COMPLETIONS)]))
        for n, problem in enumerate(of.problems)
    ]


def _values(scores: list[Score]) -> Mapping[tuple[str, str], Score]:
    return {(one.metric, one.slice): one for one in scores}


def _final_texts_are_judged_as_completions_are(of: TaskSubject) -> None:
    for problem, turns in of.cases():
        try:
            text = of.task.final_text(problem, turns)
        except GenerationsError as error:
            raise NotApplicable(str(error)) from None
        openings = of.task.openings(problem)
        opens = not openings or any(text.startswith(one) for one in openings)
        require(
            opens, f"{problem.id}: a final text that begins with none of its openings: {text!r}"
        )
        found, due = of.task.final_program(problem, text), of.task.program(problem, turns)
        require(found == due, f"{problem.id}: of {text!r} comes another program")


def _reference_programs_fare_as_they_must(of: TaskSubject) -> None:
    task = of.task
    if all(task.references(problem) is None for problem in of.problems):
        raise NotApplicable("has no reference programs")
    try:
        task.tools()
        for name in task.languages:
            registry.load(languages, "language", name).toolchain()
    except MissingToolError as error:
        raise NotApplicable(str(error)) from None
    checker = registry.load(checkers, "checker", str(task.checker))
    with open_sandbox("best", jobs=1) as sandbox:
        check_references(task, of.problems, checker, sandbox)


def _a_report_can_show_its_problems(of: TaskSubject) -> None:
    for problem in of.problems:
        card = of.task.card(problem)
        named = (card.id, card.group)
        require(named == (problem.id, problem.group), f"the card of {problem.id} is of {named}")


CONTRACT: tuple[Property[TaskSubject], ...] = properties(
    _it_is_found_by_its_name,
    _it_says_what_it_is,
    _problems_are_distinct_and_the_same_each_time,
    _missing_data_is_named,
    _questions_are_pure_and_numbered,
    _programs_are_pure_and_in_its_languages,
    _what_follows_a_finished_completion_decides_nothing,
    _verdicts_name_their_problem_and_keep_faults,
    _scores_are_rates_that_do_not_depend_on_the_order,
    _faults_are_counted_and_are_no_samples,
    _final_texts_are_judged_as_completions_are,
    _reference_programs_fare_as_they_must,
    _a_report_can_show_its_problems,
)
