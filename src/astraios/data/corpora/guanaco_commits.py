"""What the study's models were tuned on: 8,587 conversations of OASST and 5,000 commits.

`bigcode/guanaco-commits` of the hub: 12,958 rows of training and 629 of validation. The files
`guanaco-commits/train.jsonl` and `test.jsonl` (.gz, .parquet) of a data folder come first.
"""

from __future__ import annotations

from pathlib import Path
from typing import final

from astraios.data.hubrows import hub_rows
from astraios.data.rowcorpus import Parts, RowCorpus, files_of

HUB_NAME = "bigcode/guanaco-commits"


@final
class GuanacoCommits(RowCorpus):
    """Columns `prompt` and `completion`; the split `test` is for validation."""

    name = "guanaco-commits"
    title = "OASST conversations and commits, the study's mix"
    licence = "Apache-2.0 (conversations); each commit has its project's licence"

    def parts(self, data_dir: Path | None) -> Parts:
        folder = data_dir / self.name if data_dir else None
        if folder and folder.is_dir() and (train := files_of(folder, "train")):
            return Parts(train, files_of(folder, "test") or files_of(folder, "validation"))
        return Parts(
            (hub_rows(f"hub:{HUB_NAME}/train"),),
            (hub_rows(f"hub:{HUB_NAME}/test"),),
        )


corpus = GuanacoCommits()
