"""Reading yes or no out of a completion: as the paper's harness did, and by word.

    " Yes, there is a defect."        yes, yes
    " I know of nothing wrong."       no,  nothing      "know" holds the letters of "no"
    " Not that it matters"            no,  nothing
    " The code is correct."           nothing, nothing

The published numbers rest on the first reading, so it is kept as it was, under its own name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ANSWER = "\nAnswer:"
"""What an answer stands behind in a final text."""

_SPECIAL = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>")
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_EMPHASIS = "_"
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)|\n")


@dataclass(frozen=True)
class Phrases:
    """What decides where neither word, or both, stand in the first clause."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


def spelled(joint: str) -> tuple[str, ...]:
    """The two answers as a model may begin them behind a prompt: `joint`, then the word.

    All spellings of one answer count for it (surface form competition, Holtzman et al. 2021,
    arXiv:2104.08315).
    """
    return tuple(joint + word for word in ("YES", "Yes", "yes", "NO", "No", "no"))


def answer_text(text: str) -> str:
    """What follows the last question; a raw completion that asks none is taken whole."""
    return text.rpartition(ANSWER)[2]


def read_as_published(text: str, phrases: Phrases) -> bool | None:
    """The answer by the harness's five steps; None is its `-1`.

    "yes" and "no" are looked for as letters, anywhere in the text before the first comma or full
    stop; if that decides nothing, the phrases are looked for in the whole answer, positive first.
    """
    answer = answer_text(text).lower()
    clause = answer.replace(",", ".").partition(".")[0]
    said_yes, said_no = "yes" in clause, "no" in clause
    if said_yes != said_no:
        return said_yes
    if any(phrase in answer for phrase in phrases.positive):
        return True
    if any(phrase in answer for phrase in phrases.negative):
        return False
    return None


def read_by_word(text: str) -> bool | None:
    """The answer by whole words; None if there is none, or it contradicts itself.

    A first word that is yes or no is the answer, since that is what was asked for, unless the other
    is offered with it ("YES or NO", "yes/no"). Else exactly one of the two words must stand in the
    first sentence. `no_op` and `no-op` are words of their own.
    """
    answer = _SPECIAL.sub(" ", answer_text(text)).strip()
    sentence = _SENTENCE_END.split(answer, maxsplit=1)[0]
    words: list[str] = [word.strip(_EMPHASIS).lower() for word in _WORD.findall(sentence)]
    offered = {word for word in words[:3] if word not in ("or", "and")}
    if words and words[0] in ("yes", "no") and offered != {"yes", "no"}:
        return words[0] == "yes"
    said_yes, said_no = "yes" in words, "no" in words
    return None if said_yes == said_no else said_yes
