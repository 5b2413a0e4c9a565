"""What Devign and BigCloneBench share: a yes/no question about code, two protocols, the verdict.

`original` (the default) is the paper's protocol, so that its published outputs can be graded by the
task's plain name. Its faults are kept under names of their own:

    question    prompt and answer take 512 tokens together, the prompt's beginning is cut: the model
                then sees the tail of a function, and answers with one token
    answer      read by letters (`_yes_no.read_as_published`): "know" is a no
    slices      `paper-all`, and `paper-sample`: the 2,000 that the paper's notebook draws
    beside it   `by-word`: the same texts with the answer read by word

`clean` keeps functions whole, or cuts them at the tail, reads the answer by word and says how often
a function was not whole.

    slices      `clean-all`, and `clean-whole` where some functions are not whole
"""

from __future__ import annotations

import copy
import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from astraios.errors import ConfigError, DataError, GenerationsError, UnknownNameError
from astraios.records import (
    Execution,
    Findings,
    Outcome,
    ProblemCard,
    Program,
    Prompt,
    Sampling,
    Score,
    Verdict,
)
from astraios.tasks import Problem, Task
from astraios.tasks._codexglue import Example, Split, label_of, read
from astraios.tasks._comprehension_scores import (
    BY_WORD,
    CUT,
    PAPER_SAMPLE,
    WHOLE,
    clean_scores,
    original_scores,
)
from astraios.tasks._draws import Draw
from astraios.tasks._likelihoods import log_odds
from astraios.tasks._yes_no import (
    ANSWER,
    Phrases,
    answer_text,
    read_as_published,
    read_by_word,
    spelled,
)
from astraios.templates import template as template_named

log = logging.getLogger(__name__)

ORIGINAL, CLEAN = EDITIONS = ("original", "clean")
REVISION = "2"
"""Rises with anything that can move a score."""

TEMPLATE = "question_answer"
INDENT = " " * 22
"""White space before the second question of a one-shot prompt, as published."""
LENGTH = 512
"""Tokens of prompt and answer in the original protocol (`--max_length_generation 512`)."""

SHOWN = 200
"""Characters of an answer that a verdict keeps."""


@dataclass(frozen=True)
class YesNoProblem(Problem):
    """A question about one or two functions."""

    code: tuple[str, ...]
    """As the data hold it."""
    label: bool
    is_whole: bool
    """Whether the data hold the code whole."""
    rank: int | None = None
    """Place in the sample that the paper's notebook draws."""


