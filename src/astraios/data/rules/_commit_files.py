"""A1 to A6 and A11: the two versions of the file, and its name."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from astraios.data.rules import Rule, keeping
from astraios.data.rules._commit import Commit

EXTENSIONS = MappingProxyType(
    {
        "python": (".py",), "java": (".java",), "javascript": (".js",), "rust": (".rs",),
        "go": (".go",), "c++": (".cpp",), "c": (".c", ".h"), "html": (".html",),
        "shell": ("sh", "bash", "zsh", "csh", "slurm"), "xml": (".xml",),
    }
)  # fmt: skip
"""Language in lower case -> endings of its files, as published: those of shell have no dot."""


def file_rules(preset: str) -> tuple[Rule[Commit], ...]:
    """A1 to A6."""
    mended = preset == "mended"

    def has_extension(commit: Commit) -> bool:
        extension = commit.base_name.rpartition(".")[2] if "." in commit.base_name else ""
        listed = EXTENSIONS.get(commit.lang.lower())
        if listed is None or not extension:
            return bool(extension)
        if mended:
            return extension in {known.removeprefix(".") for known in listed}
        return extension in listed

    def is_not_told(commit: Commit) -> bool:
        pieces = commit.base_name.split(".")
        return len(pieces) < 2 or pieces[-2] not in commit.subject

    return (
        keeping(
            "A1-old-size",
            "the old file has fewer than 50,000 characters",
            lambda commit: len(commit.old_contents) < 50_000,
        ),
        keeping(
            "A2-new-not-empty",
            "the new file is not empty; the old one may be",
            lambda commit: len(commit.new_contents) > 0,
        ),
        keeping(
            "A3-real-change",
            "the two files differ",
            lambda commit: commit.old_contents != commit.new_contents,
        ),
        keeping("A4-hash-sign", "the subject has no #", lambda commit: "#" not in commit.subject),
        keeping(
            "A5-extension",
            "the new file has an extension, and one of its language's where those are listed"
            + (
                ""
                if mended
                else "; compared without its dot, so of the listed languages only shell is kept"
            ),
            has_extension,
        ),
        keeping(
            "A6-file-name",
            "the second-to-last piece between dots of the file's name is not in the subject, "
            "case counts; a name without a dot is kept",
            is_not_told,
        ),
    )


def token_rule(n_tokens: Callable[[str], int], end_of_text: str) -> Rule[Commit]:
    """A11."""

    def fits(commit: Commit) -> bool:
        return 50 <= n_tokens(commit.old_contents + end_of_text + commit.new_contents) <= 768

    return keeping(
        "A11-tokens", "old file, end-of-text marker and new file are 50 to 768 tokens", fits
    )
