"""Docstring: the same code with its description disturbed (ReCode, section 3.1).

Only prose is touched: what stands in front of the first example, and in it neither quoted text nor
names of the code. Where an instruction repeats lines of the documentation, both are disturbed
alike; where it says the description alone, it is. ReCode's BackTranslation needs a translation
model and is not here.
"""

from __future__ import annotations

import keyword
import re
import tokenize
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from astraios.perturbations import Claim, Told, Transformation
from astraios.perturbations._chance import Chance
from astraios.perturbations._layout import documentation, quotes, tokens
from astraios.perturbations._words import (
    KEYS,
    as_written,
    exchange,
    forms,
    synonyms,
    verbs,
)

EXAMPLE = re.compile(
    r">>>|\bexamples?\b\s*\d*\s*:?\s*$|\bexamples?\b\s*\d*\s*:|\bfor\s+example\b|^\s*(?:in|out)put\s*:"
    r"|==|=>|->|➞|^\s*assert\b|^\s*\[?input/output|\bit must be implemented like this\b",
    re.IGNORECASE,
)
"""Where a line begins to show instead of to tell."""

QUOTED = re.compile(r"`[^`\n]*`|\"[^\"\n]*\"|(?<!\w)'[^'\n]*'(?!\w)|\[[^\]\n]*\]|\\.|\S*[_\d]\S*")
"""What means itself: quoted text, lists, escapes, names and numbers."""

WORD = re.compile(r"(?<![\w'.-])[A-Za-z]+(?![\w'(-])")
MARKS_BASE = frozenset({"you", "we", "they", "i", "and", "then", "that", "which"})
"""Words behind which a verb in its base form is said of the present."""
ARTICLES = frozenset({"a", "an", "the", "of", "its", "their", "your"})
"""Words behind which what looks like a verb is a noun."""


@dataclass(frozen=True)
class Word:
    """A word of the prose: where it is, and whether a sentence begins with it."""

    start: int
    text: str
    opens: bool

    @property
    def end(self) -> int:
        return self.start + len(self.text)


Change = Callable[[str, list[Word], Chance], dict[tuple[int, int], str]]
"""Prose and its words -> what to put in place of which characters."""


def _over(change: Change) -> Callable[[Told, Chance], Told]:
    def apply(told: Told, chance: Chance) -> Told:
        names = _names(told)
        span = documentation(told.prompt)
        same: dict[str, str] = {}
        if span is not None:
            literal = told.prompt[span.start : span.end]
            head, tail = quotes(literal)
            inner = literal[len(head) : -len(tail)]
            new = _disturbed(inner, names, change, chance)
            same = {
                before.strip(): after.strip()
                for before, after in zip(inner.split("\n"), new.split("\n"), strict=True)
                if before != after
            }
            prompt = told.prompt[: span.start] + head + new + tail + told.prompt[span.end :]
            told = replace(told, prompt=prompt)
        text, repeated = _alike(told.text, same)
        if not repeated:
            text = _disturbed(text, names, change, chance)
        return replace(told, text=text)

    return apply


def _alike(text: str, same: dict[str, str]) -> tuple[str, bool]:
    """`text` with the lines that the documentation has too as they are there; whether any was."""
    lines = text.split("\n")
    new = [line.replace(line.strip(), same.get(line.strip(), line.strip())) for line in lines]
    return "\n".join(new), new != lines


def _names(told: Told) -> frozenset[str]:
    """Names of the code that no word of the text may lose: those that are no plain words."""
    found = {token.string for token in tokens(told.code) if token.type == tokenize.NAME}
    plain = {name for name in found if name.isalpha() and name.islower() and len(name) > 2}
    return frozenset((found - plain) | set(keyword.kwlist) | {told.entry_point})


def _prose(text: str) -> int:
    """How many characters of `text` stand in front of the first example."""
    at = 0
    for line in text.splitlines(keepends=True):
        if EXAMPLE.search(line):
            break
        at += len(line)
    return at


def _disturbed(text: str, names: frozenset[str], change: Change, chance: Chance) -> str:
    prose = text[: _prose(text)]
    kept = [found.span() for found in QUOTED.finditer(prose)]
    words = []
    for found in WORD.finditer(prose):
        start, end = found.span()
        if found.group() in names or any(a < end and start < b for a, b in kept):
            continue
        before = prose[:start].rstrip()
        opens = not before or before[-1] in ".!?:" or prose[len(before) : start].count("\n") > 1
        words.append(Word(start, found.group(), opens))
    for (start, end), new in sorted(change(prose, words, chance).items(), reverse=True):
        text = text[:start] + new + text[end:]
    return text


# --- letters ----------------------------------------------------------------------------------


def _butter_fingers(prose: str, words: list[Word], chance: Chance) -> dict[tuple[int, int], str]:
    able = [at for word in words for at in range(word.start, word.end) if prose[at] in KEYS]
    return {(at, at + 1): chance.choice(KEYS[prose[at]]) for at in chance.some(able, 5)}