class YesNoTask(Task[YesNoProblem]):
    """A question that is answered with yes or no; see the module."""

    languages = ()
    checker = None
    template = TEMPLATE
    editions = EDITIONS
    takes_records = True
    unfit_share = 0.1

    split: ClassVar[Split]
    prefix: ClassVar[str]
    """Of problem ids."""
    phrases: ClassVar[Phrases]
    notebook: ClassVar[Draw]
    """The sample that the paper's notebook scores."""
    longest: ClassVar[int]
    """Characters of one function that `clean` shows."""
    example: ClassVar[tuple[str, ...]]
    """Code to which the one-shot prompt answers YES."""
    ids_are_places: ClassVar[bool] = True
    """Whether the ID of a published record is its place in the file."""
    own_example: ClassVar[bool] = False
    """Whether the example of the one-shot prompt is ours, the paper's being unknown."""

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.is_one_shot = name.endswith("-oneshot")
        self.title = f"{title}, one example" if self.is_one_shot else title
        self._become(ORIGINAL)

    def edition(self, name: str) -> Self:
        if name not in EDITIONS:
            raise UnknownNameError(f"edition of {self.name}", name, EDITIONS)
        twin = copy.copy(self)
        twin._become(name)
        return twin

    def _become(self, edition: str) -> None:
        self.is_original = edition == ORIGINAL
        own = "+own-example" if self.own_example and self.is_one_shot else ""
        self.version = f"{edition}-{REVISION}{own}"
        n_tokens = LENGTH if self.is_original else 64
        self.sampling = Sampling(n_samples=1, temperature=0.0, max_new_tokens=n_tokens)

    # --- what the tasks differ in ---

    @abstractmethod
    def question(self, code: Sequence[str]) -> str:
        """The question about `code`."""

    @abstractmethod
    def choose(self, labels: Sequence[bool]) -> Sequence[int]:
        """The problems of this edition, as places in the test split."""

    # --- problems and prompts ---

    def problems(self, data_dir: Path | None) -> Sequence[YesNoProblem]:
        examples = read(self.split, data_dir, self.choose)
        problems = [self._problem(example) for example in examples]
        ranks = self.notebook.positions([problem.label for problem in problems])
        if not self.is_original or ranks is None:
            if self.is_original:
                log.warning(
                    "%s: too few problems for the paper's sample of %d; slice %s is left out",
                    self.name,
                    self.notebook.n_negative + self.notebook.n_positive,
                    PAPER_SAMPLE,
                )
            return problems
        for rank, at in enumerate(ranks):
            problems[at] = replace(problems[at], rank=rank)
        return problems

    def _problem(self, example: Example) -> YesNoProblem:
        name = f"{self.prefix}/{example.position}"
        return YesNoProblem(
            id=name, group=name, code=example.code, label=example.label, is_whole=example.is_whole
        )

    def shown(self, code: Sequence[str]) -> tuple[str, ...]:
        """The code as `clean` shows it: long functions end at a line within `longest`."""
        return tuple(cut_tail(text, self.longest) for text in code)

    def prompt(self, problem: YesNoProblem, turns: tuple[str, ...], template: str) -> Prompt | None:
        if turns:
            return None
        if self.is_original:
            if template != TEMPLATE:
                raise ConfigError(
                    f"the original protocol of {self.name} asks with the template {TEMPLATE}; "
                    f"{self.name}@{CLEAN} takes {template!r}"
                )
            return Prompt(
                problem_id=problem.id,
                text=self._original_prompt(problem),
                stops=("\n",),
                max_length=LENGTH,
                answers=spelled(" "),
            )
        text = self._clean_prompt(self.shown(problem.code), template)
        return Prompt(
            problem_id=problem.id,
            text=text,
            stops=("\n\n", "\nQuestion:"),
            kind=template_named(template).kind,
            answers=spelled(template_named(template).joint),
        )

    def log_odds(self, likelihoods: Mapping[str, float]) -> float | None:
        sides: dict[str, list[float]] = {"yes": [], "no": []}
        for answer, value in likelihoods.items():
            sides[answer.strip().lower()].append(value)
        return log_odds(sides["yes"], sides["no"])

    def _original_prompt(self, problem: YesNoProblem) -> str:
        asked = f"Question: {self.question(problem.code)}\n{ANSWER}"
        if not self.is_one_shot:
            return asked
        shot = f" Question: {self.question(self.example)}\n{ANSWER} YES"
        return f"{shot}\n\n{INDENT}{asked}"

    def _clean_prompt(self, code: Sequence[str], template: str) -> str:
        if template == "continue":
            raise ConfigError(
                f"template 'continue' asks no question, so {self.name} cannot be asked with it; "
                "choose question_answer, octocoder, instruct or chat"
            )
        examples = [(self.question(self.example), "YES")] if self.is_one_shot else []
        return template_named(template).prompt(self.question(code), examples=examples)

    # --- final texts ---

    def final_text(self, problem: YesNoProblem, turns: tuple[str, ...]) -> str:
        """The question as `question_answer` puts it, whatever was asked with, and the answer."""
        if self.is_original:
            return self._original_prompt(problem) + turns[-1]
        return self._clean_prompt(self.shown(problem.code), TEMPLATE) + turns[-1]

    def saved(self, problem: YesNoProblem, text: str, place: int) -> dict[str, Any]:
        read = read_as_published(text, self.phrases) if self.is_original else read_by_word(text)
        return {
            "ID": place,
            "prediction": _digit(read) or "-1",
            "true_label": _digit(problem.label),
            "raw_text": text,
        }

    def fits(self, problem: YesNoProblem, text: str) -> bool:
        """Whether `text` begins with the prompt, or with an end of it that fitted."""
        if not self.is_original:
            return text.startswith(self._clean_prompt(self.shown(problem.code), TEMPLATE))
        whole = self._original_prompt(problem)
        bare = f"Question: {self.question(problem.code)}\n{ANSWER}" if self.is_one_shot else None
        at = -1
        while (at := text.find(ANSWER, at + 1)) >= 0:
            asked = text[: at + len(ANSWER)].lstrip("\ufffd")  # a cut may split a character
            if whole.endswith(asked):
                return asked != bare  # the question without its example is another task's
        return False

    def n_shown(self, problem: YesNoProblem) -> int:
        return len(self._original_prompt(problem)) if self.is_original else 1

    def text_of(self, problem: YesNoProblem, record: Mapping[str, Any], place: int) -> str:
        """The text of a record as the harness saves it: ID, prediction, true_label, raw_text."""
        if "raw_text" not in record:
            listed = ", ".join(map(repr, record)) or "none"
            raise GenerationsError(f"the record lacks the field 'raw_text'; it has {listed}")
        if self.ids_are_places and str(record.get("ID", place)) != str(place):
            raise GenerationsError(
                f"the record has ID {record['ID']!r}, its place is {place}: records must stand in "
                "the order of the test set, none left out"
            )
        if "true_label" in record:
            try:
                label = label_of(record["true_label"], "field 'true_label'")
            except DataError as error:
                raise GenerationsError(str(error)) from None
            if label != problem.label:
                raise GenerationsError(
                    f"the record says label {int(label)}, the data say {int(problem.label)}: "
                    "the file belongs to another test set, or to another order of it"
                )
        text = record["raw_text"]
        if not isinstance(text, str):
            raise GenerationsError(
                f"field 'raw_text' holds {type(text).__name__}, expected text; "
                "leave nothing out: an empty answer is an empty text"
            )
        return text

    def program(self, problem: YesNoProblem, turns: tuple[str, ...]) -> Program | None:
        return None

    def final_program(self, problem: YesNoProblem, text: str) -> Program | None:
        return None

    # --- verdicts and scores ---

    def verdict(
        self,
        problem: YesNoProblem,
        index: int,
        turns: tuple[str, ...],
        evidence: Execution | Findings | None,
    ) -> Verdict:
        text = turns[-1]
        by_word = read_by_word(text)
        answer = read_as_published(text, self.phrases) if self.is_original else by_word
        if answer is None:
            outcome = Outcome.UNPARSED
        else:
            outcome = Outcome.PASSED if answer == problem.label else Outcome.FAILED
        return Verdict(
            problem_id=problem.id,
            index=index,
            group=problem.group,
            slice=self._slice(problem),
            outcome=outcome,
            answer=_digit(answer),
            expected=_digit(problem.label),
            readings={BY_WORD: _digit(by_word)} if self.is_original else None,
            detail=answer_text(text).strip()[:SHOWN],
        )

    def _slice(self, problem: YesNoProblem) -> str:
        if self.is_original:
            return PAPER_SAMPLE if problem.rank is not None else ""
        is_cut = self.shown(problem.code) != problem.code
        return WHOLE if problem.is_whole and not is_cut else CUT

    def scores(self, verdicts: Iterable[Verdict]) -> list[Score]:
        score = original_scores if self.is_original else clean_scores
        return score(self.name, list(verdicts))

    def card(self, problem: YesNoProblem) -> ProblemCard:
        return ProblemCard(
            id=problem.id,
            group=problem.group,
            slice=self._slice(problem),
            title=problem.code[0].strip().partition("\n")[0][:SHOWN],
            reference="YES" if problem.label else "NO",
        )


def cut_tail(text: str, longest: int) -> str:
    """The whole lines of `text` that fit into `longest` characters; one long line is cut itself."""
    if len(text) <= longest:
        return text
    kept = text[:longest]
    lines, newline, _ = kept.rpartition("\n")
    return lines if newline and lines.strip() else kept


def _digit(answer: bool | None) -> str | None:
    return None if answer is None else str(int(answer))
