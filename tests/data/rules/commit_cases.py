"""Commits that each rule keeps, drops or edits; a table that the tests run and count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from astraios.data.rules._subject_talk import share as drawn
from astraios.data.rules.commits import Commit

SHA = "0123456789abcdef0123456789abcdef01234567"
BASE: dict[str, Any] = {
    "commit": SHA,
    "old_file": "src/reader.py",
    "new_file": "src/reader.py",
    "old_contents": "def read():\n    return 1\n",
    "new_contents": "def read():\n    return 2\n",
    "subject": "Return two when nothing was given",
    "message": "Return two when nothing was given\n\nOne was wrong.",
    "lang": "Python",
    "license": "mit",
    "repos": "ada/parser",
}
"""A commit that every rule of `mended` keeps, untouched."""

BOTH = ("mended", "published")
MENDED, PUBLISHED = ("mended",), ("published",)


def commit(**changes: Any) -> Commit:
    return Commit(**{**BASE, **changes})


@dataclass(frozen=True)
class Case:
    rule: str
    keeps: bool
    changes: dict[str, Any]
    presets: tuple[str, ...] = BOTH
    edited: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Options of `commit_rules`."""

    def __str__(self) -> str:
        return f"{self.rule}-{'+'.join(self.presets)}-{str(self.changes)[:50]}"


def keeps(rule: str, presets: tuple[str, ...] = BOTH, /, **changes: Any) -> Case:
    return Case(rule, True, changes, presets)


def drops(rule: str, presets: tuple[str, ...] = BOTH, /, **changes: Any) -> Case:
    return Case(rule, False, changes, presets)


def edits(rule: str, before: str, after: str, presets: tuple[str, ...] = BOTH) -> Case:
    return Case(rule, True, {"subject": before}, presets, edited=after)


def subjects(rule: str, keep: bool, *texts: str, presets: tuple[str, ...] = BOTH) -> list[Case]:
    return [Case(rule, keep, {"subject": text}, presets) for text in texts]


def routine(share: float) -> str:
    """The hash of a commit that B4 draws a number near `share` for, with seed 0."""
    return next(f"{i:040x}" for i in range(10_000) if abs(drawn(0, f"{i:040x}") - share) < 0.01)


LISTED = (
    ("Python", "a.py"), ("Java", "A.java"), ("JavaScript", "a.js"), ("Rust", "a.rs"),
    ("Go", "a.go"), ("C++", "a.cpp"), ("C", "a.c"), ("C", "a.h"), ("HTML", "a.html"),
    ("XML", "a.xml"),
)  # fmt: skip
SHELL = ("a.sh", "a.bash", "a.zsh", "a.csh", "a.slurm")
LONG_WORDS = " ".join(["word"] * 1_000)

