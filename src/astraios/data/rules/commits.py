"""Commits: CommitPack's rows, the filters that made CommitPackFT of them, and the joining.

The rules run in the order of their names: S1 to S5 choose the commits, A1 to A14 want a subject
that reads like an instruction, B1 to B14 drop talk. The filters are the original's (OctoPack,
Muennighoff et al. 2023, arXiv:2308.07124, appendix D; the scripts of bigcode-project/octopack).

What `mended` mends:

- A5 compares extensions with extensions; published, all listed languages but shell are dropped.
- A8 goes on until nothing is left to clean, and keeps the verb of `Fix: a leak`. It takes
  [ci skip] out too; published, B3 does so after A9, and a second run can drop what is left.
- B11 wants whole words; published, "wipe" is dropped as "wip".
- S3 looks past space around a message, S5 at the owner of every repository, ignoring case.

In both, B4 draws by a hash, as a generator without a seed cannot be followed. The exact half of A13
and A14 can fire only where A12 is switched off, and stay for that. The verbs of A12 are Astraios's
own list, wider than the original's; `verbs` takes another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from astraios.data.rules import Rule, checked_preset
from astraios.data.rules._commit import Commit
from astraios.data.rules._commit_files import file_rules, token_rule
from astraios.data.rules._commit_source import source_rules
from astraios.data.rules._subject_talk import talk_rules
from astraios.data.rules._subjects import (
    capital_rule,
    clean_rule,
    length_rule,
    noise_rules,
    verb_rule,
)
from astraios.data.rules._words import words
from astraios.data.rules.licences import PERMISSIVE, PUBLISHED
from astraios.errors import ConfigError
from astraios.records import InstructionRecord

__all__ = ["Commit", "commit_rules", "joined"]


def commit_rules(
    preset: str = "mended",
    *,
    seed: int,
    n_tokens: Callable[[str], int],
    end_of_text: str,
    licences: Collection[str] | None = None,
    opted_out: Collection[str] = (),
    verbs: Collection[str] | None = None,
) -> tuple[Rule[Commit], ...]:
    """S1 to S5, A1 to A14 and B1 to B14.

    Args:
        preset: one of `PRESETS`.
        seed: draws the commits that B4 keeps.
        n_tokens: tokens of a text, for A11; the original's is StarCoder's tokenizer.
        end_of_text: that tokenizer's marker between two documents.
        licences: allowed names; None: the permissive ones, or for `published` CommitPack's.
        opted_out: owners of repositories who want no part in it.
        verbs: openings for A12 in lower case; None: `words/verbs.txt`.

    Raises:
        UnknownNameError: if there is no such preset.
        ConfigError: if `licences` or `verbs` is empty.
    """
    checked_preset(preset)
    if licences is None:
        licences = PERMISSIVE if preset == "mended" else PUBLISHED
    if verbs is None:
        verbs = words("verbs")
    if not verbs:
        raise ConfigError(
            "verbs: the list is empty, so A12 would keep no commit; "
            "give some, or switch A12-verb off"
        )
    return (
        *source_rules(preset, licences, opted_out),
        *file_rules(preset),
        length_rule("A7-length", "the subject"),
        clean_rule(preset, verbs),
        length_rule("A9-length-again", "the cleaned subject"),
        capital_rule(),
        token_rule(n_tokens, end_of_text),
        verb_rule(verbs),
        *noise_rules(),
        *talk_rules(preset, seed),
    )


def joined(commit: Commit) -> InstructionRecord:
    """The subject and the old file ask for the new file."""
    return InstructionRecord(
        id=f"{commit.commit}:{commit.new_file}",
        instruction=f"{commit.subject}\n{commit.old_contents}",
        response=commit.new_contents,
        source="commits",
        language=commit.lang.lower() or None,
    )
