"""A commit that changes one file, as CommitPack has it a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from astraios.data.rules._rows import texts
from astraios.errors import DataError

_TEXTS = (  # in the order of the fields
    "commit", "old_file", "new_file", "old_contents", "new_contents", "subject", "message", "lang",
    "license", "repos",
)  # fmt: skip


@dataclass(frozen=True)
class Commit:
    """One row of CommitPack."""

    commit: str
    """Hash of the commit."""
    old_file: str
    new_file: str
    """Path in the repository, with slashes."""
    old_contents: str
    """The whole file before; empty where the commit creates it."""
    new_contents: str
    subject: str
    """First line of the message."""
    message: str
    lang: str
    license: str
    """The repository's; `none` where the row has null."""
    repos: str
    """`owner/name` of every repository that has the commit, with commas between."""
    n_files: int = field(default=1, kw_only=True)
    """Files the commit changes, where the row has a column of this name."""

    @classmethod
    def of(cls, row: Mapping[str, Any], place: str) -> Commit:
        """The commit in a raw row; other columns are left alone.

        Raises:
            DataError: names the place, the columns that are missing and those that are there.
        """
        known = {**row, "license": "none"} if row.get("license", "") is None else row
        values = texts(known, _TEXTS, "commit", place)
        n_files = row.get("n_files", 1)
        if not isinstance(n_files, int) or isinstance(n_files, bool):
            raise DataError(
                f"{place}: column 'n_files' is {type(n_files).__name__}, expected a whole number"
            )
        if not row["commit"].strip():
            raise DataError(f"{place}: column 'commit' is empty; the record's id is made of it")
        return cls(*values, n_files=n_files)

    @property
    def base_name(self) -> str:
        """Name of the new file without its folders."""
        return self.new_file.rpartition("/")[2]

    @property
    def owners(self) -> tuple[str, ...]:
        """Owner of each repository, in the order of `repos`."""
        named = (repo.strip() for repo in self.repos.split(","))
        return tuple(repo.partition("/")[0] for repo in named if repo)