CASES: list[Case] = [
    # --- where commits come from
    *(
        keeps("S1-licence", license=name)
        for name in ("mit", "MIT", "apache-2.0", "bsd-3-clause", "bsd-2-clause", "isc", "cc0-1.0",
                     "unlicense", "artistic-2.0")
    ),
    *(
        drops("S1-licence", MENDED, license=name)
        for name in ("agpl-3.0", "lgpl-2.1", "epl-1.0", "mpl-2.0")
    ),
    *(
        keeps("S1-licence", PUBLISHED, license=name)
        for name in ("agpl-3.0", "lgpl-2.1", "epl-1.0", "mpl-2.0")
    ),
    *(drops("S1-licence", license=name) for name in ("gpl-3.0", "none", "unknown", "", "bespoke")),
    keeps("S2-message-length", message="sixsix"),
    drops("S2-message-length", message="fives"),
    keeps("S2-message-length", message="x" * 9_999),
    drops("S2-message-length", message="x" * 10_000),
    *(
        drops("S3-noise-message", message=text)
        for text in (
            "Add files via upload", "commit", "Create README.md", "first commit", "PI push",
            "heartbeat update", "Initial commit", "no message", "Update index.html", "update log",
            "Update README.md", "updates", "dummy", "readme", "update",
            "Merge branch 'x'", "merged the two", "MERGE PULL REQUEST #1",
        )
    ),
    *(
        keeps("S3-noise-message", message=text)
        for text in ("Initial commit of the parser", "Add files via upload form", "Do not merge")
    ),
    drops("S3-noise-message", MENDED, message="Initial commit\n"),
    keeps("S3-noise-message", PUBLISHED, message="Initial commit\n"),
    keeps("S4-one-file"),
    keeps("S4-one-file", old_file="src/old, name.py"),
    drops("S4-one-file", n_files=2),
    drops("S4-one-file", new_file="a.py\nb.py"),
    keeps("S5-opted-out"),
    Case("S5-opted-out", False, {"repos": "ada/parser"}, options={"opted_out": ("ada",)}),
    Case("S5-opted-out", True, {"repos": "adam/ada"}, options={"opted_out": ("ada",)}),
    Case("S5-opted-out", False, {"repos": "Ada/x"}, MENDED, options={"opted_out": ("ada",)}),
    Case("S5-opted-out", False, {"repos": "b/x, ada/x"}, MENDED, options={"opted_out": ("ada",)}),
    Case("S5-opted-out", True, {"repos": "b/x,ada/x"}, PUBLISHED, options={"opted_out": ("ada",)}),
    # --- pass A
    keeps("A1-old-size", old_contents="x" * 49_999),
    drops("A1-old-size", old_contents="x" * 50_000),
    keeps("A2-new-not-empty", old_contents=""),
    drops("A2-new-not-empty", new_contents=""),
    keeps("A3-real-change", old_contents="a", new_contents="a "),
    drops("A3-real-change", old_contents="a", new_contents="a"),
    *subjects("A4-hash-sign", True, "Fix the parser of numbers"),
    *subjects("A4-hash-sign", False, "Fix the parser, see #12", "Support C# in the lexer", "#"),
    *(keeps("A5-extension", MENDED, lang=lang, new_file=f"x/{name}") for lang, name in LISTED),
    *(drops("A5-extension", PUBLISHED, lang=lang, new_file=f"x/{name}") for lang, name in LISTED),
    *(keeps("A5-extension", lang="Shell", new_file=name) for name in SHELL),
    *(keeps("A5-extension", lang="Ruby", new_file=name) for name in ("a.rb", "a.anything")),
    *(
        drops("A5-extension", lang=lang, new_file=name)
        for lang, name in (
            ("Python", "a.pyx"), ("Python", "a.PY"), ("JavaScript", "a.ts"), ("C++", "a.cc"),
            ("C", "a.cpp"), ("Shell", "a.fish"), ("Shell", "run"), ("Ruby", "Rakefile"),
            ("Ruby", "x.d/Rakefile"), ("Python", "py"),
        )
    ),
    drops("A6-file-name", subject="Fix the reader of numbers"),
    drops("A6-file-name", subject="Fix proofreaders of numbers"),
    keeps("A6-file-name", subject="Fix the Reader of numbers"),
    drops("A6-file-name", new_file="x/a.test.js", subject="Add a test of numbers"),
    keeps("A6-file-name", new_file="x/reader.spec.js", subject="Fix the reader of numbers"),
    keeps("A6-file-name", new_file="src/Makefile", subject="Fix the Makefile of numbers"),
    keeps("A6-file-name", new_file="reader.d/Makefile", subject="Fix the reader of numbers"),
    drops("A6-file-name", new_file=".gitignore", subject="Leave out what is built"),
    *(
        case
        for rule in ("A7-length", "A9-length-again")
        for case in (
            *subjects(rule, True, "Fix a b c dd", "a b c d eee", "a  b c\td e f g"),
            *subjects(rule, False, "Fix a b cd", "Fix the parser now", ""),
            *subjects(rule, True, "a b c d " + "e" * 991),
            *subjects(rule, False, "a b c d " + "e" * 992, LONG_WORDS, "a b c d ee"),
        )
    ),
    edits("A8-clean", "Fix a leak in it", "Fix a leak in it"),
    edits("A8-clean", "Fix a leak [skip ci] in it [skip ci]", "Fix a leak in it"),
    edits("A8-clean", "[io] Fix a leak", "Fix a leak"),
    edits("A8-clean", "io: Fix a leak", "Fix a leak"),
    edits("A8-clean", "[io] core: Fix a leak [urgent]", "Fix a leak"),
    edits("A8-clean", "  Fix   a leak ", "Fix a leak"),
    edits("A8-clean", "Fix a [big] leak: it was bad", "Fix a [big] leak: it was bad"),
    edits("A8-clean", "Fix a leak in x[0]", "Fix a leak in x[0]"),
    edits("A8-clean", "[io]Fix a leak", "[io]Fix a leak"),
    edits("A8-clean", "", ""),
    edits("A8-clean", "[a] [b] Fix a leak [c] [d]", "[b] Fix a leak [c]", PUBLISHED),
    edits("A8-clean", "[a] [b] Fix a leak [c] [d]", "Fix a leak", MENDED),
    edits("A8-clean", "core: io: Fix a leak", "io: Fix a leak", PUBLISHED),
    edits("A8-clean", "core: [io] x: Fix a leak", "Fix a leak", MENDED),
    edits("A8-clean", "[low priority]: Fix a leak", "Fix a leak", MENDED),
    edits("A8-clean", "[a][b]: Fix a leak", "Fix a leak"),
    edits("A8-clean", "Fix: a leak", "a leak", PUBLISHED),
    edits("A8-clean", "Fix: a leak", "Fix a leak", MENDED),
    edits("A8-clean", "[io] Fix: do x", "Fix do x", MENDED),
    edits("A8-clean", "Fix: Close the file", "Close the file"),
    edits("A8-clean", "Fix a leak [ci skip]", "Fix a leak [ci skip]", PUBLISHED),
    edits("A8-clean", "Fix a [ci skip] leak", "Fix a leak", MENDED),
    edits("A8-clean", "Fix [skip  ci] a [skip [skip ci]ci] leak", "Fix a leak", MENDED),
    *subjects("A10-capital", True, "Fix a leak", "Übernimm das"),
    *subjects("A10-capital", False, "fix a leak", "2 leaks", "[io] Fix", " Fix", ""),
    keeps("A11-tokens", old_contents="a " * 24, new_contents="b " * 25),
    drops("A11-tokens", old_contents="a " * 24, new_contents="b " * 24),
    keeps("A11-tokens", old_contents="a " * 367, new_contents="b " * 400),
    drops("A11-tokens", old_contents="a " * 368, new_contents="b " * 400),
    *subjects("A12-verb", True, "Fix a leak", "fix a leak", "Speed up the parser", "ADD it"),
    *subjects("A12-verb", False, "Fixed a leak", "Fix", "Fix: a leak", "The fix is in", "Addon it"),
    *subjects("A13-noise", True, "Update the readme", "Test it", "Merge the branches", "Sign off"),
    *subjects(
        "A13-noise", False,
        "README", "Update", "dummy", "Updated", "Test", "Update readme", "Update README.md",
        "Updated README.md", "updated readme", "Add an Auto Commit hook", "Update CONTRIBUTING.md",
        'Add <?xml version="1.0"?> header', "Use merge branch 'x'", "Fix it, Signed-off-by: A",
        "Revert Merge pull request 7",
    ),
    *subjects("A14-version-or-hash", True, "Update to v1.2.3", "1.2.3 is out", "Debug", "v1.2"),
    *subjects("A14-version-or-hash", True, "1.2.34 is out", "v10.20.300 is out"),
    *subjects("A14-version-or-hash", True, "dead-", "0239-xyz", "cafe babe"),
    *subjects("A14-version-or-hash", False, "v1.2.3", "1.20.3-rc1 is out", "V1.2.3", "0239-2a41"),
    *subjects("A14-version-or-hash", False, "DEADBEEF", "cafe"),
    # --- pass B
    *subjects("B1-cherry-pick", True, "Fix the cherry picked from it"),
    *subjects("B1-cherry-pick", False, "Fix it (Cherry picked from commit 12)"),
    *subjects("B2-sha", True, f"Revert {SHA[:39]} now", f"Revert {SHA.upper()} now"),
    *subjects("B2-sha", False, f"Revert {SHA} now", f"Revert {SHA}00 now"),
    edits("B3-clean", "Fix a leak", "Fix a leak"),
    edits("B3-clean", "Fix a leak [ci skip]", "Fix a leak"),
    edits("B3-clean", "Fix [skip ci] a leak [CI SKIP]", "Fix [skip ci] a leak [CI SKIP]"),
    *(
        case
        for text in ("Bump version to 2.0", "Set version to 2.0", "Update versions of it")
        for case in (
            drops("B4-down-sample", subject=text, commit=routine(0.88)),
            keeps("B4-down-sample", subject=text, commit=routine(0.92)),
        )
    ),
    *(
        keeps("B4-down-sample", subject=text, commit=routine(0.1))
        for text in ("bump version to 2.0", "Update the version", "Do not Bump it", "Add Bump")
    ),
    *subjects("B5-first-person", True, "Use ivy", "Make i", "I fix imports", "Fix i2 in it"),
    *subjects("B5-first-person", False, "Fix what I broke", "Fix, I've read it", "Add as i'm told"),
    *subjects("B6-thanks", True, "Fix it, thanks to Ada", "Thanks for all", "Thanks to Ada FOR it"),
    *subjects("B6-thanks", False, "Fix it, Thanks to Ada for that", "Reformat, thanks to Ada"),
    *subjects("B7-review", True, "Review the code", "Add codereview"),
    *subjects("B7-review", False, "Fix after Code Review", "See //codereview.x/12"),
    *subjects("B8-bad-line", True, "Put the thingie in the thingie again"),
    *subjects(
        "B8-bad-line", False,
        "Fix that bug where things didn't work but now they should",
        "Put the thingie in the thingie", "Add a beter commit message",
    ),
    *subjects("B9-ticket", True, "Fix issue with 3 of it", "Fix bugs 12", "Add feature x1"),
    *subjects("B9-ticket", False, "Fix Issue 12", "Fix BUG12", "Add feature  7", "Debug 3 of it"),
    *subjects("B10-tag", True, "Fix CDCP"),
    *subjects("B10-tag", False, "Fix it CDPCP-12"),
    *subjects("B11-unfinished", True, "Fix the worker", "Fix work and progress"),
    *subjects("B11-unfinished", False, "Add it (WIP)", "Add it, Work in Progress", "wip: it"),
    *subjects("B11-unfinished", True, "Wipe it", "Add swipe", "Show network in progress bar",
              presets=MENDED),
    *subjects("B11-unfinished", False, "Wipe it", "Add swipe", "Show network in progress bar",
              presets=PUBLISHED),
    *subjects("B12-link", True, "Use http for it", "Use https: for it"),
    *subjects("B12-link", False, "See http://x", "See HTTPS://x"),
    *subjects("B13-exercise", True, "Add leetcode 12", "Add |leetcode"),
    *subjects("B13-exercise", False, "Add two sum | LeetCode"),
    *subjects("B14-words", True, "Fix a b c", "Fix the long leak here"),
    *subjects("B14-words", False, "Fix a leak", ""),
]  # fmt: skip
