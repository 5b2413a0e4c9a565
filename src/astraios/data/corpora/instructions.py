"""Instruction records of a data folder: `instructions/train.jsonl.gz` and `validation.jsonl.gz`.

Rows have `prompt` and `completion`; `id`, `source` and `language` are taken where they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import final

from astraios.data.rowcorpus import Parts, RowCorpus, files_of
from astraios.errors import MissingDataError


@final
class Instructions(RowCorpus):
    """Whatever training records a data folder holds."""

    name = "instructions"
    title = "instruction records of the data folder"
    licence = "as the data folder's page says"

    def parts(self, data_dir: Path | None) -> Parts:
        if data_dir is None:
            raise MissingDataError(
                "corpus 'instructions' is read from a data folder; name it with --data-dir or "
                "ASTRAIOS_DATA"
            )
        folder = data_dir / self.name
        train = files_of(folder, "train") if folder.is_dir() else ()
        if not train:
            raise MissingDataError(
                f"corpus 'instructions': no rows; looked for {str(folder / 'train.jsonl.gz')!r} "
                "(and .jsonl, .parquet), an object with prompt and completion a line"
            )
        return Parts(train, files_of(folder, "validation"))


corpus = Instructions()
