"""What the HumanEvalPack tasks share: the rows, the editions, how answers become programs.

HumanEvalPack (Muennighoff et al. 2023, OctoPack, arXiv:2308.07124, section 3) holds the problems
of HumanEval in six languages, 164 each, with a right and a subtly wrong solution. A final text, as
the BigCode harness writes it, is the *head* of the problem and the completion cut behind it; a
program is that text with the language's imports, and the tests.

Editions: `clean` (the default) reads the data as they are today, `original` as they were in 2023,
when the outputs published with the paper were made, and cuts and assembles with the faults of the
harness. For Python they differ in one problem: in 142 a stray quote stood behind the declaration,
which makes every FixTests answer a syntax error. For Go they differ in stop words and imports, see
`languages/go.py`; for C++ in where a candidate's own `main` is looked for; for the others not.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Self

from astraios import languages, registry
from astraios.errors import ConfigError, UnknownNameError
from astraios.languages import Language, Surroundings
from astraios.records import (
    Execution,
    Findings,
    ProblemCard,
    Program,
    Prompt,
    Sampling,
    Score,
    Verdict,
)
from astraios.tasks import Problem, Task
from astraios.tasks._extra_tests import ExtraTests, read_extra_tests
from astraios.tasks._pass_rates import pass_rates
from astraios.tasks._rows import Benchmark, read_rows
from astraios.templates import template as template_named

LANGUAGES = ("python", "java", "js", "cpp", "go", "rust")
"""Languages of the benchmark; a task is served in those that have a language file."""

BENCHMARK = Benchmark(
    name="humanevalpack",
    hub="bigcode/humanevalpack",
    hub_file="data/{part}/data/humanevalpack.jsonl",
)
COLUMNS = (
    "task_id",
    "prompt",
    "declaration",
    "canonical_solution",
    "buggy_solution",
    "bug_type",
    "test",
    "entry_point",
    "docstring",
    "instruction",
)
MORE_COLUMNS = MappingProxyType({"go": ("import", "test_setup")})
"""Columns that only some languages have."""
FIELDS = MappingProxyType({"task_id": "id", "import": "imports"})
"""Fields of a problem that are not called like their column."""

BEFORE_DECLARATION = MappingProxyType({"rust": "fn main(){}\n"})
"""What stands in front of a bare declaration; with documentation, Rust prompts bring it along."""

ORIGINAL_EXCEPTIONS = MappingProxyType(
    {
        "go": MappingProxyType(
            {"Go/27": "its prompt imports a package that its solution does not use"}
        )
    }
)
"""Language -> problem -> why its right reference fails, where `clean` mends that."""

STRLEN = (
    "its function is called strlen, and the tests call it with literals, which the C library's "
    "strlen takes without a conversion: the solution is never run, under g++ either"
)
WRONG_PASSES = MappingProxyType({"cpp": MappingProxyType({"CPP/23": STRLEN})})
"""Language -> problem -> why its wrong reference passes."""

CONTEXT_FIRST = ("instruct", "continue")
"""Templates in which the code comes before the instruction that speaks of it."""

END_OF_TEXT = "<|endoftext|>"

CLEAN, ORIGINAL = EDITIONS = ("clean", "original")
REVISION = "1"
"""Rises with anything that can move a score of any HumanEvalPack task."""

SAMPLING = Sampling(n_samples=20, temperature=0.2, top_p=0.95, max_new_tokens=1024)
"""Section 4.1 of the paper; its runs bound prompt and completion together to 2048 tokens."""


@dataclass(frozen=True)
class PackProblem(Problem):
    """One row; see the data set's card for the columns."""

    prompt: str
    """Declaration with its documentation."""
    declaration: str
    """The same without documentation."""
    canonical_solution: str
    buggy_solution: str
    bug_type: str
    """`missing logic`, `operator misuse`, ...; the same in every language."""
    test: str
    """Defines the check and calls it."""
    entry_point: str
    docstring: str
    instruction: str
    imports: str = ""
    """Import block of the prompt (Go)."""
    test_setup: str = ""
    """Package clause and imports of the tests (Go)."""
    extra_tests: str = ""
    """A user's tests, which no model is shown."""


