"""S1 to S5: which commits CommitPack was collected from."""

from __future__ import annotations

from collections.abc import Collection

from astraios.data.rules import Rule, keeping
from astraios.data.rules._commit import Commit
from astraios.data.rules._words import words
from astraios.data.rules.licences import licence_rule


def source_rules(
    preset: str, licences: Collection[str], opted_out: Collection[str]
) -> tuple[Rule[Commit], ...]:
    """Licence, message, number of files, owner."""
    published = preset == "published"
    noise = frozenset(words("noise_messages"))
    owners = frozenset(opted_out if published else (name.casefold() for name in opted_out))

    def speaks(commit: Commit) -> bool:
        message = commit.message.lower()
        if not published:
            message = message.strip()
        return message not in noise and not message.startswith("merge")

    def may_be_used(commit: Commit) -> bool:
        if published:
            # the script asks the owner only where no fork holds the same commit
            return len(commit.owners) != 1 or commit.owners[0] not in owners
        return owners.isdisjoint(owner.casefold() for owner in commit.owners)

    return (
        licence_rule(licences),
        keeping(
            "S2-message-length",
            "the message has more than 5 and fewer than 10,000 characters",
            lambda commit: 5 < len(commit.message) < 10_000,
        ),
        keeping(
            "S3-noise-message",
            "the message is none of words/noise_messages.txt and does not begin with merge"
            + (", ignoring case" if published else ", ignoring case and space around it"),
            speaks,
        ),
        keeping(
            "S4-one-file",
            "the commit changes one file, as far as the row tells: by its column n_files, if any, "
            "and by a file name of one line",
            lambda commit: commit.n_files == 1 and "\n" not in commit.new_file.strip("\n"),
        ),
        keeping(
            "S5-opted-out",
            "the only repository's owner has not opted out; commits in several are kept"
            if published
            else "no repository that has the commit is of an owner who has opted out",
            may_be_used,
        ),
    )
