"""A7 to A14 but A11: whether a subject reads like an instruction."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace

from astraios.data.rules import Rule, keeping
from astraios.data.rules._commit import Commit
from astraios.data.rules._words import words

_VERSION = re.compile(r"v?\d+\.\d+\.\d+(?!\d)(?=$|\S)")
_HASH = re.compile(r"[a-f0-9]+(?:-[a-f0-9]+)*")
_MARKERS = ("[skip ci]", "[ci skip]")


def length_rule(name: str, what: str) -> Rule[Commit]:
    """A7 and A9."""

    def fits(commit: Commit) -> bool:
        n_words = len(commit.subject.split())
        return 10 < len(commit.subject) < 1_000 and 4 < n_words < 1_000

    return keeping(name, f"{what} has 11 to 999 characters and 5 to 999 words", fits)


def clean_rule(preset: str, verbs: Collection[str]) -> Rule[Commit]:
    """A8."""
    if preset == "published":
        return editing(
            "A8-clean",
            "edits: [skip ci], one bracketed first word, then one that ends with a colon, then one "
            "bracketed last word are taken off",
            cleaned_once,
        )
    return editing(
        "A8-clean",
        "edits: [skip ci] and [ci skip], all bracketed words at both ends and all words with a "
        "colon in front are taken off; a verb with a colon loses the colon only, unless a capital "
        "verb follows",
        lambda subject: cleaned(subject, frozenset(verbs)),
    )


def editing(name: str, keeps: str, edit: Callable[[str], str]) -> Rule[Commit]:
    """A rule that changes the subject and drops nothing."""

    def apply(commit: Commit) -> Commit:
        subject = edit(commit.subject)
        return commit if subject == commit.subject else replace(commit, subject=subject)

    return Rule(name, keeps, apply)


def cleaned_once(subject: str) -> str:
    """The subject as the original's script cleans it."""
    rest = subject.replace("[skip ci]", "").split()
    if rest and _is_bracketed(rest[0]):
        rest = rest[1:]
    if rest and rest[0].endswith(":"):
        rest = rest[1:]
    if rest and _is_bracketed(rest[-1]):
        rest = rest[:-1]
    return " ".join(rest)


def cleaned(subject: str, verbs: Collection[str]) -> str:
    """The subject cleaned until nothing is left to clean.

    [core] [io] parser: Fix a leak [skip ci]     Fix a leak
    [low priority] Fix a leak [urgent]           Fix a leak
    Fix: a leak                                  Fix a leak
    Fix: Close the file                          Close the file
    """
    text = " ".join(subject.split())
    while any(marker in text for marker in _MARKERS):
        for marker in _MARKERS:
            text = " ".join(text.replace(marker, "").split())
    rest = text.split()
    while n_front := _n_front(rest, verbs):
        rest = rest[n_front:]
    while rest and _is_bracketed(rest[-1]):
        rest = rest[:-1]
    if rest and rest[0].endswith(":"):  # a verb, or `_n_front` would have counted it
        rest[0] = rest[0].rstrip(":")
    return " ".join(rest)


def _n_front(rest: list[str], verbs: Collection[str]) -> int:
    """Words to take off the front: a bracket group, or a word with a colon."""
    if not rest:
        return 0
    if _is_bracketed(rest[0]):
        return 1
    if rest[0].startswith("["):
        ends = [i for i, word in enumerate(rest, 1) if "]" in word]
        group = " ".join(rest[: ends[0]]) if ends else ""
        if group.endswith(("]", "]:")) and group.count("[") == group.count("]") == 1:
            return ends[0]
    if not rest[0].endswith(":"):
        return 0
    bare, following = rest[0].rstrip(":").lower(), rest[1] if len(rest) > 1 else ""
    follows_verb = following[:1].isupper() and following.lower() in verbs
    return 1 if bare not in verbs or follows_verb else 0


def _is_bracketed(word: str) -> bool:
    return word.startswith("[") and word.endswith("]")


def capital_rule() -> Rule[Commit]:
    """A10."""
    return keeping(
        "A10-capital",
        "the subject's first character is upper case",
        lambda commit: commit.subject[:1].isupper(),
    )


def verb_rule(verbs: Collection[str]) -> Rule[Commit]:
    """A12."""
    openings = tuple(f"{verb} " for verb in verbs)
    return keeping(
        "A12-verb",
        "the subject begins with a verb of the list and a space, ignoring case",
        lambda commit: commit.subject.lower().startswith(openings),
    )


def noise_rules() -> tuple[Rule[Commit], ...]:
    """A13 and A14."""
    whole, parts = frozenset(words("noise_subjects")), words("noise_parts")

    def speaks(commit: Commit) -> bool:
        subject = commit.subject.lower()
        return subject not in whole and not any(part in subject for part in parts)

    def is_no_number(commit: Commit) -> bool:
        subject = commit.subject.lower()
        return not _VERSION.match(subject) and not _HASH.fullmatch(subject)

    return (
        keeping(
            "A13-noise",
            "the subject is none of words/noise_subjects.txt (which A9 or A12 drop before, unless "
            "switched off) and has none of words/noise_parts.txt in it, ignoring case",
            speaks,
        ),
        keeping(
            "A14-version-or-hash",
            "the subject does not begin with a version of three numbers and is no hash; A12 drops "
            "both before, unless switched off",
            is_no_number,
        ),
    )