def names(*kinds: str) -> tuple[str, ...]:
    """`<kind>-<language>` for every language of the benchmark that has a language file."""
    served = registry.names(languages)
    return tuple(f"{kind}-{name}" for kind in kinds for name in LANGUAGES if name in served)


class PackTask(Task[PackProblem]):
    """A task on HumanEvalPack in one language."""

    checker = "unittests"
    data_name = "humanevalpack"
    sampling = SAMPLING
    template = "octocoder"
    editions = EDITIONS
    version = f"{CLEAN}-{REVISION}"

    def __init__(self, name: str, title: str) -> None:
        part = name.rpartition("-")[2]
        self.language: Language = registry.load(languages, "language", part, Language)
        self.is_original = False
        self.extra_tests: ExtraTests | None = None
        self.name = name
        self.title = f"{title}, {self.language.title}"
        self.languages = (part,)

    def edition(self, name: str) -> Self:
        if name not in EDITIONS:
            raise UnknownNameError(f"edition of {self.name}", name, EDITIONS)
        twin = copy.copy(self)
        language: Language = registry.load(languages, "language", self.languages[0])
        twin.is_original = name == ORIGINAL
        twin.language = language.published() if twin.is_original else language
        return twin._with_version()

    def with_extra_tests(self, path: Path) -> Self:
        if not self.language.tests_are_statements:
            raise ConfigError(
                f"{self.name} takes no extra tests: tests in {self.language.title} are no "
                "statements, so none can stand behind them; Python and JavaScript take them"
            )
        twin = copy.copy(self)
        twin.extra_tests = read_extra_tests(path)
        return twin._with_version()

    def _with_version(self) -> Self:
        edition = ORIGINAL if self.is_original else CLEAN
        extra = f"+tests-{self.extra_tests.sha}" if self.extra_tests else ""
        self.version = f"{edition}-{REVISION}{extra}"
        return self

    def problems(self, data_dir: Path | None) -> Sequence[PackProblem]:
        read = as_in_2023 if self.is_original else as_today
        columns = (*COLUMNS, *MORE_COLUMNS.get(self.languages[0], ()))
        rows = read_rows(BENCHMARK, self.languages[0], columns, data_dir)
        problems = [read(_problem(row)) for row in rows]
        if self.extra_tests is None:
            return problems
        self.extra_tests.must_fit(self.name, [problem.id for problem in problems])
        return [
            replace(problem, extra_tests=self.extra_tests.of(problem.id)) for problem in problems
        ]

    def known_exceptions(self) -> Mapping[str, str]:
        known = ORIGINAL_EXCEPTIONS if self.is_original else {}
        return MappingProxyType(dict(known.get(self.languages[0], {})))

    def known_wrong_passes(self) -> Mapping[str, str]:
        return WRONG_PASSES.get(self.languages[0], MappingProxyType({}))

    # --- what the kinds of task differ in ---

    @abstractmethod
    def head(self, problem: PackProblem) -> str: ...

    # --- shared by all kinds ---

    def ask(self, template: str, instruction: str, context: str, opening: str) -> str:
        """The text that puts `instruction` about `context`."""
        if template == "continue":
            raise ConfigError(
                f"template 'continue' asks no question, so {self.name} cannot be asked with it; "
                "choose octocoder, instruct, question_answer or chat"
            )
        parts = (context, instruction) if template in CONTEXT_FIRST else (instruction, context)
        return template_named(template).prompt("\n".join(parts), opening)

    def question(self, problem: PackProblem, text: str, template: str, turn: int = 0) -> Prompt:
        """A question that is answered with code."""
        stops = tuple(dict.fromkeys((*self.language.stops, END_OF_TEXT)))
        kind = template_named(template).kind
        return Prompt(problem_id=problem.id, turn=turn, text=text, stops=stops, kind=kind)

    def bare(self, problem: PackProblem) -> str:
        """The declaration without documentation, as the base of a prompt."""
        return BEFORE_DECLARATION.get(self.languages[0], "") + problem.declaration

    def finished(self, turn: int) -> Callable[[str], bool] | None:
        return self.language.finished

    def final_text(self, problem: PackProblem, turns: tuple[str, ...]) -> str:
        return self.head(problem).rstrip() + self.language.truncate(turns[-1])

    def program(self, problem: PackProblem, turns: tuple[str, ...]) -> Program:
        return self._program(problem, self.final_text(problem, turns))

    def final_program(self, problem: PackProblem, text: str) -> Program:
        return self._program(problem, text)

    def openings(self, problem: PackProblem) -> tuple[str, ...]:
        readings = (problem, as_today(problem), as_in_2023(problem))
        return tuple(dict.fromkeys(self.head(reading).rstrip() for reading in readings))

    def references(self, problem: PackProblem) -> tuple[Program, Program]:
        right = self._program(problem, problem.prompt + problem.canonical_solution)
        wrong = self._program(problem, problem.prompt + problem.buggy_solution)
        return right, wrong

    def slice(self, problem: PackProblem) -> str:
        """The part of the task that `problem` belongs to; empty where there are no parts."""
        return ""

    def card(self, problem: PackProblem) -> ProblemCard:
        return ProblemCard(
            id=problem.id,
            group=problem.group,
            slice=self.slice(problem),
            title=problem.entry_point,
            reference=problem.prompt + problem.canonical_solution,
            tests=_tests(problem),
        )

    def verdict(
        self,
        problem: PackProblem,
        index: int,
        turns: tuple[str, ...],
        evidence: Execution | Findings | None,
    ) -> Verdict:
        if not isinstance(evidence, Execution):
            raise TypeError(f"{self.name} is decided by running programs, got {evidence!r}")
        return Verdict(
            problem_id=problem.id,
            index=index,
            group=problem.group,
            slice=self.slice(problem),
            outcome=evidence.outcome,
            detail=_detail(evidence),
            cpu_s=evidence.cpu_s,
            wall_s=evidence.wall_s,
            peak_mib=evidence.peak_mib,
        )

    def scores(self, verdicts: Iterable[Verdict]) -> list[Score]:
        return pass_rates(self.name, verdicts)

    def _program(self, problem: PackProblem, text: str) -> Program:
        tests = "\n" + _tests(problem)
        around = Surroundings(
            declaration=problem.declaration,
            imports=problem.imports,
            test_setup=problem.test_setup,
            tests=tests,
            as_published=self.is_original,
        )
        return Program(
            language=self.languages[0], code=self.language.candidate(text, around), tests=tests
        )


