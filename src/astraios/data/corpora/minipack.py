"""Endless tuning examples of minipack: write a function, or mend one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import final

from astraios.data import Corpus
from astraios.errors import DataError
from astraios.minipack.documents import tuning_examples
from astraios.minipack.problems import Part
from astraios.records import InstructionRecord


@final
class Minipack(Corpus):
    """Generated on the fly; nothing is read."""

    name = "minipack"
    title = "minipack instructions"
    licence = "MIT"

    def records(self, split: str, seed: int, data_dir: Path | None) -> Iterator[InstructionRecord]:
        if split not in (Part.TRAIN, Part.VALIDATION):
            raise DataError(f"corpus 'minipack' has splits train and validation, not {split!r}")
        for name, instruction, opening, response in tuning_examples(Part(split), seed):
            yield InstructionRecord(
                id=name,
                instruction=instruction,
                opening=opening,
                response=response,
                source=self.name,
                language="python",
            )


corpus = Minipack()
