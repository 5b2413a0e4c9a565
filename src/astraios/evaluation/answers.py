"""The completions of a run as answers: one problem at a time, in order, texts left on disk.

Engines write samples in the order they finish, and a task may take several turns. Judging wants
all answers of one problem together. So the sample files are read once for their keys, and a text is
read again when its answer is asked for: memory holds 40 bytes a sample, however long the texts.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from astraios.errors import DataError, MissingDataError
from astraios.records import Finish, Sample

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """What a model said to one problem, once."""

    problem_id: str
    index: int
    turns: tuple[str, ...]
    """Completions, first turn first."""
    final: bool
    """Whether the last one is a final text: imported, prompt in front, judged as it stands."""
    likelihoods: Mapping[str, float] | None = None
    """Log-likelihoods of the first prompt's answers, where the engine gave them."""
    fault: str | None = None
    """Why the engine did not answer one of the turns; None where it answered all that were asked.
    No turn follows one that is a fault."""


class Answers:
    """The answers in the `samples*.jsonl` files of a folder."""

    def __init__(
        self, folder: Path, problem_ids: Sequence[str], *, limit_samples: int | None = None
    ) -> None:
        """Read the keys; samples of problems that are not in `problem_ids` are left out.

        Args:
            folder: the run that generated them, or any folder with such files.
            problem_ids: the problems that are judged.
            limit_samples: take only the first so many answers of each problem.

        Raises:
            MissingDataError: if there are no sample files.
            DataError: on a line that is no sample, or a sample that is there twice.
        """
        self._paths = [
            *sorted(folder.glob("samples.jsonl")),
            *sorted(folder.glob("samples-*.jsonl")),
        ]
        if not self._paths:
            raise MissingDataError(
                f"{str(folder)!r} holds no samples.jsonl; give the folder of a generation run"
            )
        self._places = {name: place for place, name in enumerate(problem_ids)}
        self._ids = tuple(problem_ids)
        self.n_left_out = 0
        """Samples of other problems."""
        keys, where = self._read_keys()
        order = np.lexsort((keys[2], keys[1], keys[0]))
        self._keys, self._where = keys[:, order], where[:, order]
        self._refuse_twins()
        self._starts = np.searchsorted(self._keys[0], np.arange(len(self._ids) + 1))
        self._limit = limit_samples
        self.counts = tuple(self._count(place) for place in range(len(self._ids)))
        """Answers of each problem, in the order of `problem_ids`."""

    def __len__(self) -> int:
        return sum(self.counts)

    def of(self, problem_id: str) -> Iterator[Answer]:
        """The answers to one problem, by index."""
        for samples in self.samples_of(problem_id):
            yield self._answer(samples)

    def samples_of(self, problem_id: str) -> Iterator[list[Sample]]:
        """The samples of one problem: for each index its turns, in order."""
        place = self._places[problem_id]
        rows = range(int(self._starts[place]), int(self._starts[place + 1]))
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")) for path in self._paths]
            samples: list[Sample] = []
            n_given = 0
            for row in rows:
                sample = self._sample(files, row)
                if samples and samples[0].index != sample.index:
                    yield samples
                    samples = []
                    n_given += 1
                if n_given == self._limit:
                    return
                samples.append(sample)
            if samples:
                yield samples

    def _read_keys(self) -> tuple[Integers, Integers]:
        keys = [array("q"), array("q"), array("q")]  # place of the problem, index, turn
        where = [array("q"), array("q")]  # file, byte
        for number, path in enumerate(self._paths):
            with path.open("rb") as lines:
                at = 0
                for n, line in enumerate(lines, 1):
                    if line.endswith(b"\n"):  # else torn by a kill
                        sample = _parse(line, f"{path}:{n}")
                        place = self._places.get(sample.problem_id)
                        self.n_left_out += place is None
                        if place is not None:
                            for column, value in zip(
                                keys, (place, sample.index, sample.turn), strict=True
                            ):
                                column.append(value)
                            where[0].append(number)
                            where[1].append(at)
                    at += len(line)
        return _columns(keys), _columns(where)

    def _refuse_twins(self) -> None:
        twins = np.flatnonzero((self._keys[:, 1:] == self._keys[:, :-1]).all(axis=0))
        if len(twins):
            place, index, turn = (int(value) for value in self._keys[:, twins[0]])
            raise DataError(
                f"{str(self._paths[0].parent)!r}: sample {index}, turn {turn} of problem "
                f"{self._ids[place]!r} is there twice; remove one of the two lines"
            )

    def _count(self, place: int) -> int:
        indexes = self._keys[1, self._starts[place] : self._starts[place + 1]]
        n = len(np.unique(indexes))
        return n if self._limit is None else min(n, self._limit)

    def _sample(self, files: Sequence[BinaryIO], row: int) -> Sample:
        number, at = (int(value) for value in self._where[:, row])
        files[number].seek(at)
        return _parse(files[number].readline(), f"{self._paths[number]} at byte {at}")

    def _answer(self, samples: Sequence[Sample]) -> Answer:
        first, last = samples[0], samples[-1]
        final = last.finish is Finish.GIVEN
        if not final and [sample.turn for sample in samples] != list(range(len(samples))):
            raise DataError(
                f"{str(self._paths[0].parent)!r}: sample {first.index} of problem "
                f"{first.problem_id!r} has turns {[sample.turn for sample in samples]}; "
                "an earlier one is missing: complete the run that generates"
            )
        turns = tuple(sample.completion for sample in samples)
        faults = (sample for sample in samples if sample.finish is Finish.FAULT)
        fault = next((sample.fault or "the engine gave no answer" for sample in faults), None)
        return Answer(first.problem_id, first.index, turns, final, first.likelihoods, fault)


def _columns(arrays: Sequence[array[int]]) -> Integers:
    return np.stack([np.array(column, dtype=np.int64) for column in arrays])


def _parse(line: bytes, where: str) -> Sample:
    try:
        sample = Sample.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{where}: not a sample ({field + ': ' if field else ''}{first['msg']}); "
            "the file was changed by hand; remove the line to have it made again"
        ) from None
    if not (0 <= sample.index < 2**31 and 0 <= sample.turn < 2**31):
        raise DataError(f"{where}: sample {sample.index}, turn {sample.turn}: counted from 0")
    return sample