def _change_case(prose: str, words: list[Word], chance: Chance) -> dict[tuple[int, int], str]:
    able = [at for word in words for at in range(word.start, word.end)]
    return {(at, at + 1): prose[at].swapcase() for at in chance.some(able, 35)}


def _swap_letters(prose: str, words: list[Word], chance: Chance) -> dict[tuple[int, int], str]:
    able = [
        at for word in words for at in range(word.start, word.end - 1) if prose[at] != prose[at + 1]
    ]
    found: dict[tuple[int, int], str] = {}
    last = -2
    for at in chance.some(able, 5):
        if at > last + 1:
            found[at, at + 2], last = exchange(prose[at : at + 2], 0), at
    return found


def _white_space(prose: str, words: list[Word], chance: Chance) -> dict[tuple[int, int], str]:
    """Blanks get lost between words and appear inside them."""
    gaps = [
        (one.end, two.start) for one, two in pairwise(words) if prose[one.end : two.start] == " "
    ]
    inner = [(at, at) for word in words for at in range(word.start + 1, word.end)]
    return {
        (start, end): "" if end > start else " "
        for start, end in [*chance.some(gaps, 10), *chance.some(inner, 5)]
    }


# --- words ------------------------------------------------------------------------------------


def _inflect(prose: str, words: list[Word], chance: Chance) -> dict[tuple[int, int], str]:
    able = [word for word in words if len(forms().get(word.text.lower(), ())) > 1]
    found = {}
    for word in chance.some(able, 50):
        others = [form for form in forms()[word.text.lower()] if form != word.text.lower()]
        found[word.start, word.end] = as_written(chance.choice(others), word.text)
    return found


def _substitute(prose: str, words: list[Word], chance: Chance) -> dict[tuple[int, int], str]:
    return _synonyms(words, chance, inserted=False)


def _insert(prose: str, words: list[Word], chance: Chance) -> dict[tuple[int, int], str]:
    return _synonyms(words, chance, inserted=True)


def _synonyms(words: list[Word], chance: Chance, inserted: bool) -> dict[tuple[int, int], str]:
    able = [word for word in words if word.text.lower() in synonyms()]
    found = {}
    for word in chance.some(able, 40):
        other = as_written(chance.choice(synonyms()[word.text.lower()]), word.text)
        found[word.start, word.end] = f"{word.text} {other.lower()}" if inserted else other
    return found


def _past(prose: str, words: list[Word], chance: Chance) -> dict[tuple[int, int], str]:
    return {
        (word.start, word.end): as_written(verbs()[word.text.lower()][2], word.text)
        for word in _present(words)
    }


def _future(prose: str, words: list[Word], chance: Chance) -> dict[tuple[int, int], str]:
    found = {}
    for word in _present(words):
        base = verbs()[word.text.lower()][0]
        found[word.start, word.end] = as_written(
            "will " + ("be" if base == "are" else base), word.text
        )
    return found


def _present(words: list[Word]) -> list[Word]:
    """Verbs in the present tense: in the third person, or in base form where one can say so."""
    found = []
    before = ""
    for word in words:
        low = word.text.lower()
        known = verbs().get(low)
        is_third = known is not None and (low == known[1] or low == "are")
        is_base = known is not None and low == known[0] and (word.opens or before in MARKS_BASE)
        if is_base or (is_third and before not in ARTICLES):
            found.append(word)
        before = low
    return found


def _made(
    name: str, claim: Claim, summary: str, change: Change, drawn: bool = True
) -> Transformation:
    return Transformation(name, claim, summary, _over(change), drawn=drawn)


family = (
    _made(
        "ButterFingersPerturbation",
        Claim.LETTERS,
        "letters give way to their neighbours on the keyboard",
        _butter_fingers,
    ),
    _made("ChangeCharCase", Claim.LETTERS, "letters change their case", _change_case),
    _made("EnglishInflectionalVariation", Claim.WORDS, "words take another form", _inflect),
    _made(
        "SwapCharactersPerturbation",
        Claim.LETTERS,
        "neighbouring letters change places",
        _swap_letters,
    ),
    _made("SynonymInsertion", Claim.WORDS, "a synonym follows a word", _insert),
    _made("SynonymSubstitution", Claim.WORDS, "words give way to synonyms", _substitute),
    _made(
        "TenseTransformationFuture",
        Claim.WORDS,
        "verbs of the present move to the future",
        _future,
        drawn=False,
    ),
    _made(
        "TenseTransformationPast",
        Claim.WORDS,
        "verbs of the present move to the past",
        _past,
        drawn=False,
    ),
    _made(
        "WhitespacePerturbation",
        Claim.LETTERS,
        "blanks are lost between words and added inside them",
        _white_space,
    ),
)
