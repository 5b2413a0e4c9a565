"""B1 to B14: subjects that talk of something else than the change."""

from __future__ import annotations

import hashlib
import re

from astraios.data.rules import Rule, keeping
from astraios.data.rules._commit import Commit
from astraios.data.rules._subjects import editing
from astraios.data.rules._words import words

_SHA = re.compile(r"[0-9a-f]{40}")
_TICKET = re.compile(r"(?:issue|bug|feature)\s*\d")
_UNFINISHED = re.compile(r"\b(?:work in progress|wip)\b")
_ROUTINE = ("Bump", "Set version", "Update version")


def share(seed: int, commit: str) -> float:
    """A number in [0, 1), drawn by the seed and the commit's hash."""
    digest = hashlib.sha256(f"{seed}\0{commit}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def talk_rules(preset: str, seed: int) -> tuple[Rule[Commit], ...]:
    """B1 to B14."""
    bad_lines = frozenset(words("bad_lines"))

    def without(name: str, *parts: str) -> Rule[Commit]:
        def lacks(commit: Commit) -> bool:
            subject = commit.subject.lower()
            return not any(part in subject for part in parts)

        told = " or ".join(f'"{part}"' for part in parts)
        return keeping(name, f"the subject does not contain {told}, ignoring case", lacks)

    def is_drawn(commit: Commit) -> bool:
        return not commit.subject.startswith(_ROUTINE) or share(seed, commit.commit) >= 0.9

    def thanks_nobody(commit: Commit) -> bool:
        return "thanks to" not in commit.subject.lower() or "for" not in commit.subject

    unfinished = (
        without("B11-unfinished", "work in progress", "wip")
        if preset == "published"
        else keeping(
            "B11-unfinished",
            'the subject does not contain "work in progress" or "wip" as whole words, ignoring '
            "case; wipe and swipe are other words",
            lambda commit: not _UNFINISHED.search(commit.subject.lower()),
        )
    )
    return (
        without("B1-cherry-pick", "cherry picked from commit"),
        keeping(
            "B2-sha",
            "the subject has no 40 lower-case hex digits in a row",
            lambda commit: not _SHA.search(commit.subject),
        ),
        editing(
            "B3-clean",
            "edits: [ci skip] is taken out"
            + ("" if preset == "published" else "; A8 has done so before, unless switched off"),
            lambda subject: subject.replace("[ci skip]", "").strip(),
        ),
        keeping(
            "B4-down-sample",
            "of subjects that begin with Bump, Set version or Update version, one in ten, drawn "
            "by the seed and the commit's hash (the original's generator has no seed)",
            is_drawn,
        ),
        without("B5-first-person", " i ", "i've", "i'm"),
        keeping(
            "B6-thanks",
            'the subject does not contain both "thanks to", ignoring case, and "for"',
            thanks_nobody,
        ),
        without("B7-review", "code review", "//codereview"),
        keeping(
            "B8-bad-line",
            "the subject is none of words/bad_lines.txt, ignoring case",
            lambda commit: commit.subject.lower() not in bad_lines,
        ),
        keeping(
            "B9-ticket",
            "the subject has no issue, bug or feature followed by digits, ignoring case",
            lambda commit: not _TICKET.search(commit.subject.lower()),
        ),
        without("B10-tag", "cdpcp"),
        unfinished,
        without("B12-link", "http://", "https://"),
        without("B13-exercise", "| leetcode"),
        keeping(
            "B14-words",
            "the subject has 4 words or more",
            lambda commit: len(commit.subject.split()) >= 4,
        ),
    )