def _tests(problem: PackProblem) -> str:
    """The benchmark's tests, then those of the user."""
    return f"{problem.test}\n{problem.extra_tests}" if problem.extra_tests else problem.test


def _detail(evidence: Execution) -> str:
    """The error with its type where the language names one: `ValueError: no digits`."""
    lines = evidence.stderr.strip().splitlines()
    return lines[0] if lines else evidence.message


def _problem(row: dict[str, str]) -> PackProblem:
    columns = {FIELDS.get(name, name): text for name, text in row.items()}
    return PackProblem(group=row["task_id"], **columns)


# --- editions ---------------------------------------------------------------------------------

STRAY_ID = "Python/142"
STRAY_LINE = '    "\n'


def as_today(problem: PackProblem) -> PackProblem:
    """`problem` as the data have it since May 2024."""
    if problem.id != STRAY_ID:
        return problem
    return replace(
        problem,
        prompt=problem.prompt.replace('""""', '"""', 1),
        declaration=problem.declaration.removesuffix(STRAY_LINE),
    )


def as_in_2023(problem: PackProblem) -> PackProblem:
    """`problem` as the data had it when the published outputs were made."""
    if problem.id != STRAY_ID:
        return problem
    today = as_today(problem)
    return replace(
        today,
        prompt=today.prompt.replace('"""', '""""', 1),
        declaration=today.declaration + STRAY_LINE,
    )
